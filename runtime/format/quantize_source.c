/* What the GGUF of a model consists of, and where its elements come from.
 *
 * A GGUF's tensors are taken as they stand. Those of a Hugging Face directory get GGUF's names, by
 * the family's tables, and the form that llama.cpp's converter gives them:
 *   llama     rows of q and k reordered, for RoPE there turns neighbours instead of halves
 *   gpt_neox  q, k and v of each head taken apart
 *   gpt2      matrices transposed, which are stored by columns
 *   gemma     1 added to the weights of norms
 *   roberta, opt   positions that no token has left out
 *   Llama 3's scaling of RoPE becomes a tensor of factors, and the lists of longrope two
 * All of this moves whole rows (or columns), so that any part of a tensor can be made on its own. */
#include "runtime/format/quantize.h"

#include "base/error.h"
#include "base/mem.h"
#include "runtime/family/family.h"
#include "runtime/format/f8.h"

#include <math.h>
#include <stdio.h>

/* ---- The list ------------------------------------------------------------------- */

static int fail_memory(const struct hr_checkpoint *c, struct hr_error *err)
{
	return hr__fail(err, HR_ENOMEM, "%s: there is no memory for a list of its tensors.", c->path);
}

static struct hr_output *add(struct hr_outputs *list, const char *name)
{
	if (list->n == list->capacity) {
		int               capacity = 2 * list->capacity + 64;
		struct hr_output *larger = reallocarray(list->items, (size_t)capacity, sizeof *larger);
		if (!larger)
			return NULL;
		list->items = larger;
		list->capacity = capacity;
	}
	struct hr_output *o = &list->items[list->n++];
	*o = (struct hr_output){0};
	snprintf(o->name, sizeof o->name, "%s", name);
	return o;
}

/* The shape as rows, once it is known. */
static void set_rows(struct hr_output *o)
{
	o->n_rows = 1;
	o->cols = o->shape[o->n_dims - 1];
	for (int i = 0; i < o->n_dims - 1; i++)
		o->n_rows *= o->shape[i];
	if (o->n_dims == 1 && o->order != HR_ROWS_AS_THEY_ARE) {
		o->n_rows = o->cols;
		o->cols = 1;
	}
}

static void set_source(struct hr_output *o, const struct hr_tensor *t)
{
	o->source = t;
	o->n_dims = t->n_dims;
	memcpy(o->shape, t->shape, sizeof o->shape);
	if (o->order == HR_ROWS_COLUMNS) {
		o->shape[0] = t->shape[1];
		o->shape[1] = t->shape[0];
	}
	set_rows(o);
}

static int list_gguf(struct hr_outputs *list, const struct hr_checkpoint *c, struct hr_error *err)
{
	for (int i = 0; i < c->n_tensors; i++) {
		struct hr_output *o =
		    strlen(c->tensors[i].name) < sizeof o->name ? add(list, c->tensors[i].name) : NULL;
		if (!o)
			return fail_memory(c, err);
		set_source(o, &c->tensors[i]);
		o->type = c->tensors[i].type;
	}
	return 0;
}

/* ---- Out of a Hugging Face directory ---------------------------------------------- */

struct listing {
	struct hr_outputs          *list;
	const struct hr_checkpoint *c;
	const struct hr_family     *family;
	bool                        rotates_neighbours; /* the family, in a GGUF */
	struct hr_error            *err;
};

/* A view is a part of a tensor, which is what a GGUF has as a whole. */
static const struct hr_tensor *whole_tensor(const struct hr_checkpoint *c, int index)
{
	for (int i = 0; index >= c->n_tensors && i < c->n_tensors; i++)
		if (!strcmp(c->tensors[i].name, c->tensors[index].name))
			return &c->tensors[i];
	return &c->tensors[index];
}

static bool is_field(const struct hr_role *role, size_t weight, size_t bias)
{
	return role->field == weight || role->field == bias;
}

#define FIELD(f) offsetof(struct hr_block_tensors, f)

/* How the rows of a block's weight change. */
static void set_order(const struct listing *l, const struct hr_role *role, struct hr_output *o)
{
	const struct hr_hparams *h = &l->c->hparams;
	bool is_q = is_field(role, FIELD(q), FIELD(q_bias)), is_k = is_field(role, FIELD(k), FIELD(k_bias));
	o->head_dim = h->head_dim;
	o->n_heads = is_k ? h->n_kv_heads : h->n_heads;
	if (role->hf_by_columns)
		o->order = HR_ROWS_COLUMNS;
	else if (!role->hf)
		o->order = HR_ROWS_HEADS_APART;
	else if (l->rotates_neighbours && !role->whole && (is_q || is_k))
		o->order = HR_ROWS_ROTATED_PAIRS;
}

