/* The forward pass of all families:
 *
 *     x = embedding[ids] (+ learned positions, kinds of segments, a norm)
 *     for every block:  x += Wo attention(rope(Wq h), rope(Wk h), Wv h),  h = norm(x)
 *                       x += Wdown (act(Wgate h) * Wup h),                h = norm(x)
 *     logits = Whead norm(x)
 *
 * Once the last block's keys and values are kept, nobody looks at other rows than the outputs any
 * more: from there on, x is x[outputs].
 *
 * Where families differ, struct hr_hparams says so (norms before or behind, both
 * parts in parallel, caps, windows, ...), or the weights that are there or not do
 * (biases, gates, norms of queries and keys, norms behind a part).
 *
 * Where a layer's weights come from is the window's business: this file says
 * acquire (hr__hold_*), compute, release, and is the only loop that does. A block may come in
 * pieces: each step says that it has come to its weights. All work goes on one
 * compute stream; the host waits once per pass, for the logits. */
#include "runtime/forward_memory.h"

#include "base/error.h"

#include <assert.h>
#include <stdio.h>

#define TRY(call)                                                                                            \
	do {                                                                                                     \
		int rc_ = (call);                                                                                    \
		if (rc_)                                                                                             \
			return rc_;                                                                                      \
	} while (0)

/* Some tokens of the pass on their way through one layer. */
struct chunk {
	struct hr_batch batch;
	float          *x; /* [n_tokens][n_embd] */
	int             first;
	int             first_output, n_outputs; /* those of the pass's outputs that are among them */
	int32_t         n_single;                /* tokens, the first ones */
};

static int32_t clamp(int32_t x, int32_t max) { return x < 0 ? 0 : x < max ? x : max; }

/* How many of the outputs [begin, end) are single tokens. */
static int32_t count_single(const struct hr_pass *p, int begin, int end)
{
	int n = begin;
	while (n < end && p->outputs[n] < p->n_single)
		n++;
	return n - begin;
}

static struct chunk chunk_of(const struct hr_forward *f, int index)
{
	const struct hr_pass *p = &f->pass;
	int                   first = p->chunk_begin[index], n = p->chunk_begin[index + 1] - first;
	return (struct chunk){
	    .batch = {.n_tokens = n,
	              .n_seqs = p->n_chunks > 1 ? (int32_t)((int64_t)p->n_seqs * n / p->n_tokens) + 1 : p->n_seqs,
	              .pos = f->b.pos + first,
	              .seq = f->b.seq + first,
	              .page_table = f->b.page_table,
	              .max_pages = f->dims.max_pages,
	              .max_context = p->max_context,
	              .length = f->dims.encoder ? f->b.length + first : NULL},
	    .x = f->b.x + (size_t)first * (size_t)f->dims.n_embd,
	    .first = first,
	    .first_output = p->output_begin[index],
	    .n_outputs = p->output_begin[index + 1] - p->output_begin[index],
	    .n_single = clamp(p->n_single - first, n),
	};
}

static bool wants_logits(const struct hr_pass *p) { return p->n_outputs && !p->keep_states; }
static bool wants_all_rows(const struct hr_pass *p) { return p->keep_states && !p->n_outputs; }

static const struct hr_hparams *hparams(const struct hr_forward *f)
{
	return &f->o.model->checkpoint.hparams;
}

static int norm(struct hr_forward *f, float *y, const float *x, const struct hr_weight *w,
                const struct hr_weight *bias, int32_t n)
{
	const struct hr_ops_table *t = f->o.ops->table;
	const struct hr_hparams   *h = hparams(f);
	if (h->layer_norm)
		return t->layer_norm(f->o.ops, f->o.compute, y, x, w, bias, h->norm_eps, n);
	return t->rms_norm(f->o.ops, f->o.compute, y, x, w, h->norm_shift, h->norm_eps, n);
}

static struct hr_matmul product(const struct hr_weight *w, const struct hr_weight *bias, float *y,
                                int64_t stride, bool add)
{
	return (struct hr_matmul){.w = *w, .bias = *bias, .y = y, .y_stride = stride, .add = add};
}

/* ---- The beginning --------------------------------------------------------- */

