/* Places in the slots; see ring.h. */
#include "scheduler/ring.h"

void hr_ring_init(struct hr_ring *ring, int slots, uint64_t slot_bytes, uint64_t smallest)
{
	uint64_t in_slot = slot_bytes / smallest;
	uint64_t n = (uint64_t)slots * (in_slot < HR_RING_MAX_PLACES ? in_slot : HR_RING_MAX_PLACES);
	*ring = (struct hr_ring){.slot_bytes = slot_bytes,
	                         .slots = slots,
	                         .n_places = n < HR_RING_MAX_PLACES ? (int)n : HR_RING_MAX_PLACES};
}

uint64_t hr_ring_place(struct hr_ring *ring, uint64_t bytes)
{
	uint64_t n = (uint64_t)ring->n_places, use = ring->n_uses++;
	uint64_t begin = use ? ring->spans[(use - 1) % n].end : 0;
	if (begin + bytes > (uint64_t)(ring->slot + 1) * ring->slot_bytes) {
		ring->slot = ring->slot + 1 < ring->slots ? ring->slot + 1 : 0;
		begin = (uint64_t)ring->slot * ring->slot_bytes;
	}
	if (use >= n && ring->n_over < use - n + 1)
		ring->n_over = use - n + 1; /* its place is taken over, too */
	for (uint64_t k = ring->n_over; k < use; k++)
		if (ring->spans[k % n].begin < begin + bytes && begin < ring->spans[k % n].end)
			ring->n_over = k + 1;
	ring->spans[use % n].begin = begin;
	ring->spans[use % n].end = begin + bytes;
	return begin;
}
