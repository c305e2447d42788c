/* Plans compared by the time that the simulator gives them.
 *
 * The planner's choice by bytes is the first guess. From there one thing after the other is
 * varied: the chunks and depths that were measured, the slots that a ring can have, how many blocks are
 * resident and how many cut; and what is predicted to be quicker is kept.
 *
 * Plans are compared by the sum of two simulated times: a generating pass on the machine as it was
 * measured, and a quarter of the same pass on a balanced machine, whose computing is slowed down or sped
 * up until it takes as long as bringing the weights of the first guess. Where one of the two takes much
 * longer, only bytes matter; where they are equal, a plan must keep both busy all the time, which equal
 * parts of all blocks do better than some whole ones. Larger batches, longer contexts and other drives
 * bring most machines near that balance.
 *
 * Two kinds of plans are preferred where they make these passes longer by no more than noise does: those of
 * whole blocks, which are simpler, and those with a resident head. Of a prompt's pass, computing is the
 * longer part, except that nothing is left to compute while the head is read. */
#include "base/error.h"
#include "scheduler/plan_internal.h"
#include "scheduler/rates.h"

#define WORTHWHILE 0.002 /* of a pass: less is not worth leaving the usual setting */
#define NOISE      0.005 /* of a pass: so much a plan must be better than one that is preferred */
#define BALANCED   0.25  /* weight of the balanced machine's pass; the measured one's is 1 */

struct yardstick {
	const struct hr_cost *measured;
	struct hr_rates       rates; /* of the balanced machine */
	struct hr_cost        balanced;
};

static void scale_compute(struct hr_rates *r, double factor)
{
	for (int i = 0; i < r->n_compute; i++)
		r->compute[i].block_ns *= factor;
	for (int i = 0; i < r->n_head; i++)
		r->head[i].ns *= factor;
	r->context_ns_decode *= factor;
	r->context_ns_prefill *= factor;
}

/* The balanced machine: computing a pass of `plan` takes as long as bringing its weights. */
static int init_yardstick(struct yardstick *y, const struct hr_plan_request *request,
                          const struct hr_placement *plan, struct hr_error *err)
{
	struct hr_sim_result r = {0};
	int                  rc = hr_predict_ceiling(&r, request, plan, request->cost, err);
	*y = (struct yardstick){request->cost, *request->cost->rates, *request->cost};
	y->balanced.rates = &y->rates;
	double bring_ns = r.disk_ns > r.link_ns ? r.disk_ns : r.link_ns;
	if (!rc && bring_ns > 0 && r.compute_ns > 0)
		scale_compute(&y->rates, bring_ns / r.compute_ns);
	return rc;
}

typedef int (*predict_fn)(double *ns, const struct hr_plan_request *request, const struct hr_placement *plan,
                          const struct hr_cost *cost, struct hr_error *err);

static int predict_ceiling(double *ns, const struct hr_plan_request *request, const struct hr_placement *plan,
                           const struct hr_cost *cost, struct hr_error *err)
{
	struct hr_sim_result r = {0};
	int                  rc = hr_predict_ceiling(&r, request, plan, cost, err);
	*ns = r.ceiling_ns;
	return rc;
}

static int predict_pass(double *ns, const struct hr_plan_request *request, const struct hr_placement *plan,
                        const struct hr_cost *cost, struct hr_error *err)
{
	struct hr_sim_result r = {0};
	int                  rc = hr_predict_pass(&r, request, plan, cost, NULL, NULL, err);
	*ns = r.pass_ns;
	return rc;
}

static int measure(double *ns, const struct yardstick *y, predict_fn predict,
                   const struct hr_plan_request *request, const struct hr_placement *plan,
                   struct hr_error *err)
{
	double balanced_ns;
	int    rc = predict(ns, request, plan, y->measured, err);
	if (!rc)
		rc = predict(&balanced_ns, request, plan, &y->balanced, err);
	if (!rc)
		*ns += BALANCED * balanced_ns;
	return rc;
}

/* Make the plan for `request` and keep it if it is predicted to be quicker than `best`
 * by more than a simulation is worth; what its ceiling rules out is not simulated. A plan that falls
 * back from what this request asks for is another candidate's. */
static int try_plan(struct hr_placement *best, double *best_ns, const struct yardstick *y,
                    const struct hr_plan_request *request, const struct hr__splits *splits,
                    struct hr_error *err)
{
	struct hr_placement plan;
	double              ns = 0, limit_ns = *best_ns * (1 - WORTHWHILE);
	int                 rc = hr__plan_by_bytes(&plan, request, splits, NULL);
	if (rc == HR_EBUDGET || rc == HR_EINVAL)
		return 0;
	if (rc)
		return hr__fail(err, rc, "There is no memory to compare plans.");
	bool promising = plan.n_fallbacks <= best->n_fallbacks;
	if (promising)
		rc = measure(&ns, y, predict_ceiling, request, &plan, err);
	promising &= ns < limit_ns;
	if (promising && !rc)
		rc = measure(&ns, y, predict_pass, request, &plan, err);
	if (promising && !rc && ns < limit_ns) {
		struct hr_placement worse = *best;
		*best = plan;
		*best_ns = ns;
		plan = worse;
	}
	hr_plan_release(&plan);
	return rc;
}

