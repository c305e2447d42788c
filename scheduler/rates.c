/* Rates between the points where they were measured, and passes predicted from them.
 *
 * The disk's points form a loose grid over the logarithms of chunk and depth; in between,
 * near points count more than far ones (inverse distance), so a grid with holes is as good as
 * it can be and a measured point is itself. Compute is a line from point to point over
 * the tokens, and beyond the last one goes on as it went: more tokens than a machine is
 * limited by cost in proportion. */
#include "scheduler/rates.h"

#include "base/error.h"
#include "base/mem.h"

#include <math.h>

double hr_rates_disk(const struct hr_rates *r, uint64_t chunk_bytes, int depth)
{
	double weights = 0, sum = 0;
	for (int i = 0; i < r->n_disk; i++) {
		double x = log2((double)r->disk[i].chunk_bytes / (double)chunk_bytes);
		double y = log2((double)r->disk[i].depth / depth);
		double d2 = x * x + y * y;
		if (d2 < 1e-6)
			return r->disk[i].rate;
		weights += 1 / (d2 * d2);
		sum += r->disk[i].rate / (d2 * d2);
	}
	return weights > 0 ? sum / weights : 0;
}

/* What a single read takes longer than its share of a full queue. */
double hr_rates_disk_latency_ns(const struct hr_rates *r, uint64_t chunk_bytes, int depth)
{
	double alone = hr_rates_disk(r, chunk_bytes, 1), together = hr_rates_disk(r, chunk_bytes, depth);
	if (!(alone > 0) || alone >= together)
		return 0;
	return (double)chunk_bytes / alone - (double)chunk_bytes / together;
}

/* The line through (x0, y0) and (x1, y1), at x; never below zero. */
static double line(double x0, double y0, double x1, double y1, double x)
{
	return fmax(0, x1 > x0 ? y0 + (y1 - y0) * (x - x0) / (x1 - x0) : y0);
}

/* The point at or below which `n` lies, such that there is one above it if there are two. */
static int segment_of(const struct hr_rates *r, int n_tokens)
{
	int i = 0;
	while (i + 2 < r->n_compute && r->compute[i + 1].n_tokens <= n_tokens)
		i++;
	return i;
}

static double between_ns(const struct hr_rates *r, int n_tokens)
{
	if (!r->n_compute)
		return 0;
	const struct hr_compute_point *a = &r->compute[segment_of(r, n_tokens)], *b = a + (r->n_compute > 1);
	return line(a->n_tokens, a->between_ns, b->n_tokens, b->between_ns, n_tokens);
}

/* A block without looking back. */
static double weights_ns(const struct hr_rates *r, int n_tokens, uint64_t block_bytes)
{
	if (!r->n_compute)
		return 0;
	const struct hr_compute_point *a = &r->compute[segment_of(r, n_tokens)], *b = a + (r->n_compute > 1);
	double                         ns = line(a->n_tokens, a->block_ns, b->n_tokens, b->block_ns, n_tokens);
	return r->block_bytes > 0 ? ns * (double)block_bytes / r->block_bytes : ns;
}

static double look_back_ns(const struct hr_rates *r, const struct hr_workload *w, int n_tokens)
{
	bool together = n_tokens >= 8 * (w->n_seqs > 0 ? w->n_seqs : 1);
	return (together ? r->context_ns_prefill : r->context_ns_decode) * n_tokens * w->context_tokens;
}

double hr_rates_block_ns(const struct hr_rates *r, const struct hr_workload *w, uint64_t block_bytes)
{
	return weights_ns(r, w->n_tokens, block_bytes) + look_back_ns(r, w, w->n_tokens);
}

/* Keys and values are computed of all tokens; only those whose logits are wanted look back and go on. */
static double last_block_ns(const struct hr_rates *r, const struct hr_workload *w, uint64_t block_bytes,
                            double kv_share)
{
	return kv_share * weights_ns(r, w->n_tokens, block_bytes) +
	       (1 - kv_share) * weights_ns(r, w->n_outputs, block_bytes) + look_back_ns(r, w, w->n_outputs);
}

double hr_rates_head_ns(const struct hr_rates *r, int n_outputs)
{
	if (!n_outputs || !r->n_head)
		return 0;
	int i = 0;
	while (i + 2 < r->n_head && r->head[i + 1].n_outputs <= n_outputs)
		i++;
	const struct hr_head_point *a = &r->head[i], *b = a + (r->n_head > 1);
	return line(a->n_outputs, a->ns, b->n_outputs, b->ns, n_outputs);
}

static struct hr_sim_pipeline pipeline_of(const struct hr_plan_request *request, const struct hr_placement *p,
                                          const struct hr_cost *cost)
{
	const struct hr_rates *r = cost->rates;
	double                 limit = cost->max_disk_rate ? (double)cost->max_disk_rate * 1e-9 : INFINITY;
	double                 rate = hr_rates_disk(r, p->chunk_bytes, p->read_depth);
	return (struct hr_sim_pipeline){
	    .host_addressable = request->host_addressable,
	    .slots = p->slots,
	    .slot_bytes = p->slot_bytes,
	    .staging_buffers = p->staging_buffers,
	    .read_depth = p->read_depth,
	    .chunk_bytes = p->chunk_bytes,
	    .disk_rate = fmin(rate, limit),
	    .disk_latency_ns = rate <= limit ? hr_rates_disk_latency_ns(r, p->chunk_bytes, p->read_depth) : 0,
	    .link_rate = r->link_rate,
	    .link_latency_ns = r->link_latency_ns,
	    .between_ns = between_ns(r, cost->work.n_tokens),
	};
}