/* The table of all embeddings, where it is on the device, or of the chunk's own rows. */
static int find_embeddings(struct hr_forward *f, const struct chunk *c, struct hr_weight *table,
                           struct hr_error *err)
{
	const struct hr_forward_options *o = &f->o;
	const struct hr_device_ops      *dev = o->device->ops;
	int                              n = c->batch.n_tokens, rc;
	*table = o->model->embedding.weight;
	if (!o->rows) {
		bool  tied = o->model->checkpoint.ends.head == o->model->checkpoint.ends.embedding;
		int   layer = o->head_layer + (tied ? 0 : f->n_head_layers + 1);
		void *base;
		rc = hr_window_acquire(o->window, layer, &base, err);
		if (!rc)
			*table = hr_weight_at(*table, base);
		return rc;
	}
	rc = hr__embedding_fetch(o->rows, f->pass.ids + c->first, n, f->host_table, f->row_ids, err);
	if (rc < 0)
		return rc;
	*table = (struct hr_weight){
	    .data = f->b.table, .type = hr__embedding_row_type(o->model), .rows = rc, .cols = table->cols};
	rc = dev->copy(o->compute, f->b.table, f->host_table, (size_t)rc * hr__embedding_row_bytes(o->model));
	if (!rc)
		rc = dev->copy(o->compute, f->b.ids + c->first, f->row_ids, (size_t)n * sizeof(int32_t));
	/* The next chunk's rows overwrite the host's side of these. */
	if (!rc && f->pass.n_chunks > 1 && !(rc = dev->event_record(f->end, o->compute)))
		rc = dev->event_wait(f->end);
	return rc ? hr__fail(err, rc, "The device failed while embeddings were copied to it.") : 0;
}

/* x += rows ids of a small table on the device. */
static int add_rows(struct hr_forward *f, const struct chunk *c, struct hr_weight table, int32_t skip,
                    const int32_t *ids)
{
	struct hr_ops *ops = f->o.ops;
	int32_t        n = c->batch.n_tokens;
	table = hr_weight_rows(table, skip, table.rows - skip);
	TRY(ops->table->embed(ops, f->o.compute, f->b.h, &table, 1, ids, n));
	return ops->table->add(ops, f->o.compute, c->x, f->b.h, (int64_t)n * f->dims.n_embd);
}

static int embed(struct hr_forward *f, const struct chunk *c, const struct hr_weight *table)
{
	struct hr_ops           *ops = f->o.ops;
	const struct hr_hparams *h = hparams(f);
	const struct hr_ends    *e = &f->ends;
	int32_t                  n = c->batch.n_tokens;
	TRY(ops->table->embed(ops, f->o.compute, c->x, table, h->embedding_scale, f->b.ids + c->first, n));
	if (e->position_embedding.rows)
		TRY(add_rows(f, c, e->position_embedding, h->position_offset, c->batch.pos));
	if (e->type_embedding.rows)
		TRY(add_rows(f, c, e->type_embedding, 0, f->b.types + c->first));
	if (e->embedding_norm.rows)
		TRY(norm(f, c->x, c->x, &e->embedding_norm, &e->embedding_norm_bias, n));
	return 0;
}

/* What follows from the outputs that the caller chose. */
static void describe_outputs(struct hr_pass *p)
{
	for (int i = 0; i < p->n_outputs; i++) {
		p->output_pos[i] = p->pos[p->outputs[i]];
		p->output_seq[i] = p->seq[p->outputs[i]];
	}
	for (int c = 0, i = 0; c <= p->n_chunks; c++) {
		while (i < p->n_outputs && p->outputs[i] < p->chunk_begin[c])
			i++;
		p->output_begin[c] = i;
	}
}

/* Put the ids of this pass on the device and their embeddings into x. */
static int embed_all(struct hr_forward *f, struct hr_error *err)
{
	describe_outputs(&f->pass);
	size_t bytes = hr__forward_int_count(&f->dims) * sizeof(int32_t);
	int    rc = f->o.device->ops->copy(f->o.compute, f->b.ids, f->pass.ids, bytes);
	if (rc)
		return hr__fail(err, rc, "The device failed while a batch was copied to it.");
	for (int i = 0; i < f->pass.n_chunks; i++) {
		struct chunk     c = chunk_of(f, i);
		struct hr_weight table;
		if ((rc = find_embeddings(f, &c, &table, err)))
			return rc;
		if ((rc = embed(f, &c, &table)))
			return hr__fail(err, rc, "The device failed while the embeddings were looked up.");
	}
	return 0;
}

/* ---- A block --------------------------------------------------------------- */

/* What a part of the block multiplies: a norm of x, or x itself where norms come behind. */
static float *input_of(const struct hr_forward *f, const struct chunk *c)
{
	return hparams(f)->norm_after ? c->x : f->b.h;
}

