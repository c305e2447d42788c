/* Rates: what was measured of a machine, and what follows for a pass.
 *
 * A machine is four things to the scheduler: a disk (rate over chunk size and reads in
 * flight), a link, the time a block takes over the tokens in a pass and the context they look
 * back on, and the host's turn between passes. They are measured (the disk and the link here,
 * compute by whoever knows what a layer computes), kept by somebody else, or invented.
 *
 * Times are double nanoseconds, rates bytes per nanosecond: GB/s. */
#ifndef HR_SCHEDULER_RATES_H
#define HR_SCHEDULER_RATES_H

#include "io/reader.h"
#include "kernels/device/device.h"
#include "scheduler/plan.h"
#include "scheduler/simulate.h"

#define HR_RATES_MAX_DISK    24
#define HR_RATES_MAX_COMPUTE 16
#define HR_RATES_MAX_HEAD    4

struct hr_disk_point {
	uint64_t chunk_bytes;
	int      depth;
	double   rate;
};

struct hr_compute_point { /* ascending by n_tokens */
	int    n_tokens;
	double block_ns;   /* of one block, without looking back */
	double between_ns; /* from the last layer to the next pass */
};

struct hr_head_point { /* ascending by n_outputs */
	int    n_outputs;
	double ns; /* of the whole head */
};

struct hr_rates {
	struct hr_disk_point    disk[HR_RATES_MAX_DISK];
	int                     n_disk;
	double                  link_rate, link_latency_ns; /* 0: no link */
	struct hr_compute_point compute[HR_RATES_MAX_COMPUTE];
	int                     n_compute;
	struct hr_head_point    head[HR_RATES_MAX_HEAD];
	int                     n_head;
	double                  block_bytes; /* of the block that took block_ns; others in proportion */
	/* Of one block, for each token and each position it looks back on: one token of a sequence
	 * alone, and many together. */
	double context_ns_decode, context_ns_prefill;
};

/* What one pass is to compute. */
struct hr_workload {
	int    n_tokens, n_seqs, n_outputs;
	double context_tokens; /* positions that a token looks back on, on average */
};

double hr_rates_disk(const struct hr_rates *rates, uint64_t chunk_bytes, int depth);
double hr_rates_disk_latency_ns(const struct hr_rates *rates, uint64_t chunk_bytes, int depth);
double hr_rates_block_ns(const struct hr_rates *rates, const struct hr_workload *work, uint64_t block_bytes);
double hr_rates_head_ns(const struct hr_rates *rates, int n_outputs);

/* What a plan is compared by. */
struct hr_cost {
	const struct hr_rates *rates;
	struct hr_workload     work;
	uint64_t               max_disk_rate; /* bytes per second; 0: none */
};

/* The ceiling alone, as hr_sim_ceiling(): next to nothing for what hr_predict_pass() costs. HR_ENOMEM. */
int hr_predict_ceiling(struct hr_sim_result *result, const struct hr_plan_request *request,
                       const struct hr_placement *plan, const struct hr_cost *cost, struct hr_error *err);

/* One pass of `work` under `plan`, which was made for `request`. As hr_simulate(), but a span's layer is a
 * block, whichever piece of it, or n_blocks + p for part p of the head. */
int hr_predict_pass(struct hr_sim_result *result, const struct hr_plan_request *request,
                    const struct hr_placement *plan, const struct hr_cost *cost, hr_sim_span_fn on_span,
                    void *user, struct hr_error *err);

/* Fill in the disk, by reading `file` with readers of `kind` for at most about `seconds`.
 * Blocks; HR_ENOMEM, or the reader's error. */
int hr_rates_measure_disk(struct hr_rates *rates, const struct hr_file *file, enum hr_reader_kind kind,
                          double seconds, struct hr_error *err);

/* Fill in the link of a device that the host cannot address. Blocks for a fraction of a second. */
int hr_rates_measure_link(struct hr_rates *rates, struct hr_device *device, struct hr_error *err);

#endif
