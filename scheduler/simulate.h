/* A pass, predicted: the pipeline of window.c in numbers instead of bytes.
 *
 * The simulator knows what a window knows (layers with bytes and tiers, slots,
 * staging, chunks, reads in flight) and, in place of a reader, a device and kernels, how
 * long each of their steps takes. It gives the time of one pass in the steady state, in
 * which the end of a pass is nothing special, and where that time goes. Any machine can be
 * described to it, also one that nobody here has.
 *
 * Times are double nanoseconds, rates are bytes per nanosecond: GB/s. */
#ifndef HR_SCHEDULER_SIMULATE_H
#define HR_SCHEDULER_SIMULATE_H

#include "headrace/error.h"
#include "scheduler/layer.h"
#include "scheduler/trace.h"

#include <stdbool.h>

struct hr_sim_layer {
	uint64_t     bytes; /* as they travel */
	double       compute_ns;
	enum hr_tier tier;
};

struct hr_sim_pipeline {
	/* As the plan says. */
	bool     host_addressable; /* reads land in the slot; there is no link */
	int      slots, staging_buffers, read_depth;
	uint64_t slot_bytes; /* >= those of every streamed layer */
	size_t   chunk_bytes;

	/* As the machine is. A read first waits for its latency, together with the others in
	 * flight, and then for its turn at the rate; so does a copy. */
	double disk_rate, disk_latency_ns;
	double link_rate, link_latency_ns; /* unused when host_addressable */
	double between_ns; /* from the last layer of a pass to the first of the next: the host's turn */
};

struct hr_sim_span {
	enum hr_lane lane;
	int          layer;
	double       begin_ns, end_ns; /* since the pass began; reads ahead began before */
	uint64_t     bytes;            /* of the chunk, or of the layer that is computed */
};
typedef void (*hr_sim_span_fn)(void *user, const struct hr_sim_span *span);

struct hr_sim_result {
	double       pass_ns;
	double       disk_ns, link_ns, compute_ns; /* of one pass: what each would take alone */
	double       stall_ns;                     /* compute idle, waiting for weights */
	double       ceiling_ns;                   /* the largest of disk, link and compute */
	enum hr_lane bound;                        /* which of them that is */
};

/* What each worker of a pass would take alone, without simulating it: all of the result but pass_ns and
 * stall_ns. No pass is shorter than the ceiling. */
void hr_sim_ceiling(struct hr_sim_result *result, const struct hr_sim_pipeline *pipeline,
                    const struct hr_sim_layer *layers, int n_layers);

/* Simulate passes through layers[n_layers] until they take the same time. `on_span`: NULL, or
 * called for everything that happens for the last of them. HR_EINVAL: a streamed layer
 * without a slot that it fits in, a rate that is not above zero. HR_ENOMEM. */
int hr_simulate(struct hr_sim_result *result, const struct hr_sim_pipeline *pipeline,
                const struct hr_sim_layer *layers, int n_layers, hr_sim_span_fn on_span, void *user,
                struct hr_error *err);

#endif