enum { Q, K, V };

/* Of q, k and v of the chunk those from `first` to `last`. */
static int project(struct hr_forward *f, const struct hr_block *w, const struct chunk *c, int first, int last)
{
	const float          *in = input_of(f, c);
	int32_t               n = c->batch.n_tokens;
	struct hr_ops        *ops = f->o.ops;
	struct hr_stream     *s = f->o.compute;
	const struct hr_dims *d = &f->dims;
	float                *out[] = {f->b.q, f->b.k, f->b.v};
	if (!hparams(f)->norm_after)
		TRY(norm(f, f->b.h, c->x, &w->attn_norm, &w->attn_norm_bias, n));
	if (!w->qkv.rows) {
		struct hr_matmul qkv[] = {
		    product(&w->q, &w->q_bias, out[Q], d->q_dim, false),
		    product(&w->k, &w->k_bias, out[K], d->kv_dim, false),
		    product(&w->v, &w->v_bias, out[V], d->kv_dim, false),
		};
		return ops->table->matmul(ops, s, qkv + first, last - first + 1, in, n, c->n_single);
	}
	struct hr_matmul qkv = product(&w->qkv, &w->qkv_bias, f->b.qkv, d->qkv_dim, false);
	TRY(ops->table->matmul(ops, s, &qkv, 1, in, n, c->n_single));
	for (int i = first; i <= last; i++)
		TRY(ops->table->gather_rows(ops, s, out[i], f->b.qkv + i * d->head_dim, f->b.thirds,
		                            n * hparams(f)->n_heads, d->head_dim));
	return 0;
}

/* Queries or keys of n_heads heads, normed and rotated, where the model does that. */
static int prepare(struct hr_forward *f, float *x, const struct hr_weight *norm_weight, int32_t n_heads,
                   int layer, const struct chunk *c)
{
	const struct hr_hparams      *h = hparams(f);
	static const struct hr_weight none;
	if (norm_weight->rows)
		TRY(norm(f, x, x, norm_weight, &none, c->batch.n_tokens * n_heads));
	if (!h->n_rot)
		return 0;
	bool slides = hr_layer_slides(h, layer);
	return f->o.ops->table->rope(f->o.ops, f->o.compute, x, n_heads * h->head_dim, n_heads, h->head_dim,
	                             h->rope_style, f->b.freqs[slides], h->n_rot / 2,
	                             hr__rope_magnitude(h, slides), &c->batch);
}

/* Where the keys and values of this layer are: in the cache, or, for an encoder, the chunk's own, which
 * are pages of one token each. */
static int keep_kv(struct hr_forward *f, int layer, const struct chunk *c, struct hr_kv_layer *kv)
{
	const struct hr_dims *d = &f->dims;
	if (d->encoder) {
		*kv = (struct hr_kv_layer){.k = f->b.k,
		                           .v = f->b.v,
		                           .type = HR_KV_F32,
		                           .n_kv_heads = d->kv_dim / d->head_dim,
		                           .head_dim = d->head_dim,
		                           .page_tokens = 1};
		return 0;
	}
	*kv = hr__kv_layer(f->o.kv, layer);
	return f->o.ops->table->kv_store(f->o.ops, f->o.compute, kv, f->b.k, d->kv_dim, f->b.v, d->kv_dim,
	                                 &c->batch);
}

/* From here on, the chunk is its outputs, in their place among those of the pass. */
static int narrow(struct hr_forward *f, struct chunk *c)
{
	int32_t n_embd = f->dims.n_embd;
	c->x = f->b.out + (size_t)c->first_output * (size_t)n_embd;
	c->batch.n_tokens = c->n_outputs;
	c->n_single = count_single(&f->pass, c->first_output, c->first_output + c->n_outputs);
	c->batch.pos = f->b.output_pos + c->first_output;
	c->batch.seq = f->b.output_seq + c->first_output;
	return f->o.ops->table->gather_rows(f->o.ops, f->o.compute, c->x, f->b.x, f->b.outputs + c->first_output,
	                                    c->n_outputs, n_embd);
}

/* attn = attention of the chunk, before the output projection. In the last block, only what is left of the
 * chunk has queries. */
