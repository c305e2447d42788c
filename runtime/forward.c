/* The forward pass of a decoder of the llama line (Touvron et al. 2023):
 *
 *     x = embedding[ids]
 *     for every block:  x += Wo attention(rope(Wq h), rope(Wk h), Wv h),  h = norm(x)
 *                       x += Wdown (silu(Wgate h) * Wup h),               h = norm(x)
 *     logits = Whead norm(x[outputs])
 *
 * Where a layer's weights come from is the window's business: this file says
 * acquire, compute, release, and is the only loop that does. All work goes on one
 * compute stream; the host waits once per pass, for the logits.
 *
 * All device memory is one arena that is laid out once (lay_out), with the same
 * code that tells the planner how large it will be. */
#include "runtime/forward.h"

#include "base/error.h"
#include "base/mem.h"

#include <math.h>

#define ARENA_ALIGN 256

struct dims {
	int32_t n_batch, n_seqs, n_outputs, max_pages;
	int32_t n_embd, n_ff, n_vocab, head_dim, q_dim, kv_dim, qkv_dim;
	int32_t max_cols;
};

/* Where everything lies in the arena; shapes as in ops.h. */
struct buffers {
	float   *x;      /* [n_batch][n_embd] the residual stream */
	float   *h;      /* [n_batch][n_embd] normed */
	float   *qkv;    /* [n_batch][q_dim + 2 * kv_dim] */
	float   *attn;   /* [n_batch][q_dim] */
	float   *gate;   /* [n_batch][n_ff] */
	float   *up;     /* [n_batch][n_ff] */
	float   *out;    /* [n_outputs][n_embd] */
	float   *logits; /* [n_outputs][n_vocab] */
	float   *freqs;  /* [n_rot / 2] */
	char    *table;  /* [n_batch][embedding row bytes] when read by rows */
	int32_t *ids;    /* [n_batch] and so on, as struct hr_pass: one block, one copy */
	int32_t *pos, *seq, *outputs, *page_table;
	char    *workspace;
};

struct hr_forward {
	struct hr_forward_options o;
	struct dims               dims;
	void                     *arena;
	struct buffers            b;
	struct hr_weight          final_norm; /* resident; addresses */
	struct hr_event          *end;
	struct hr_hostmem host; /* the pass, host side, pinned; in the order of b.ids.. then logits, table */
	bool              pinned;
	struct hr_pass    pass;
	int32_t          *row_ids; /* 0, 1, 2, ...: ids into `table`; host */
	char             *host_table;
	int               n_head_layers;
};

/* ---- Sizes ----------------------------------------------------------------- */

static struct dims dims_of(const struct hr_plan *plan)
{
	const struct hr_hparams *h = &plan->model->checkpoint.hparams;
	struct dims              d = {
	                 .n_batch = plan->info.n_batch,
	                 .n_seqs = plan->info.n_seqs,
	                 .n_outputs = plan->max_outputs,
	                 .max_pages = hr__kv_pages_for(plan->info.n_ctx),
	                 .n_embd = h->n_embd,
	                 .n_ff = h->n_ff,
	                 .n_vocab = h->n_vocab,
	                 .head_dim = h->head_dim,
	                 .q_dim = h->n_heads * h->head_dim,
	                 .kv_dim = h->n_kv_heads * h->head_dim,
    };
	d.qkv_dim = d.q_dim + 2 * d.kv_dim;
	d.max_cols = d.n_embd > d.n_ff ? d.n_embd : d.n_ff;
	d.max_cols = d.q_dim > d.max_cols ? d.q_dim : d.max_cols;
	return d;
}

static size_t embedding_row_bytes(const struct hr_model *m)
{
	const struct hr_tensor *t = &m->checkpoint.tensors[m->checkpoint.embedding];
	return t->bytes / t->shape[0];
}

static size_t int_count(const struct dims *d)
{
	return 3 * (size_t)d->n_batch + (size_t)d->n_outputs + (size_t)d->n_seqs * (size_t)d->max_pages;
}

/* Split the int block at `ints` into its arrays. */
static void split_ints(const struct dims *d, int32_t *ints, int32_t **ids, int32_t **pos, int32_t **seq,
                       int32_t **outputs, int32_t **page_table)
{
	*ids = ints;
	*pos = *ids + d->n_batch;
	*seq = *pos + d->n_batch;
	*outputs = *seq + d->n_batch;
	*page_table = *outputs + d->n_outputs;
}

