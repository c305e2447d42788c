/* Predictions of a plan: its rates and its workloads handed to the simulator, and the
 * answer in milliseconds and names. */
#include "runtime/plan.h"

#include "base/error.h"

struct sink {
	const struct hr_plan *plan;
	hr_span_fn            fn;
	void                 *user;
};

static void pass_on(void *user, const struct hr_sim_span *span)
{
	const struct sink     *sink = user;
	const struct hr_model *m = sink->plan->model;
	bool                   whole = sink->plan->placement.head_tier == HR_TIER_DEVICE;
	const struct hr_layer *l = span->layer < 0             ? NULL
	                           : span->layer < m->n_blocks ? &m->block_layers[span->layer]
	                           : whole                     ? &m->head.layer
	                                                       : &m->head_parts[span->layer - m->n_blocks].layer;
	struct hr_span         out = {hr_trace_lane_name(span->lane), l ? l->name : "between passes",
	                              span->begin_ns * 1e-6, span->end_ns * 1e-6, span->bytes};
	sink->fn(sink->user, &out);
}

int hr_plan_predict(const struct hr_plan *plan, int n_tokens, int n_seqs, double context,
                    struct hr_prediction *out, hr_span_fn on_span, void *user, struct hr_error *err)
{
	struct sink          sink = {plan, on_span, user};
	struct hr_sim_result r;
	struct hr_cost       cost = plan->cost;
	if (!plan->info.rates)
		return hr__fail(err, HR_EUNSUPPORTED,
		                "Nothing was measured with this model on this machine, so nothing can be predicted.");
	if (n_tokens < 1 || n_seqs < 1 || n_seqs > n_tokens || !(context >= 0))
		return hr__fail(err, HR_EINVAL, "A pass of %d tokens of %d sequences cannot be predicted.", n_tokens,
		                n_seqs);
	cost.rates = &plan->rates;
	cost.work = (struct hr_workload){n_tokens, n_seqs, n_seqs, context};
	int rc =
	    hr_predict_pass(&r, &plan->request, &plan->placement, &cost, on_span ? pass_on : NULL, &sink, err);
	if (!rc)
		*out = (struct hr_prediction){r.pass_ns * 1e-6,           r.disk_ns * 1e-6,  r.link_ns * 1e-6,
		                              r.compute_ns * 1e-6,        r.stall_ns * 1e-6, r.ceiling_ns * 1e-6,
		                              hr_trace_lane_name(r.bound)};
	return rc;
}

struct hr_workload hr__plan_decode_work(const struct hr_plan_info *info)
{
	return (struct hr_workload){info->n_seqs, info->n_seqs, info->n_seqs, info->n_ctx / 2.0};
}

struct hr_workload hr__plan_prefill_work(const struct hr_plan_info *info)
{
	int n = info->n_ctx < info->n_batch ? info->n_ctx : info->n_batch;
	return (struct hr_workload){n, 1, 1, n / 2.0};
}

int hr__plan_predict(struct hr_plan *plan, struct hr_error *err)
{
	struct hr_plan_info *info = &plan->info;
	struct hr_workload   decode = hr__plan_decode_work(info), prefill = hr__plan_prefill_work(info);
	struct hr_prediction p;
	int                  rc =
	    hr_plan_predict(plan, decode.n_tokens, decode.n_seqs, decode.context_tokens, &p, NULL, NULL, err);
	if (rc)
		return rc;
	info->predicted_pass_ms = p.pass_ms;
	info->predicted_decode_tps = decode.n_tokens * 1e3 / p.pass_ms;
	info->decode_ceiling_ms = p.ceiling_ms;
	info->decode_bound = p.bound;
	rc = hr_plan_predict(plan, prefill.n_tokens, prefill.n_seqs, prefill.context_tokens, &p, NULL, NULL, err);
	if (rc)
		return rc;
	info->predicted_prefill_ms = p.pass_ms;
	info->predicted_prefill_tps = prefill.n_tokens * 1e3 / p.pass_ms;
	info->prefill_ceiling_ms = p.ceiling_ms;
	info->prefill_bound = p.bound;
	return 0;
}
