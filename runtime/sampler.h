/* Chooses a token from logits. */
#ifndef HR_RUNTIME_SAMPLER_H
#define HR_RUNTIME_SAMPLER_H

#include "headrace/headrace.h"
#include "kernels/ops.h"

struct hr_sampler {
	struct hr_sampling   options;
	uint64_t             rng;    /* splitmix64 state */
	int32_t             *recent; /* ring of the last repeat_last_n tokens */
	int                  n_recent, recent_at;
	struct hr_candidate *candidates; /* [n_vocab] scratch; NULL while greedy without penalty */
	int                  n_vocab;
};

/* HR_EINVAL names the setting that is out of range. */
int  hr__sampling_check(const struct hr_sampling *s, struct hr_error *err);
int  hr__sampler_init(struct hr_sampler *s, const struct hr_sampling *options, int n_vocab);
void hr__sampler_release(struct hr_sampler *s); /* a zeroed struct is fine */

/* Remember a token for the repetition penalty. */
void hr__sampler_accept(struct hr_sampler *s, int32_t token);

/* The next token for logits[n_vocab]; the logits are not changed. Ties go to the lower id. */
int32_t hr__sampler_pick(struct hr_sampler *s, const float *logits);

/* How many of the largest logits are enough to pick from; 0: all are needed. */
int hr__sampler_top(const struct hr_sampler *s);
/* The same pick from those, in the order of hr_ops_table.top. */
int32_t hr__sampler_pick_top(struct hr_sampler *s, const struct hr_top *top);

#endif