static void *take(uintptr_t *at, size_t bytes)
{
	void *p = (void *)*at;
	*at += hr__align_up(bytes, ARENA_ALIGN);
	return p;
}

/* Lay the arena out from address `at`; returns its end. */
static uintptr_t lay_out(struct buffers *b, const struct hr_plan *plan, const struct hr_ops *ops,
                         uintptr_t at)
{
	struct dims d = dims_of(plan);
	size_t      n = (size_t)d.n_batch, f = sizeof(float);
	b->x = take(&at, n * (size_t)d.n_embd * f);
	b->h = take(&at, n * (size_t)d.n_embd * f);
	b->qkv = take(&at, n * (size_t)d.qkv_dim * f);
	b->attn = take(&at, n * (size_t)d.q_dim * f);
	b->gate = take(&at, n * (size_t)d.n_ff * f);
	b->up = take(&at, n * (size_t)d.n_ff * f);
	b->out = take(&at, (size_t)d.n_outputs * (size_t)d.n_embd * f);
	b->logits = take(&at, (size_t)d.n_outputs * (size_t)d.n_vocab * f);
	b->freqs = take(&at, (size_t)plan->model->checkpoint.hparams.n_rot / 2 * f);
	b->table = take(&at, n * embedding_row_bytes(plan->model));
	b->ids = take(&at, int_count(&d) * sizeof(int32_t));
	split_ints(&d, b->ids, &b->ids, &b->pos, &b->seq, &b->outputs, &b->page_table);
	b->workspace = take(&at, ops->table->workspace_bytes(ops, d.n_batch, d.max_cols));
	return at;
}

uint64_t hr__forward_bytes(const struct hr_plan *plan, const struct hr_ops *ops)
{
	struct buffers ignored;
	return lay_out(&ignored, plan, ops, 0);
}

/* ---- Opening --------------------------------------------------------------- */

/* Llama 3.1's scaling of one inverse frequency; as in Transformers'
 * _compute_llama3_parameters. */
static double llama3_scaled(const struct hr_hparams *h, double freq)
{
	double wavelength = 2 * M_PI / freq;
	double low = h->rope_original_context / (double)h->rope_low_freq_factor;
	double high = h->rope_original_context / (double)h->rope_high_freq_factor;
	if (wavelength < high)
		return freq;
	if (wavelength > low)
		return freq / h->rope_factor;
	double smooth = (h->rope_original_context / wavelength - h->rope_low_freq_factor) /
	                ((double)h->rope_high_freq_factor - h->rope_low_freq_factor);
	return (1 - smooth) * freq / h->rope_factor + smooth * freq;
}

/* inv_freq[i] = theta^(-2i / n_rot), scaled as the model says. `factors`: GGUF's
 * rope_freqs.weight, or NULL. */
static void compute_freqs(const struct hr_hparams *h, const float *factors, float *freqs)
{
	for (int i = 0; i < h->n_rot / 2; i++) {
		double freq = pow((double)h->rope_theta, -2.0 * i / h->n_rot);
		if (factors)
			freq /= factors[i];
		else if (h->rope_scaling == HR_ROPE_SCALING_LLAMA3)
			freq = llama3_scaled(h, freq);
		else if (h->rope_scaling == HR_ROPE_SCALING_LINEAR)
			freq /= h->rope_factor;
		freqs[i] = (float)freq;
	}
}

static int upload_freqs(struct hr_forward *f, struct hr_error *err)
{
	const struct hr_checkpoint *c = &f->o.model->checkpoint;
	size_t                      n = (size_t)c->hparams.n_rot / 2;
	float                      *freqs = hr__calloc(2 * n, sizeof *freqs), *factors = freqs + n;
	int rc = freqs ? 0 : hr__fail(err, HR_ENOMEM, "Out of memory for the rotary frequencies.");
	if (!rc && c->rope_factors >= 0) {
		const struct hr_tensor *t = &c->tensors[c->rope_factors];
		rc = hr_file_read_exact(t->file, t->offset, factors, n * sizeof *factors, err);
	}
	if (!rc) {
		const struct hr_device_ops *dev = f->o.device->ops;
		compute_freqs(&c->hparams, c->rope_factors >= 0 ? factors : NULL, freqs);
		rc = dev->copy(f->o.compute, f->b.freqs, freqs, n * sizeof *freqs);
		if (!rc)
			rc = dev->event_record(f->end, f->o.compute);
		if (!rc)
			rc = dev->event_wait(f->end);
		if (rc)
			hr__fail(err, rc, "The device failed while the rotary frequencies were copied to it.");
	}
	free(freqs);
	return rc;
}

