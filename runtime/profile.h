/* Profiles: what the tuner found for a machine and a model, used by later runs. */
#ifndef HR_RUNTIME_PROFILE_H
#define HR_RUNTIME_PROFILE_H

#include "runtime/model.h"

struct hr_profile {
	int      slots, read_depth, n_threads, n_trials;
	uint64_t chunk_bytes;
	int      staging_buffers; /* 0: not tuned */
	int      n_seqs, n_batch; /* at a time; 0: not tuned */
	/* The budget that the slots were tuned for, as it was given; 0, HR_AUTO: none. */
	uint64_t device_memory_bytes;
	int      window_layers, resident_layers;
	char     reader[8]; /* "uring", "pread" */
	char     date[16];  /* "2026-11-21" */
	double   tps;
};

/* HR_EIO; what was there stays. */
int hr__profile_store(const struct hr_profile *profile, const struct hr_model *model,
                      const struct hr_plan_options *options, struct hr_error *err);

/* Fill in what `options` leave open from the profile in options->cache_dir, if there is one for this
 * machine. `words` says what was used; empty: nothing. A profile that is broken or of another machine
 * is a notice to options->on_notice, and not used. */
void hr__profile_apply(struct hr_plan_options *options, const struct hr_model *model, char words[160]);

#endif
