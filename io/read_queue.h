/* What the io_uring and the pread reader have in common: the queue of reads,
 * their division into pieces, and the account of what became of each piece.
 * See read_queue.c. A reader embeds the queue as its first member, puts the
 * functions marked "ops" into its table, and moves pieces:
 *
 *     hr__read_queue_next()      a piece to be read
 *     ... one I/O of the kernel ...
 *     hr__read_queue_complete()  what came of it; true: read on, the piece is shorter now
 */
#ifndef HR_IO_READ_QUEUE_H
#define HR_IO_READ_QUEUE_H

#include "io/reader.h"

#include <pthread.h>

/* One I/O: at most chunk_bytes of one read, on the HR_IO_ALIGN grid. */
struct hr__piece {
	struct hr_read *read;
	int             fd;
	uint64_t        offset;
	char           *dst;
	uint32_t        bytes;
	uint32_t        short_bytes; /* that a short read left of the first block */
	uint32_t        retries;     /* since the last progress */
};

struct hr__read_queue {
	struct hr_reader reader; /* first: what the ops are called with */

	/* Wake one taker; called with the lock held, when one sleeps and there is work. */
	void (*wake)(struct hr__read_queue *queue);

	pthread_mutex_t        lock;        /* of all that follows */
	struct hr_read        *head, *tail; /* not yet issued in full, oldest first */
	int                    sleepers;    /* takers that found nothing to do and were not woken since */
	int                    n_draining;
	bool                   stopping;
	uint64_t               n_open;  /* submitted, and `done` has not returned */
	uint64_t               n_begun; /* of these: issued in part or in full, not over */
	uint64_t               busy_since_ns;
	struct hr_reader_stats stats;
	pthread_cond_t         idle; /* n_open became 0 */
};

int  hr__read_queue_init(struct hr__read_queue *queue, struct hr_error *err);
void hr__read_queue_release(struct hr__read_queue *queue);

/* ops */
void hr__read_queue_submit(struct hr_reader *reader, struct hr_read *read);
void hr__read_queue_drain(struct hr_reader *reader);
void hr__read_queue_stats(struct hr_reader *reader, struct hr_reader_stats *out);

/* The next piece: 1; nothing to do: 0, the taker counts as asleep until woken;
 * 0 does not happen when `wait` is given: then this blocks on it until there is
 * work. -1: the queue was stopped. Calls `done` of reads that are canceled. */
int hr__read_queue_next(struct hr__read_queue *queue, struct hr__piece *piece, pthread_cond_t *wait);

/* `result`: bytes read or -errno. True: *piece was adapted and must be issued
 * again. False: it is over; if it was the last of its read, `done` was called. */
bool hr__read_queue_complete(struct hr__read_queue *queue, struct hr__piece *piece, int64_t result);

/* Make every taker return -1; after a drain. The reader wakes them itself. */
void hr__read_queue_stop(struct hr__read_queue *queue);

/* The readers behind hr_reader_open(), which has checked and completed the options. */
int hr__reader_uring_open(struct hr_reader **out, const struct hr_reader_options *options,
                          struct hr_error *err);
int hr__reader_pread_open(struct hr_reader **out, const struct hr_reader_options *options,
                          struct hr_error *err);
/* Takes `inner` over; closes it when it fails. */
int hr__reader_throttle_open(struct hr_reader **out, struct hr_reader *inner, uint64_t bytes_per_second,
                             struct hr_error *err);

#endif
