/* Opening a forward pass: its memory, and what never changes between passes.
 *
 * All device memory is one arena that is laid out once (lay_out), with the same
 * code that tells the planner how large it will be. The host's side of a pass is one
 * pinned block; its ints lie as on the device, so that one copy brings them there. */
#include "runtime/forward_memory.h"

#include "base/error.h"
#include "base/mem.h"

#include <math.h>

#define ARENA_ALIGN 256

/* ---- Sizes ----------------------------------------------------------------- */

static int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

static struct hr_dims dims_of(const struct hr_plan *plan)
{
	const struct hr_checkpoint *c = &plan->model->checkpoint;
	const struct hr_hparams    *h = &c->hparams;
	struct hr_dims              d = {
	                 .n_pass = plan->n_pass,
	                 .n_batch = plan->info.n_batch,
	                 .n_seqs = h->encoder ? plan->info.n_batch : plan->info.n_seqs,
	                 .n_outputs = plan->max_outputs,
	                 .max_pages = h->encoder ? 1 : hr__kv_pages_for(plan->info.n_ctx),
	                 .n_embd = h->n_embd,
	                 .n_ff = h->n_ff,
	                 .n_logits = h->encoder ? h->n_labels : h->n_vocab,
	                 .head_dim = h->head_dim,
	                 .q_dim = h->n_heads * h->head_dim,
	                 .kv_dim = h->n_kv_heads * h->head_dim,
	                 .encoder = h->encoder,
	                 .gated = c->blocks[0].gate >= 0,
	                 .by_heads = c->blocks[0].qkv >= 0,
	                 .dense = c->ends.dense >= 0 || plan->random_head,
	                 .random_head = plan->random_head,
    };
	d.qkv_dim = d.q_dim + 2 * d.kv_dim;
	d.max_cols = larger(larger(d.n_embd, d.n_ff), d.q_dim);
	d.max_rows = larger(larger(d.max_cols, d.n_logits), d.qkv_dim);
	return d;
}

size_t hr__embedding_row_bytes(const struct hr_model *m)
{
	return hr_type_row_bytes(hr_type_info(hr__embedding_row_type(m)), (uint64_t)m->embedding.weight.cols);
}

size_t hr__forward_int_count(const struct hr_dims *d)
{
	size_t per_token = d->encoder ? 5 : 3;
	return per_token * (size_t)d->n_pass + 3 * (size_t)d->n_outputs +
	       (size_t)d->n_seqs * (size_t)d->max_pages;
}

/* Split the int block at `ints` into its arrays. */
static void split_ints(const struct hr_dims *d, int32_t *ints, int32_t **arrays[9])
{
	size_t    n = (size_t)d->n_pass, encoder = d->encoder ? n : 0, out = (size_t)d->n_outputs;
	size_t    counts[9] = {n, n, n, encoder, encoder, out, out, out, 0};
	uintptr_t at = (uintptr_t)ints; /* 0 while only sizes are asked for */
	for (int i = 0; i < 9; i++) {
		*arrays[i] = (int32_t *)at;
		at += counts[i] * sizeof *ints;
	}
}

static void *take(uintptr_t *at, size_t bytes)
{
	void *p = (void *)*at;
	*at += hr__align_up(bytes, ARENA_ALIGN);
	return p;
}

static bool has_top(const struct hr_ops *ops) { return ops->table->top != NULL; }

