/* A meter learns how long stretches of work on one stream took. Each stretch is
 * put between two events; the times are looked up when the events are complete,
 * so that measuring never waits for the stream (but see begin). */
#ifndef HR_SCHEDULER_METER_H
#define HR_SCHEDULER_METER_H

#include "kernels/device/device.h"
#include "scheduler/trace.h"

#include <pthread.h>

struct hr__stretch {
	struct hr_event *begin, *end;
	const char      *name;     /* borrowed */
	uint64_t         asked_ns; /* when the host asked for it; 0: its delay is no stall */
	uint64_t         bytes;
};

struct hr__meter {
	struct hr_device   *device;
	struct hr_stream   *stream;
	struct hr_trace    *trace;
	enum hr_lane        lane;
	bool                open; /* begun, not ended; the owner's thread only */
	uint64_t            mark; /* of the open stretch */
	struct hr__stretch *ring;
	uint64_t            n_ring;
	pthread_mutex_t     mutex;               /* protects all that follows; a leaf in the lock order */
	uint64_t            n_closed, n_counted; /* stretches ended, and looked up, so far */
	uint64_t            bytes, busy_ns, stall_ns;
	uint64_t            last_end_ns;
};

struct hr__meter_totals { /* of the stretches that have ended */
	uint64_t bytes;
	uint64_t busy_ns;  /* the stretches themselves */
	uint64_t stall_ns; /* asked for, the stream idle, and not yet begun */
};

int  hr__meter_init(struct hr__meter *m, struct hr_device *device, struct hr_stream *stream,
                    struct hr_trace *trace, enum hr_lane lane, int n_ring, struct hr_error *err);
void hr__meter_release(struct hr__meter *m); /* a zeroed struct is fine */

/* Begin and end come from one thread. A stretch that was not ended when the next begins
 * does not count. Begin waits for the oldest stretch only when n_ring are
 * under way. 0 or HR_EDEVICE. */
int hr__meter_begin(struct hr__meter *m, const char *name, uint64_t asked_ns, uint64_t bytes);
int hr__meter_end(struct hr__meter *m);

/* Any thread. */
void hr__meter_read(struct hr__meter *m, struct hr__meter_totals *out);

#endif