/* The host side of a pass: ints, logits and embedding rows in one pinned block. */
static int open_host_side(struct hr_forward *f, struct hr_error *err)
{
	const struct dims *d = &f->dims;
	uintptr_t          at = 0;
	take(&at, int_count(d) * sizeof(int32_t));
	take(&at, (size_t)d->n_batch * sizeof(int32_t));
	take(&at, (size_t)d->n_outputs * (size_t)d->n_vocab * sizeof(float));
	take(&at, (size_t)d->n_batch * embedding_row_bytes(f->o.model));
	int rc = hr_hostmem_init(&f->host, at, f->o.device->numa_node, err);
	if (!rc)
		rc = f->o.device->ops->pin(f->o.device, f->host.base, f->host.bytes, err);
	if (rc)
		return rc;
	f->pinned = true;
	at = (uintptr_t)f->host.base;
	int32_t        *ints = take(&at, int_count(d) * sizeof(int32_t));
	struct hr_pass *p = &f->pass;
	split_ints(d, ints, &p->ids, &p->pos, &p->seq, &p->outputs, &p->page_table);
	f->row_ids = take(&at, (size_t)d->n_batch * sizeof(int32_t));
	for (int i = 0; i < d->n_batch; i++)
		f->row_ids[i] = i;
	p->logits = take(&at, (size_t)d->n_outputs * (size_t)d->n_vocab * sizeof(float));
	p->max_pages = d->max_pages;
	f->host_table = take(&at, (size_t)d->n_batch * embedding_row_bytes(f->o.model));
	return 0;
}

int hr__forward_open(struct hr_forward **out, const struct hr_forward_options *o, struct hr_error *err)
{
	struct hr_forward *f = hr__calloc(1, sizeof *f);
	if (!f)
		return hr__fail(err, HR_ENOMEM, "Out of memory for the forward pass.");
	f->o = *o;
	f->dims = dims_of(o->plan);
	f->n_head_layers = o->plan->placement.head_tier == HR_TIER_DEVICE ? 1 : o->model->n_head_parts;
	uint64_t bytes = hr__forward_bytes(o->plan, o->ops);
	int      rc = o->device->ops->alloc(o->device, &f->arena, bytes, err);
	if (!rc)
		rc = o->device->ops->event_new(o->device, &f->end, err);
	if (!rc)
		rc = open_host_side(f, err);
	if (rc)
		goto done;
	uintptr_t end = lay_out(&f->b, o->plan, o->ops, (uintptr_t)f->arena);
	o->ops->workspace = f->b.workspace;
	o->ops->workspace_bytes = end - (uintptr_t)f->b.workspace;
	rc = upload_freqs(f, err);
	if (rc)
		goto done;
	void *globals;
	rc = hr_window_acquire(o->window, o->model->n_blocks + f->n_head_layers, &globals, err);
	f->final_norm = rc ? (struct hr_weight){0} : hr_weight_at(o->model->final_norm, globals);
done:
	if (rc)
		hr__forward_close(f);
	else
		*out = f;
	return rc;
}

void hr__forward_close(struct hr_forward *f)
{
	if (!f)
		return;
	const struct hr_device_ops *dev = f->o.device->ops;
	if (f->end)
		dev->event_free(f->end);
	if (f->pinned)
		dev->unpin(f->o.device, f->host.base);
	hr_hostmem_release(&f->host);
	if (f->arena)
		dev->free(f->o.device, f->arena);
	free(f);
}

struct hr_pass *hr__forward_pass(struct hr_forward *f) { return &f->pass; }

/* ---- The pass -------------------------------------------------------------- */