static int attend(struct hr_forward *f, const struct hr_block *w, int layer, struct chunk *c)
{
	const struct hr_hparams *h = hparams(f);
	const struct hr_buffers *b = &f->b;
	bool                     narrows = layer == f->o.model->n_blocks - 1 && !wants_all_rows(&f->pass);
	bool                     all = !narrows || c->n_outputs == c->batch.n_tokens;
	struct hr_kv_layer       kv;
	TRY(project(f, w, c, all ? Q : K, V));
	TRY(prepare(f, b->k, &w->k_norm, h->n_kv_heads, layer, c));
	TRY(keep_kv(f, layer, c, &kv));
	if (narrows)
		TRY(narrow(f, c));
	if (!c->batch.n_tokens)
		return 0;
	if (!all)
		TRY(project(f, w, c, Q, Q));
	TRY(prepare(f, b->q, &w->q_norm, h->n_heads, layer, c));
	return f->o.ops->table->attention(f->o.ops, f->o.compute, b->attn, b->q, f->dims.q_dim, h->n_heads, &kv,
	                                  h->attention_scale, h->attention_soft_cap,
	                                  hr_layer_slides(h, layer) ? h->sliding_window : 0, &c->batch);
}

/* gate = act(gate(in)) * up(in), or act(up(in)): the feed-forward part before its output projection. */
static int feed_forward(struct hr_forward *f, const struct hr_block *w, const float *in,
                        const struct chunk *c)
{
	struct hr_ops                *ops = f->o.ops;
	const struct hr_ops_table    *t = ops->table;
	const struct hr_buffers      *b = &f->b;
	static const struct hr_weight none;
	bool                          gated = w->gate.rows != 0;
	int32_t                       n = c->batch.n_tokens;
	int64_t                       n_ff = f->dims.n_ff;
	struct hr_matmul              products[2];
	int                           n_products = 0;
	TRY(hr__hold_step(&f->hold, HR_STEP_UP));
	products[n_products++] = product(&w->up, &w->up_bias, gated ? b->up : b->gate, n_ff, false);
	if (gated && !hr__hold_reaches(&f->hold, HR_STEP_GATE)) {
		TRY(t->matmul(ops, f->o.compute, products, n_products, in, n, c->n_single));
		TRY(hr__hold_step(&f->hold, HR_STEP_GATE));
		n_products = 0;
	}
	if (gated)
		products[n_products++] = product(&w->gate, &none, b->gate, n_ff, false);
	TRY(t->matmul(ops, f->o.compute, products, n_products, in, n, c->n_single));
	return t->activate(ops, f->o.compute, hparams(f)->activation, b->gate, b->gate, gated ? b->up : NULL,
	                   n * n_ff);
}

/* x += W in, or x += norm(W in) */
static int add_residual(struct hr_forward *f, const struct chunk *c, const struct hr_weight *w,
                        const struct hr_weight *bias, const struct hr_weight *post_norm, const float *in)
{
	struct hr_ops                *ops = f->o.ops;
	int32_t                       n = c->batch.n_tokens, n_embd = f->dims.n_embd;
	static const struct hr_weight none;
	bool                          normed = post_norm->rows != 0;
	struct hr_matmul              out = product(w, bias, normed ? f->b.h : c->x, n_embd, !normed);
	TRY(ops->table->matmul(ops, f->o.compute, &out, 1, in, n, c->n_single));
	if (!normed)
		return 0;
	TRY(norm(f, f->b.h, f->b.h, post_norm, &none, n));
	return ops->table->add(ops, f->o.compute, c->x, f->b.h, (int64_t)n * n_embd);
}

static int compute_block(struct hr_forward *f, int layer, struct chunk *c)
{
	const struct hr_hparams *h = hparams(f);
	const struct hr_block   *w = &f->hold.block;
	TRY(attend(f, w, layer, c));
	float  *x = c->x, *in = input_of(f, c);
	int32_t n = c->batch.n_tokens;
	if (!n) /* of this chunk, nothing was wanted */
		return 0;
	if (h->parallel && w->ffn_norm.rows) /* else the two parts share a norm */
		TRY(norm(f, in, x, &w->ffn_norm, &w->ffn_norm_bias, n));
	TRY(hr__hold_step(&f->hold, HR_STEP_O));
	TRY(add_residual(f, c, &w->o, &w->o_bias, &w->attn_post_norm, f->b.attn));
	if (h->norm_after)
		TRY(norm(f, x, x, &w->attn_norm, &w->attn_norm_bias, n));
	else if (!h->parallel)
		TRY(norm(f, in, x, &w->ffn_norm, &w->ffn_norm_bias, n));
	TRY(feed_forward(f, w, in, c));
	TRY(hr__hold_step(&f->hold, HR_STEP_DOWN));
	TRY(add_residual(f, c, &w->down, &w->down_bias, &w->ffn_post_norm, f->b.gate));
	return h->norm_after ? norm(f, x, x, &w->ffn_norm, &w->ffn_norm_bias, n) : 0;
}