/* Lay the arena out from address `at`; returns its end. */
static uintptr_t lay_out(struct hr_buffers *b, const struct hr_plan *plan, const struct hr_ops *ops,
                         uintptr_t at)
{
	const struct hr_hparams *h = &plan->model->checkpoint.hparams;
	struct hr_dims           d = dims_of(plan);
	size_t                   n = (size_t)d.n_batch, out = (size_t)d.n_outputs, f = sizeof(float);
	b->x = take(&at, (size_t)d.n_pass * (size_t)d.n_embd * f);
	b->h = take(&at, n * (size_t)d.n_embd * f);
	b->q = take(&at, n * (size_t)d.q_dim * f);
	b->k = take(&at, n * (size_t)d.kv_dim * f);
	b->v = take(&at, n * (size_t)d.kv_dim * f);
	b->qkv = take(&at, d.by_heads ? n * (size_t)d.qkv_dim * f : 0);
	b->attn = take(&at, n * (size_t)d.q_dim * f);
	b->gate = take(&at, n * (size_t)d.n_ff * f);
	b->up = take(&at, d.gated ? n * (size_t)d.n_ff * f : 0);
	b->out = take(&at, out * (size_t)d.n_embd * f);
	b->dense = take(&at, d.dense ? out * (size_t)d.n_embd * f : 0);
	b->logits = take(&at, out * (size_t)d.n_logits * f);
	b->top = take(&at, has_top(ops) ? out * HR_TOP_MAX * sizeof *b->top : 0);
	for (int i = 0; i < 2; i++)
		b->freqs[i] = take(&at, (size_t)h->n_rot / 2 * f);
	b->table = take(&at, n * hr__embedding_row_bytes(plan->model));
	int32_t *ints = take(&at, hr__forward_int_count(&d) * sizeof(int32_t));
	split_ints(&d, ints,
	           (int32_t * *[]){&b->ids, &b->pos, &b->seq, &b->types, &b->length, &b->outputs, &b->output_pos,
	                           &b->output_seq, &b->page_table});
	b->thirds = take(&at, d.by_heads ? n * (size_t)h->n_heads * sizeof(int32_t) : 0);
	size_t width = d.random_head ? (size_t)d.n_embd * f : 0;
	b->random_dense = take(&at, (size_t)d.n_embd * width);
	b->random_head = take(&at, (size_t)d.n_logits * width);
	b->workspace = take(&at, ops->table->workspace_bytes(ops, d.n_batch, d.max_rows, d.max_cols));
	return at;
}

uint64_t hr__forward_bytes(const struct hr_plan *plan, const struct hr_ops *ops)
{
	struct hr_buffers ignored;
	return lay_out(&ignored, plan, ops, 0);
}

/* ---- Opening --------------------------------------------------------------- */

/* Copy and wait; `from` may be freed afterwards. */
static int upload(struct hr_forward *f, void *to, const void *from, size_t bytes, struct hr_error *err)
{
	const struct hr_device_ops *dev = f->o.device->ops;
	int                         rc = bytes ? dev->copy(f->o.compute, to, from, bytes) : 0;
	if (!rc)
		rc = dev->event_record(f->end, f->o.compute);
	if (!rc)
		rc = dev->event_wait(f->end);
	return rc ? hr__fail(err, rc, "The device failed while tables were copied to it.") : 0;
}

static int upload_freqs(struct hr_forward *f, struct hr_error *err)
{
	const struct hr_checkpoint *c = &f->o.model->checkpoint;
	size_t                      n = (size_t)c->hparams.n_rot / 2, bytes = n * sizeof(float);
	float                      *freqs = hr__calloc(2 * n + 1, sizeof *freqs), *factors = freqs + n;
	int rc = freqs ? 0 : hr__fail(err, HR_ENOMEM, "Out of memory for the rotary frequencies.");
	if (!rc && c->ends.rope_factors >= 0) {
		const struct hr_tensor *t = &c->tensors[c->ends.rope_factors];
		rc = hr_file_read_exact(t->file, t->offset, factors, bytes, err);
	}
	for (int sliding = 0; sliding < 2 && !rc; sliding++) {
		hr__rope_freqs(&c->hparams, c->ends.rope_factors >= 0 ? factors : NULL, f->o.plan->info.n_ctx,
		               sliding, freqs);
		rc = upload(f, f->b.freqs[sliding], freqs, bytes, err);
	}
	free(freqs);
	return rc;
}

static int upload_thirds(struct hr_forward *f, struct hr_error *err)
{
	size_t n = (size_t)f->dims.n_batch * (size_t)f->o.model->checkpoint.hparams.n_heads;
	if (!f->dims.by_heads)
		return 0;
	int32_t *thirds = hr__calloc(n, sizeof *thirds);
	if (!thirds)
		return hr__fail(err, HR_ENOMEM, "Out of memory for the rows of %zu heads.", n);
	for (size_t i = 0; i < n; i++)
		thirds[i] = (int32_t)(3 * i);
	int rc = upload(f, f->b.thirds, thirds, n * sizeof *thirds, err);
	free(thirds);
	return rc;
}

/* Normally distributed weights of deviation 0.02, as Transformers initialises them; always the same ones. */
static int upload_random(struct hr_forward *f, float *to, int32_t rows, struct hr_weight *w,
                         struct hr_error *err)
{
	size_t   n = (size_t)rows * (size_t)f->dims.n_embd;
	float   *values = hr__calloc(n, sizeof *values);
	uint64_t state = 0x9e3779b97f4a7c15u + (uint64_t)rows;
	if (!values)
		return hr__fail(err, HR_ENOMEM, "Out of memory for a classifier of random weights.");
	for (size_t i = 0; i < n; i++) {
		double uniform[2];
		for (int k = 0; k < 2; k++) {
			state = state * 6364136223846793005u + 1442695040888963407u;
			uniform[k] = ((double)(state >> 11) + 0.5) * 0x1p-53;
		}
		values[i] = (float)(0.02 * sqrt(-2 * log(uniform[0])) * cos(2 * M_PI * uniform[1]));
	}
	*w = (struct hr_weight){.data = to, .type = HR_TYPE_F32, .rows = rows, .cols = f->dims.n_embd};
	int rc = upload(f, to, values, n * sizeof *values, err);
	free(values);
	return rc;
}