static int add_weight(const struct listing *l, const struct hr_role *role, const char *name, int index,
                      bool in_block)
{
	if (l->list->n && !strcmp(l->list->items[l->list->n - 1].name, name))
		return 0; /* another part of the same tensor */
	struct hr_output *o = add(l->list, name);
	if (!o)
		return fail_memory(l->c, l->err);
	if (in_block)
		set_order(l, role, o);
	set_source(o, whole_tensor(l->c, index));
	if (strstr(name, "norm.weight"))
		o->shift = l->c->hparams.norm_shift;
	bool is_positions = !strcmp(name, "position_embd.weight");
	bool stays_float = o->n_dims == 1 || is_positions || !strcmp(name, "token_types.weight");
	if (is_positions) {
		o->first_row = (uint64_t)l->c->hparams.position_offset;
		o->shape[0] -= o->first_row;
		set_rows(o);
	}
	bool has_no_id = hr_type_info(o->source->type)->gguf_id < 0;
	o->type = has_no_id || (stays_float && hr_type_is_float(o->source->type)) ? HR_TYPE_F32 : o->source->type;
	return 0;
}

/* The tensor that `role` of a block comes from, -1: none. What GGUF has apart may be one weight by heads. */
static int block_tensor(const struct hr_block_tensors *b, const struct hr_role *role)
{
	int index = *(const int *)((const char *)b + role->field);
	if (index < 0 && !role->hf && role->whole == HR_DIM_QKV)
		index = role->rows ? b->qkv : b->qkv_bias;
	return index;
}

static int add_blocks(const struct listing *l)
{
	int rc = 0;
	for (int i = 0; i < l->c->hparams.n_layers && !rc; i++)
		for (const struct hr_role *role = l->family->block_roles; (role->gguf || role->hf) && !rc; role++) {
			char name[64];
			int  index = block_tensor(&l->c->blocks[i], role);
			if (!role->gguf || index < 0)
				continue;
			snprintf(name, sizeof name, HR_GGUF_BLOCK "%s", i, role->gguf);
			rc = add_weight(l, role, name, index, true);
		}
	return rc;
}

static int add_end(const struct listing *l, const struct hr_role *role)
{
	int index = *(const int *)((const char *)&l->c->ends + role->field);
	if (!role->gguf || index < 0 || (role->feature == HR_HEAD && l->c->hparams.tied))
		return 0;
	return add_weight(l, role, role->gguf, index, false);
}

static int add_values(const struct listing *l, const char *name, const float *values, int n)
{
	struct hr_output *o = add(l->list, name);
	if (!o)
		return fail_memory(l->c, l->err);
	o->values = values;
	o->n_dims = 1;
	o->shape[0] = (uint64_t)n;
	o->type = HR_TYPE_F32;
	set_rows(o);
	return 0;
}

/* What each frequency is divided by, after Transformers' _compute_llama3_parameters(). */
static int add_rope_factors(const struct listing *l)
{
	const struct hr_hparams *h = &l->c->hparams;
	int                      n = h->n_rot / 2;
	if (h->rope_scaling == HR_ROPE_SCALING_LONGROPE) {
		int rc = add_values(l, "rope_factors_long.weight", h->rope_long, n);
		return rc ? rc : add_values(l, "rope_factors_short.weight", h->rope_short, n);
	}
	if (h->rope_scaling != HR_ROPE_SCALING_LLAMA3)
		return 0;
	float *factors = l->list->rope_factors = hr__calloc((size_t)n, sizeof *factors);
	if (!factors)
		return fail_memory(l->c, l->err);
	double context = h->rope_original_context, low = h->rope_low_freq_factor, high = h->rope_high_freq_factor;
	for (int i = 0; i < n; i++) {
		double length = 2 * M_PI * pow((double)h->rope_theta, 2.0 * i / h->n_rot);
		double smooth = (context / length - low) / (high - low);
		smooth = smooth < 0 ? 0 : smooth > 1 ? 1 : smooth;
		factors[i] = (float)(1 / ((1 - smooth) / (double)h->rope_factor + smooth));
	}
	return add_values(l, "rope_freqs.weight", factors, n);
}

