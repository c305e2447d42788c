/* Where the uses of streamed layers lie in the slots.
 *
 * A use begins where the one before it ends if there is room for it in the rest of that
 * slot, else at the beginning of the next slot, round and round. So a slot holds one
 * block or piece of a block, or as many small ones as fit, and none lies across two slots.
 *
 * Uses are over in the order in which they were placed, since layers are used in a fixed
 * order. What a new use waits for is therefore a number: of the uses that must be over. */
#ifndef HR_SCHEDULER_RING_H
#define HR_SCHEDULER_RING_H

#include <stdint.h>

#define HR_RING_MAX_PLACES 64

struct hr_ring {
	uint64_t slot_bytes;
	int      slots;
	int      n_places; /* uses that may lie in the slots at a time; at most HR_RING_MAX_PLACES */
	int      slot;     /* of the newest use */
	uint64_t n_uses;   /* placed so far */
	uint64_t n_over;   /* of them, the first ones, which are known to be over */
	struct {
		uint64_t begin, end;
	} spans[HR_RING_MAX_PLACES]; /* of use k: [k % n_places] */
};

/* `smallest`: bytes of the smallest layer that will be placed, > 0; none is larger than slot_bytes. */
void hr_ring_init(struct hr_ring *ring, int slots, uint64_t slot_bytes, uint64_t smallest);

/* Place the next use, of 0 < bytes <= slot_bytes; returns its offset in the slots. It may be filled
 * when the first ring->n_over uses are over. */
uint64_t hr_ring_place(struct hr_ring *ring, uint64_t bytes);

#endif