/* Ask for the reads of `plan`, but in the words of the request where it has some. */
static void fix_reads(struct hr_plan_request *r, const struct hr_plan_request *request,
                      const struct hr_placement *plan)
{
	r->chunk_bytes = request->chunk_bytes ? request->chunk_bytes : plan->chunk_bytes;
	r->read_depth = request->read_depth ? request->read_depth : plan->read_depth;
}

/* Improve the best plan by bytes: first the reads, out of those that were measured, then the ring,
 * which may be worth more slots, then the split. `ns`: what it comes to. */
static int improve(struct hr_placement *plan, double *ns, const struct yardstick *y,
                   const struct hr_plan_request *request, const struct hr__splits *splits,
                   struct hr_error *err)
{
	const struct hr_rates *rates = request->cost->rates;
	struct hr_plan_request r = *request;
	struct hr__splits      some = *splits;
	int                    rc = measure(ns, y, predict_pass, request, plan, err);
	for (int i = 0; i < rates->n_disk && !rc && plan->slots; i++) {
		r.chunk_bytes = request->chunk_bytes ? request->chunk_bytes : (size_t)rates->disk[i].chunk_bytes;
		r.read_depth = request->read_depth ? request->read_depth : rates->disk[i].depth;
		if (r.read_depth > 1 && !(request->chunk_bytes && request->read_depth))
			rc = try_plan(plan, ns, y, &r, splits, err);
	}
	fix_reads(&r, request, plan);
	for (int slots = plan->slots; slots <= HR__MAX_SLOTS && !rc && plan->slots; slots++) {
		r.slots = slots;
		if (request->slots == HR_PLAN_AUTO)
			rc = try_plan(plan, ns, y, &r, splits, err);
	}
	r.slots = request->slots == HR_PLAN_AUTO ? plan->slots : request->slots;
	for (int n = 0; n < splits->n_counts && splits->n_cuts && !rc && plan->slots; n++) {
		some.only_resident = n;
		rc = try_plan(plan, ns, y, &r, &some, err);
	}
	return rc;
}

/* Take the best plan out of `preferred` instead of `plan` if its pass is hardly longer than the shortest
 * there is, of `best_ns`. */
static int prefer(struct hr_placement *plan, double best_ns, const struct yardstick *y,
                  const struct hr_plan_request *request, const struct hr__splits *preferred,
                  struct hr_error *err)
{
	struct hr_placement other = {0};
	double              ns = 0;
	int                 rc = hr__plan_by_bytes(&other, request, preferred, NULL);
	if (!rc)
		rc = improve(&other, &ns, y, request, preferred, NULL);
	if (!rc && other.n_fallbacks <= plan->n_fallbacks && ns * (1 - NOISE) <= best_ns) {
		struct hr_placement worse = *plan;
		*plan = other;
		other = worse;
	}
	hr_plan_release(&other);
	return rc == HR_EBUDGET ? 0 : rc ? hr__fail(err, rc, "There is no memory to compare plans.") : 0;
}

static int choose_by_time(struct hr_placement *plan, const struct hr_plan_request *request,
                          const struct hr__splits *splits, struct hr_error *err)
{
	struct hr__splits preferred = *splits;
	struct yardstick  y;
	double            ns;
	int               rc = hr__plan_by_bytes(plan, request, splits, err);
	if (!rc)
		rc = init_yardstick(&y, request, plan, err);
	if (!rc)
		rc = improve(plan, &ns, &y, request, splits, err);
	if (rc)
		return rc;
	preferred.n_cuts = 0;
	if (plan->cut >= 0)
		rc = prefer(plan, ns, &y, request, &preferred, err);
	preferred.n_cuts = plan->cut >= 0 ? splits->n_cuts : 0;
	preferred.head_stays = true;
	if (!rc && plan->slots && !request->map && plan->head_tier != HR_TIER_DEVICE)
		rc = prefer(plan, ns, &y, request, &preferred, err);
	return rc;
}

int hr_plan_make(struct hr_placement *out, const struct hr_plan_request *request, struct hr_error *err)
{
	struct hr_placement plan = {0};
	struct hr__splits   splits;
	int                 rc = hr__splits_init(&splits, request, err);
	if (rc)
		return rc;
	rc = request->cost ? choose_by_time(&plan, request, &splits, err)
	                   : hr__plan_by_bytes(&plan, request, &splits, err);
	hr__splits_release(&splits);
	if (!rc)
		*out = plan;
	else
		hr_plan_release(&plan);
	return rc;
}