static int list_hf(struct hr_outputs *list, const struct hr_checkpoint *c, struct hr_error *err)
{
	struct listing l = {.list = list, .c = c, .family = hr_family_of_name(c->hparams.family), .err = err};
	const char    *arch = hr_family_gguf_arch(l.family);
	l.rotates_neighbours = !strcmp(arch, "llama");
	int rc = add_end(&l, l.family->end_roles);
	for (const struct hr_role *role = l.family->end_roles + 1; (role->gguf || role->hf) && !rc; role++)
		if (role->field == offsetof(struct hr_end_tensors, position_embedding))
			rc = add_end(&l, role);
	if (!rc)
		rc = add_rope_factors(&l);
	if (!rc)
		rc = add_blocks(&l);
	for (const struct hr_role *role = l.family->end_roles + 1; (role->gguf || role->hf) && !rc; role++)
		if (role->field != offsetof(struct hr_end_tensors, position_embedding))
			rc = add_end(&l, role);
	return rc;
}

int hr__outputs_list(struct hr_outputs *out, const struct hr_checkpoint *c, struct hr_error *err)
{
	struct hr_outputs list = {0};
	int               rc = c->is_gguf ? list_gguf(&list, c, err) : list_hf(&list, c, err);
	if (rc)
		hr__outputs_release(&list);
	else
		*out = list;
	return rc;
}

void hr__outputs_release(struct hr_outputs *list)
{
	free(list->rope_factors);
	free(list->items);
	*list = (struct hr_outputs){0};
}

/* ---- Elements ------------------------------------------------------------------- */

/* The row of the source that row `r` of the result is. */
static uint64_t source_row(const struct hr_output *o, uint64_t r)
{
	if (o->order == HR_ROWS_AS_THEY_ARE)
		return o->first_row + r;
	uint64_t dim = (uint64_t)o->head_dim, heads = (uint64_t)o->n_heads, head = r / dim, i = r % dim;
	if (o->order == HR_ROWS_ROTATED_PAIRS)
		return head * dim + i % 2 * (dim / 2) + i / 2;
	return (head % heads * 3 + head / heads) * dim + i;
}

static int read_rows(const struct hr_output *o, uint64_t first, uint64_t n, uint8_t *raw,
                     struct hr_error *err)
{
	const struct hr_tensor *t = o->source;
	size_t                  bytes = hr_type_row_bytes(hr_type_info(t->type), o->cols);
	int                     rc = 0;
	if (o->order == HR_ROWS_AS_THEY_ARE)
		return hr_file_read_exact(t->file, t->offset + source_row(o, first) * bytes, raw, (size_t)n * bytes,
		                          err);
	for (uint64_t r = 0; r < n && !rc; r++)
		rc = hr_file_read_exact(t->file, t->offset + source_row(o, first + r) * bytes, raw + r * bytes, bytes,
		                        err);
	return rc;
}

static int read_columns(const struct hr_output *o, uint64_t first, uint64_t n, uint8_t *raw, float *out,
                        struct hr_error *err)
{
	const struct hr_tensor    *t = o->source;
	const struct hr_type_info *type = hr_type_info(t->type);
	size_t                     bytes = (size_t)n * type->block_bytes;
	for (uint64_t col = 0; col < o->cols; col++) {
		int rc = hr_file_read_exact(t->file, t->offset + (col * o->n_rows + first) * type->block_bytes, raw,
		                            bytes, err);
		if (rc)
			return rc;
		for (uint64_t r = 0; r < n; r++)
			type->to_f32(raw + r * type->block_bytes, &out[r * o->cols + col], 1);
	}
	return 0;
}

int hr__output_read(const struct hr_output *o, uint64_t first, uint64_t n, void *raw, float *out,
                    struct hr_error *err)
{
	int rc = 0;
	if (!o->source) {
		memcpy(out, o->values + first * o->cols, (size_t)(n * o->cols) * sizeof *out);
	} else if (o->order == HR_ROWS_COLUMNS) {
		rc = read_columns(o, first, n, raw, out, err);
	} else {
		rc = read_rows(o, first, n, raw, err);
		if (!rc)
			hr_type_info(o->source->type)->to_f32(raw, out, (size_t)(n * o->cols));
		for (uint64_t r = 0; r < n && !rc && o->source->scales.file; r++)
			rc = hr__f8_scale_row(o->source, source_row(o, first + r), out + r * o->cols, o->cols, err);
	}
	for (uint64_t i = 0; i < n * o->cols && !rc && o->shift != 0; i++)
		out[i] += o->shift;
	return rc;
}
