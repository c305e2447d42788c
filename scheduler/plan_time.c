/* Plans compared by the time that the simulator gives them.
 *
 * The planner's choice by bytes is the first guess. From there one thing after the other is
 * varied, over the chunks and depths that were measured and the slots that a ring can have,
 * and what is predicted to be quicker is kept. Two kinds of plans are preferred where they make a pass longer
 * by no more than noise does: those of whole blocks, which are simpler, and those with a resident head. The
 * passes that are compared generate. Of a prompt's, computing is the longer part, except that nothing is left
 * to compute while the head is read. */
#include "base/error.h"
#include "scheduler/plan_internal.h"
#include "scheduler/rates.h"

#define WORTHWHILE 0.002 /* of a pass: less is not worth leaving the usual setting */
#define NOISE      0.005 /* of a pass: so much a plan must be better than one that is preferred */

/* Make the plan for `request` and keep it if it is predicted to be quicker than `best`
 * by more than a simulation is worth; what its ceiling rules out is not simulated. A plan that falls
 * back from what this request asks for is another candidate's. */
static int try_plan(struct hr_placement *best, double *best_ns, const struct hr_plan_request *request,
                    const struct hr__splits *splits, struct hr_error *err)
{
	struct hr_placement  plan;
	struct hr_sim_result predicted;
	double               limit_ns = *best_ns * (1 - WORTHWHILE);
	int                  rc = hr__plan_by_bytes(&plan, request, splits, NULL);
	if (rc == HR_EBUDGET || rc == HR_EINVAL)
		return 0;
	if (rc)
		return hr__fail(err, rc, "There is no memory to compare plans.");
	bool promising = plan.n_fallbacks <= best->n_fallbacks;
	if (promising) {
		rc = hr_predict_ceiling(&predicted, request, &plan, request->cost, err);
		promising = !rc && predicted.ceiling_ns < limit_ns;
	}
	if (promising)
		rc = hr_predict_pass(&predicted, request, &plan, request->cost, NULL, NULL, err);
	if (promising && !rc && predicted.pass_ns < limit_ns) {
		struct hr_placement worse = *best;
		*best = plan;
		*best_ns = predicted.pass_ns;
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

/* The plan of the fewest bytes, improved: first the reads (chunk and depth, out of those that were
 * measured), then the ring, which is the smaller the better the reads are. `ns`: its predicted pass. */
static int find_by_time(struct hr_placement *plan, double *ns, const struct hr_plan_request *request,
                        const struct hr__splits *splits, struct hr_error *err)
{
	const struct hr_rates *rates = request->cost->rates;
	struct hr_plan_request r = *request;
	struct hr_sim_result   predicted;
	int                    rc = hr__plan_by_bytes(plan, request, splits, err);
	if (rc)
		return rc;
	rc = hr_predict_pass(&predicted, request, plan, request->cost, NULL, NULL, err);
	*ns = predicted.pass_ns;
	for (int i = 0; i < rates->n_disk && !rc && plan->slots; i++) {
		r.chunk_bytes = request->chunk_bytes ? request->chunk_bytes : (size_t)rates->disk[i].chunk_bytes;
		r.read_depth = request->read_depth ? request->read_depth : rates->disk[i].depth;
		if (r.read_depth > 1 && !(request->chunk_bytes && request->read_depth))
			rc = try_plan(plan, ns, &r, splits, err);
	}
	fix_reads(&r, request, plan);
	for (int slots = HR__MIN_SLOTS; slots <= HR__MAX_SLOTS && !rc && plan->slots; slots++) {
		r.slots = slots;
		if (request->slots == HR_PLAN_AUTO)
			rc = try_plan(plan, ns, &r, splits, err);
	}
	return rc;
}

/* Take the best plan out of `preferred` instead of `plan` if its pass is hardly longer than the shortest
 * there is, of `best_ns`. */
static int prefer(struct hr_placement *plan, double best_ns, const struct hr_plan_request *request,
                  const struct hr__splits *preferred, struct hr_error *err)
{
	struct hr_placement other = {0};
	double              ns;
	int                 rc = find_by_time(&other, &ns, request, preferred, NULL);
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
	double            ns;
	int               rc = find_by_time(plan, &ns, request, splits, err);
	preferred.n_cuts = 0;
	if (!rc && plan->cut >= 0)
		rc = prefer(plan, ns, request, &preferred, err);
	preferred.n_cuts = plan->cut >= 0 ? splits->n_cuts : 0;
	preferred.head_stays = true;
	if (!rc && plan->slots && !request->map && plan->head_tier != HR_TIER_DEVICE)
		rc = prefer(plan, ns, request, &preferred, err);
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