/* ---- The end --------------------------------------------------------------- */

/* out = norm(out) */
static int norm_outputs(struct hr_forward *f)
{
	const struct hr_weight *w = &f->ends.final_norm;
	return w->rows ? norm(f, f->b.out, f->b.out, w, &f->ends.final_norm_bias, f->pass.n_outputs) : 0;
}

/* Rows [first, first + w->rows) of the logits of outputs [begin, begin + n); in[n][n_embd]. */
static int multiply_head(struct hr_forward *f, const struct hr_weight *w, int32_t first, const float *in,
                         int begin, int n)
{
	struct hr_weight bias = f->ends.head_bias;
	if (bias.rows) {
		bias.data = (const char *)bias.data + (size_t)first * hr_type_info(bias.type)->block_bytes;
		bias.cols = w->rows;
	}
	float           *logits = f->b.logits + (size_t)begin * (size_t)f->dims.n_logits;
	struct hr_matmul head = product(w, &bias, logits + first, f->dims.n_logits, false);
	return f->o.ops->table->matmul(f->o.ops, f->o.compute, &head, 1, in, n,
	                               count_single(&f->pass, begin, begin + n));
}

/* Parts [part, part + n) of the head, of which `weights` holds the first row and all that follow. A
 * resident head is multiplied in the parts that a streamed one comes in: cuBLAS gives equal bits for
 * equal calls. */
static int multiply_head_parts(struct hr_forward *f, int part, int n, struct hr_weight w)
{
	const struct hr_matrix_layer *parts = f->o.model->head_parts;
	for (int i = part; i < part + n; i++) {
		w = hr_weight_rows(w, 0, parts[i].weight.rows);
		TRY(multiply_head(f, &w, parts[i].first_row, f->b.out, 0, f->pass.n_outputs));
		w = hr_weight_rows(w, w.rows, 0);
	}
	return 0;
}

static int compute_head(struct hr_forward *f, int part)
{
	const struct hr_model *m = f->o.model;
	bool                   whole = f->n_head_layers == 1;
	void                  *weights;
	TRY(hr__hold_layer(&f->hold, f->o.head_layer + part, &weights));
	if (!wants_logits(&f->pass)) /* the order of a pass never varies */
		return 0;
	struct hr_weight w = hr_weight_at(whole ? m->head.weight : m->head_parts[part].weight, weights);
	if (part == 0)
		TRY(norm_outputs(f));
	TRY(multiply_head_parts(f, part, whole ? m->n_head_parts : 1, w));
	float cap = hparams(f)->logit_soft_cap;
	if (cap > 0 && part == f->n_head_layers - 1)
		return f->o.ops->table->soft_cap(f->o.ops, f->o.compute, f->b.logits, cap,
		                                 (int64_t)f->pass.n_outputs * f->dims.n_logits);
	return 0;
}

/* The labels of outputs [begin, begin + n). */
static int classify_some(struct hr_forward *f, int begin, int32_t n)
{
	struct hr_ops        *ops = f->o.ops;
	const struct hr_ends *e = &f->ends;
	const float          *in = f->b.out + (size_t)begin * (size_t)f->dims.n_embd;
	if (e->dense.rows) {
		struct hr_matmul dense = product(&e->dense, &e->dense_bias, f->b.dense, f->dims.n_embd, false);
		TRY(ops->table->matmul(ops, f->o.compute, &dense, 1, in, n, 0));
		TRY(ops->table->activate(ops, f->o.compute, hparams(f)->dense_activation, f->b.dense, f->b.dense,
		                         NULL, (int64_t)n * f->dims.n_embd));
		in = f->b.dense;
	}
	return multiply_head(f, &e->head, 0, in, begin, n);
}

/* An encoder's head, whose small weights are always at hand. A pass may have more texts than a chunk
 * has tokens, which is what the operations have room for. */
static int classify(struct hr_forward *f)
{
	int n = f->pass.n_outputs, most = f->dims.n_batch;
	TRY(norm_outputs(f));
	for (int begin = 0; begin < n; begin += most)
		TRY(classify_some(f, begin, n - begin < most ? n - begin : most));
	return 0;
}