/* Put the ids of this pass on the device and their embeddings into x. */
static int embed(struct hr_forward *f, const struct hr_batch *batch, struct hr_error *err)
{
	const struct hr_forward_options *o = &f->o;
	const struct hr_device_ops      *dev = o->device->ops;
	const struct hr_pass            *p = &f->pass;
	struct hr_weight                 table = o->model->embedding.weight;
	const int32_t                   *ids = p->ids;
	int                              rc;
	if (o->rows) {
		rc = hr__embedding_fetch(o->rows, p->ids, p->n_tokens, f->host_table, err);
		if (rc)
			return rc;
		table.data = f->b.table;
		table.rows = p->n_tokens;
		ids = f->row_ids;
		size_t bytes = (size_t)p->n_tokens * embedding_row_bytes(o->model);
		if ((rc = dev->copy(o->compute, f->b.table, f->host_table, bytes)))
			goto failed;
	} else {
		bool  tied = o->model->checkpoint.head == o->model->checkpoint.embedding;
		int   layer = o->model->n_blocks + (tied ? 0 : f->n_head_layers + 1);
		void *base;
		rc = hr_window_acquire(o->window, layer, &base, err);
		if (rc)
			return rc;
		table = hr_weight_at(table, base);
	}
	const struct dims *d = &f->dims;
	if ((rc = dev->copy(o->compute, f->b.ids, p->ids, int_count(d) * sizeof(int32_t))))
		goto failed;
	if (ids != p->ids && (rc = dev->copy(o->compute, f->b.ids, ids, (size_t)p->n_tokens * sizeof(int32_t))))
		goto failed;
	rc = o->ops->table->embed(o->ops, o->compute, f->b.x, &table, 1, f->b.ids, batch->n_tokens);
	if (!rc)
		return 0;
failed:
	return hr__fail(err, rc, "The device failed while the embeddings were looked up.");
}

static struct hr_matmul product(const struct hr_weight *w, const struct hr_weight *bias, float *y,
                                int64_t stride, bool add)
{
	return (struct hr_matmul){
	    .w = *w, .bias = bias ? *bias : (struct hr_weight){0}, .y = y, .y_stride = stride, .add = add};
}

#define TRY(call)                                                                                            \
	do {                                                                                                     \
		int rc_ = (call);                                                                                    \
		if (rc_)                                                                                             \
			return rc_;                                                                                      \
	} while (0)

static int attention_part(struct hr_forward *f, const struct hr_block *w, int layer,
                          const struct hr_batch *batch)
{
	struct hr_ops             *ops = f->o.ops;
	const struct hr_ops_table *t = ops->table;
	struct hr_stream          *s = f->o.compute;
	const struct hr_hparams   *h = &f->o.model->checkpoint.hparams;
	const struct dims         *d = &f->dims;
	const struct buffers      *b = &f->b;
	float                     *q = b->qkv, *k = q + d->q_dim, *v = k + d->kv_dim;
	int64_t                    stride = d->qkv_dim;
	struct hr_kv_layer         kv = hr__kv_layer(f->o.kv, layer);
	struct hr_matmul           qkv[3] = {
	              product(&w->q, &w->q_bias, q, stride, false),
	              product(&w->k, &w->k_bias, k, stride, false),
	              product(&w->v, &w->v_bias, v, stride, false),
    };
	struct hr_matmul o = product(&w->o, &w->o_bias, b->x, d->n_embd, true);
	TRY(t->rms_norm(ops, s, b->h, b->x, &w->attn_norm, 0, h->rms_eps, batch->n_tokens));
	TRY(t->matmul(ops, s, qkv, 3, b->h, batch->n_tokens));
	TRY(t->rope(ops, s, q, stride, h->n_heads, h->head_dim, h->rope_style, b->freqs, h->n_rot / 2, batch));
	TRY(t->rope(ops, s, k, stride, h->n_kv_heads, h->head_dim, h->rope_style, b->freqs, h->n_rot / 2, batch));
	TRY(t->kv_store(ops, s, &kv, k, stride, v, stride, batch));
	TRY(t->attention(ops, s, b->attn, q, stride, h->n_heads, &kv, 1.0f / sqrtf((float)h->head_dim), 0,
	                 h->sliding_window, batch));
	return t->matmul(ops, s, &o, 1, b->attn, batch->n_tokens);
}

