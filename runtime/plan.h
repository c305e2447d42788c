/* The public plan: the scheduler's placement with the model's names and needs. */
#ifndef HR_RUNTIME_PLAN_H
#define HR_RUNTIME_PLAN_H

#include "runtime/backend.h"
#include "runtime/model.h"
#include "scheduler/plan.h"
#include "scheduler/rates.h"

struct hr_plan {
	const struct hr_model *model; /* borrowed */
	struct hr_placement    placement;
	struct hr_plan_info    info;
	char                   device[16];
	char                   device_name[128];
	char                   notices[16][1000]; /* fallbacks, as sentences */
	bool                   told;              /* the user knows those up to now */
	enum hr_kv_type        kv_type;
	int                    page_tokens;
	int                    n_pass;      /* tokens of one pass; of an encoder in chunks of n_batch */
	int                    max_outputs; /* logits rows of one pass */
	int                    wanted_seqs; /* what was asked for, or the default; info.n_seqs may be fewer */
	bool                   random_head; /* there is no trained one, and that is fine */

	/* What predictions are made from; info.rates is NULL when there are none. */
	struct hr_plan_request request; /* without its map */
	struct hr_rates        rates;
	struct hr_cost         cost;
	char                   rates_name[96];
	char                   profile[160]; /* info.profile */
};

/* Plan for a backend that is open. `rates`: of its device with this model; NULL: nothing was measured. */
int hr__plan_new(struct hr_plan **out, const struct hr_model *model, const struct hr_plan_options *options,
                 const struct hr_backend *backend, const struct hr_rates *rates, struct hr_error *err);

/* The passes that a plan is judged by; and what it says of them. HR_EUNSUPPORTED: no rates. */
struct hr_workload hr__plan_decode_work(const struct hr_plan_info *info);
struct hr_workload hr__plan_prefill_work(const struct hr_plan_info *info);
int                hr__plan_predict(struct hr_plan *plan, struct hr_error *err);

/* What hr__profile_apply() said of the options that the plan was made with. */
void hr__plan_name_profile(struct hr_plan *plan, const char *words);

/* Put the defaults in place of what `o` leaves open: context, sequences, batch. */
void hr__plan_settle_needs(struct hr_plan_options *o, const struct hr_model *model);

/* Keep a sentence among the plan's fallbacks. The sink of `options` is told once the plan
 * is one that holds: by hr__plan_tell(), and of later ones at once. */
void hr__plan_tell(struct hr_plan *plan, const struct hr_plan_options *options);
void hr__plan_note(struct hr_plan *plan, const struct hr_plan_options *options, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* A device map in JSON, {"model.layers.0": 0 | "cpu" | "disk", ...}, as tiers: one per
 * block, then embedding, then head. A key also covers all modules below it. */
int hr__device_map_parse(enum hr_tier *tiers, int n_blocks, const char *json, bool host_addressable,
                         struct hr_error *err);

#endif