/* ---- The pass -------------------------------------------------------------- */

/* Compute layer `i` of the pass: a block, or the head or a part of it. Only encoders have several chunks, and
 * their blocks are not in pieces: a second chunk would want the first one again. */
static int compute_layer(struct hr_forward *f, int i)
{
	if (i >= f->o.model->n_blocks)
		return compute_head(f, i - f->o.model->n_blocks);
	TRY(hr__hold_block(&f->hold, i));
	assert(f->pass.n_chunks <= 1 || f->o.parts[i].n_pieces == 1);
	for (int c = 0; c < f->pass.n_chunks; c++) {
		struct chunk chunk = chunk_of(f, c);
		TRY(compute_block(f, i, &chunk));
	}
	return hr__hold_rest(&f->hold);
}

/* The logits on their way to the host, or, where they are enough, the largest of them: a few bytes
 * instead of four for every word of the vocabulary. */
static int fetch_logits(struct hr_forward *f)
{
	const struct hr_device_ops *dev = f->o.device->ops;
	struct hr_ops              *ops = f->o.ops;
	struct hr_pass             *p = &f->pass;
	size_t                      n = (size_t)p->n_outputs;
	if (!ops->table->top)
		p->n_top = 0;
	if (!p->n_top)
		return dev->copy(f->o.compute, p->logits, f->b.logits, n * (size_t)f->dims.n_logits * sizeof(float));
	TRY(ops->table->top(ops, f->o.compute, f->b.top, f->b.logits, p->n_outputs, f->dims.n_logits, p->n_top));
	return dev->copy(f->o.compute, p->top, f->b.top, n * (size_t)p->n_top * sizeof *p->top);
}

/* The last layer's output on its way to the host, if that can't see it where it is. */
static int fetch_states(struct hr_forward *f)
{
	struct hr_pass *p = &f->pass;
	bool            all = wants_all_rows(p);
	size_t          n = (size_t)(all ? p->n_tokens : p->n_outputs);
	p->states = all ? f->b.x : f->b.out;
	if (!f->host_states)
		return 0;
	TRY(f->o.device->ops->copy(f->o.compute, f->host_states, p->states,
	                           n * (size_t)f->dims.n_embd * sizeof(float)));
	p->states = f->host_states;
	return 0;
}

/* The results on their way to the host. */
static int fetch_results(struct hr_forward *f)
{
	const struct hr_device_ops *dev = f->o.device->ops;
	const struct hr_pass       *p = &f->pass;
	if (p->keep_states)
		TRY(fetch_states(f));
	if (wants_logits(p) && f->dims.encoder)
		TRY(classify(f));
	if (wants_logits(p))
		TRY(fetch_logits(f));
	TRY(dev->event_record(f->end, f->o.compute));
	return dev->event_wait(f->end);
}

static int run_pass(struct hr_forward *f, struct hr_error *err)
{
	const struct hr_forward_options *o = &f->o;
	int                              n_layers = o->model->n_blocks + f->n_head_layers;
	void                            *globals;
	int rc = hr_window_acquire(o->window, o->head_layer + f->n_head_layers, &globals, err);
	if (rc)
		return rc;
	f->ends = hr_ends_at(&o->model->ends, globals);
	if (!f->ends.dense.rows)
		f->ends.dense = f->random_dense;
	if (!f->ends.head.rows)
		f->ends.head = f->random_head;
	rc = embed_all(f, err);
	if (rc)
		return rc;
	for (int i = 0; i < n_layers; i++) {
		rc = compute_layer(f, i);
		hr__hold_end(&f->hold);
		if (f->hold.told)
			return rc;
		if (rc)
			return hr__fail(err, rc, "%s: layer %d of the pass could not be computed (%s).",
			                o->model->checkpoint.path, i, hr_error_text(rc));
	}
	rc = fetch_results(f);
	return rc ? hr__fail(err, rc, "The device failed in the middle of a pass.") : 0;
}

int hr__forward_run(struct hr_forward *f, struct hr_error *err)
{
	char name[48];
	hr__hold_init(&f->hold, f->o.window, f->o.parts, err);
	snprintf(name, sizeof name, "of %d tokens", f->pass.n_tokens);
	uint64_t mark = hr_device_mark_begin(f->o.device, "pass", name);
	int      rc = run_pass(f, err);
	hr_device_mark_end(f->o.device, mark);
	return rc;
}