static int feed_forward_part(struct hr_forward *f, const struct hr_block *w, const struct hr_batch *batch)
{
	struct hr_ops             *ops = f->o.ops;
	const struct hr_ops_table *t = ops->table;
	struct hr_stream          *s = f->o.compute;
	const struct dims         *d = &f->dims;
	const struct buffers      *b = &f->b;
	struct hr_matmul           gate_up[2] = {
	              product(&w->gate, NULL, b->gate, d->n_ff, false),
	              product(&w->up, NULL, b->up, d->n_ff, false),
    };
	struct hr_matmul down = product(&w->down, NULL, b->x, d->n_embd, true);
	TRY(t->rms_norm(ops, s, b->h, b->x, &w->ffn_norm, 0, f->o.model->checkpoint.hparams.rms_eps,
	                batch->n_tokens));
	TRY(t->matmul(ops, s, gate_up, 2, b->h, batch->n_tokens));
	TRY(t->activate(ops, s, HR_ACT_SILU, b->gate, b->gate, b->up, (int64_t)batch->n_tokens * d->n_ff));
	return t->matmul(ops, s, &down, 1, b->gate, batch->n_tokens);
}

static int compute_block(struct hr_forward *f, int layer, const void *weights, const struct hr_batch *batch)
{
	struct hr_block w = hr_block_at(&f->o.model->blocks[layer], weights);
	TRY(attention_part(f, &w, layer, batch));
	return feed_forward_part(f, &w, batch);
}

static int norm_outputs(struct hr_forward *f)
{
	struct hr_ops *ops = f->o.ops;
	int32_t        n = f->pass.n_outputs;
	TRY(ops->table->gather_rows(ops, f->o.compute, f->b.out, f->b.x, f->b.outputs, n, f->dims.n_embd));
	return ops->table->rms_norm(ops, f->o.compute, f->b.out, f->b.out, &f->final_norm, 0,
	                            f->o.model->checkpoint.hparams.rms_eps, n);
}

static int compute_head(struct hr_forward *f, int part, const void *weights)
{
	const struct hr_model        *m = f->o.model;
	const struct hr_matrix_layer *layer = f->n_head_layers == 1 ? &m->head : &m->head_parts[part];
	if (part == 0)
		TRY(norm_outputs(f));
	struct hr_weight w = hr_weight_at(layer->weight, weights);
	struct hr_matmul head = product(&w, NULL, f->b.logits + layer->first_row, f->dims.n_vocab, false);
	return f->o.ops->table->matmul(f->o.ops, f->o.compute, &head, 1, f->b.out, f->pass.n_outputs);
}

/* Compute layer `i` of the pass with its weights at hand. A pass without outputs
 * still takes the head through the window: the order of a pass never varies. */
static int compute_layer(struct hr_forward *f, int i, const void *weights, const struct hr_batch *batch)
{
	int n_blocks = f->o.model->n_blocks;
	if (i < n_blocks)
		return compute_block(f, i, weights, batch);
	return f->pass.n_outputs ? compute_head(f, i - n_blocks, weights) : 0;
}

int hr__forward_run(struct hr_forward *f, struct hr_error *err)
{
	const struct hr_forward_options *o = &f->o;
	const struct hr_device_ops      *dev = o->device->ops;
	const struct hr_pass            *p = &f->pass;
	struct hr_batch                  batch = {
	                     .n_tokens = p->n_tokens,
	                     .n_seqs = p->n_seqs,
	                     .pos = f->b.pos,
	                     .seq = f->b.seq,
	                     .page_table = f->b.page_table,
	                     .max_pages = f->dims.max_pages,
	                     .max_context = p->max_context,
    };
	int rc = embed(f, &batch, err);
	if (rc)
		return rc;
	int n_layers = o->model->n_blocks + f->n_head_layers;
	for (int i = 0; i < n_layers; i++) {
		void *weights;
		if ((rc = hr_window_acquire(o->window, i, &weights, err)))
			return rc;
		rc = compute_layer(f, i, weights, &batch);
		hr_window_release(o->window, i);
		if (rc)
			return hr__fail(err, rc, "%s: layer %d of the pass could not be computed (%s).",
			                o->model->checkpoint.path, i, hr_error_text(rc));
	}
	size_t bytes = (size_t)p->n_outputs * (size_t)f->dims.n_vocab * sizeof(float);
	if (bytes)
		rc = dev->copy(o->compute, p->logits, f->b.logits, bytes);
	if (!rc)
		rc = dev->event_record(f->end, o->compute);
	if (!rc)
		rc = dev->event_wait(f->end);
	return rc ? hr__fail(err, rc, "The device failed in the middle of a pass.") : 0;
}