/* Fill in what a classifier lacks. */
static int make_random_head(struct hr_forward *f, struct hr_error *err)
{
	int rc = 0;
	if (!f->dims.random_head)
		return 0;
	if (!f->o.model->ends.dense.rows)
		rc = upload_random(f, f->b.random_dense, f->dims.n_embd, &f->random_dense, err);
	if (!rc && !f->o.model->ends.head.rows)
		rc = upload_random(f, f->b.random_head, f->dims.n_logits, &f->random_head, err);
	return rc;
}

/* The host side of a pass: ints, logits, embedding rows and states in one pinned block. */
static uintptr_t lay_out_host(struct hr_forward *f, uintptr_t at)
{
	const struct hr_dims *d = &f->dims;
	struct hr_pass       *p = &f->pass;
	bool                  copies_states = d->encoder && !f->o.device->host_addressable;
	int32_t              *ints = take(&at, hr__forward_int_count(d) * sizeof(int32_t));
	split_ints(d, ints,
	           (int32_t * *[]){&p->ids, &p->pos, &p->seq, &p->types, &p->length, &p->outputs, &p->output_pos,
	                           &p->output_seq, &p->page_table});
	f->row_ids = take(&at, (size_t)d->n_batch * sizeof(int32_t));
	p->chunk_begin = take(&at, ((size_t)d->n_pass + 1) * sizeof(int32_t));
	p->output_begin = take(&at, ((size_t)d->n_pass + 1) * sizeof(int32_t));
	p->logits = take(&at, (size_t)d->n_outputs * (size_t)d->n_logits * sizeof(float));
	p->top = take(&at, has_top(f->o.ops) ? (size_t)d->n_outputs * HR_TOP_MAX * sizeof *p->top : 0);
	f->host_table = take(&at, (size_t)d->n_batch * hr__embedding_row_bytes(f->o.model));
	if (copies_states)
		f->host_states = take(&at, (size_t)d->n_pass * (size_t)d->n_embd * sizeof(float));
	return at;
}

static int open_host_side(struct hr_forward *f, struct hr_error *err)
{
	int rc = hr_hostmem_init(&f->host, lay_out_host(f, 0), f->o.device->numa_node, err);
	if (!rc)
		rc = f->o.device->ops->pin(f->o.device, f->host.base, f->host.bytes, err);
	if (rc)
		return rc;
	f->pinned = true;
	lay_out_host(f, (uintptr_t)f->host.base);
	f->pass.max_pages = f->dims.max_pages;
	for (int i = 0; i < f->dims.n_batch && f->dims.encoder; i++)
		f->pass.page_table[i] = i;
	return 0;
}

int hr__forward_open(struct hr_forward **out, const struct hr_forward_options *o, struct hr_error *err)
{
	struct hr_forward *f = hr__calloc(1, sizeof *f);
	if (!f)
		return hr__fail(err, HR_ENOMEM, "Out of memory for the forward pass.");
	f->o = *o;
	f->dims = dims_of(o->plan);
	f->n_head_layers =
	    o->plan->placement.head_tier == HR_TIER_DEVICE && o->model->n_head_parts ? 1 : o->model->n_head_parts;
	uint64_t bytes = hr__forward_bytes(o->plan, o->ops);
	int      rc = o->device->ops->alloc(o->device, &f->arena, bytes, err);
	if (!rc)
		rc = o->device->ops->event_new(o->device, &f->end, err);
	if (rc)
		goto done;
	uintptr_t end = lay_out(&f->b, o->plan, o->ops, (uintptr_t)f->arena);
	o->ops->workspace = f->b.workspace;
	o->ops->workspace_bytes = end - (uintptr_t)f->b.workspace;
	rc = open_host_side(f, err);
	if (!rc)
		rc = upload_freqs(f, err);
	if (!rc)
		rc = upload_thirds(f, err);
	if (!rc)
		rc = make_random_head(f, err);
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
	/* A pass that failed on the host may still be computing in this memory. */
	if (f->end && !dev->event_record(f->end, f->o.compute))
		dev->event_wait(f->end);
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