/* A pass as the simulator sees it: blocks, or the pieces in which they are streamed, and parts of the head,
 * in the order of use. */
struct pass {
	struct hr_sim_layer *layers; /* [n] */
	int                 *names;  /* [n] the block that a piece is of; n_blocks + p: part p of the head */
	int                  n;
	hr_sim_span_fn       on_span;
	void                *user;
};

static void add_layer(struct pass *pass, int name, uint64_t bytes, double compute_ns, enum hr_tier tier)
{
	pass->names[pass->n] = name;
	pass->layers[pass->n++] = (struct hr_sim_layer){bytes, compute_ns, tier};
}

/* Looking back is done with the first piece, or while it is held: that of queries, keys and values. */
static void add_block(struct pass *pass, const struct hr_plan_request *request,
                      const struct hr_placement *plan, const struct hr_cost *cost, int i)
{
	const struct hr_workload *work = &cost->work;
	bool                      last = i == request->n_blocks - 1;
	enum hr_tier              tier = plan->block_tier[i];
	uint64_t                  bytes = request->blocks[i].file_bytes;
	struct hr_cut             cut = hr_plan_cut(request, tier == HR_TIER_DEVICE ? -1 : plan->cut, i);
	double                    back = look_back_ns(cost->rates, work, last ? work->n_outputs : work->n_tokens);
	double                    ns = last ? last_block_ns(cost->rates, work, bytes, request->kv_share)
	                                    : hr_rates_block_ns(cost->rates, work, bytes);
	for (int p = 0; p < cut.n_pieces; p++)
		add_layer(pass, i, cut.pieces[p],
		          (ns - back) * (double)cut.pieces[p] / (double)cut.file_bytes + (p ? 0 : back), tier);
}

static void add_head(struct pass *pass, const struct hr_plan_request *request,
                     const struct hr_placement *plan, const struct hr_cost *cost)
{
	uint64_t left = request->head_bytes;
	uint64_t part = plan->head_tier == HR_TIER_DEVICE ? left : request->head_part_bytes;
	double   ns = hr_rates_head_ns(cost->rates, cost->work.n_outputs);
	for (int p = 0; left; p++) {
		uint64_t bytes = part && part < left ? part : left;
		add_layer(pass, request->n_blocks + p, bytes, ns * (double)bytes / (double)request->head_bytes,
		          plan->head_tier);
		left -= bytes;
	}
}

static void release_pass(struct pass *pass)
{
	free(pass->layers);
	free(pass->names);
}

static int init_pass(struct pass *pass, const struct hr_plan_request *request,
                     const struct hr_placement *plan, const struct hr_cost *cost, struct hr_error *err)
{
	uint64_t n_parts = request->head_part_bytes ? request->head_bytes / request->head_part_bytes + 1 : 1;
	size_t   most = (size_t)request->n_blocks * HR_MAX_PIECES + (size_t)n_parts;
	*pass = (struct pass){.layers = hr__calloc(most, sizeof *pass->layers),
	                      .names = hr__calloc(most, sizeof *pass->names)};
	if (!pass->layers || !pass->names) {
		release_pass(pass);
		return hr__fail(err, HR_ENOMEM, "There is no memory to predict a pass of %d layers.",
		                request->n_blocks);
	}
	for (int i = 0; i < request->n_blocks; i++)
		add_block(pass, request, plan, cost, i);
	add_head(pass, request, plan, cost);
	return 0;
}

int hr_predict_ceiling(struct hr_sim_result *result, const struct hr_plan_request *request,
                       const struct hr_placement *plan, const struct hr_cost *cost, struct hr_error *err)
{
	struct hr_sim_pipeline pipeline = pipeline_of(request, plan, cost);
	struct pass            pass;
	int                    rc = init_pass(&pass, request, plan, cost, err);
	if (rc)
		return rc;
	hr_sim_ceiling(result, &pipeline, pass.layers, pass.n);
	release_pass(&pass);
	return 0;
}

static void name_span(void *user, const struct hr_sim_span *span)
{
	const struct pass *pass = user;
	struct hr_sim_span named = *span;
	if (named.layer >= 0)
		named.layer = pass->names[named.layer];
	pass->on_span(pass->user, &named);
}

int hr_predict_pass(struct hr_sim_result *result, const struct hr_plan_request *request,
                    const struct hr_placement *plan, const struct hr_cost *cost, hr_sim_span_fn on_span,
                    void *user, struct hr_error *err)
{
	struct hr_sim_pipeline pipeline = pipeline_of(request, plan, cost);
	struct pass            pass;
	int                    rc = init_pass(&pass, request, plan, cost, err);
	if (rc)
		return rc;
	pass.on_span = on_span;
	pass.user = user;
	rc = hr_simulate(result, &pipeline, pass.layers, pass.n, on_span ? name_span : NULL, &pass, err);
	release_pass(&pass);
	return rc;
}
