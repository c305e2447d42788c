/* hr_synth(): a GGUF with the shapes of a real model and random weights, for
 * benchmarks where a model cannot be had and tests where it is too large.
 *
 * Weights are normal-ish with a standard deviation of 1/sqrt(columns), some 0.02
 * in models of this size, and less where a block adds to the residual stream, so
 * that a model of any depth stays finite and every layer matters to the output.
 * Norms are about 1 and always f32. The data is aligned to 4096 bytes, for direct
 * I/O, in the order in which a pass reads it.
 *
 * Memory is bounded: the header, and one piece of a tensor. */
#include "runtime/format/synth.h"
#include "runtime/family/family.h"
#include "runtime/format/gguf_describe.h"
#include "runtime/format/new_file.h"
#include "runtime/format/quantize.h"

#include "base/error.h"
#include "base/mem.h"
#include "headrace/headrace.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#define ALIGNMENT   4096
#define PIECE_ELEMS (1u << 20) /* made and written at a time */

struct synth {
	const char                  *path;
	const struct hr_synth_shape *shape;
	enum hr_type                 type;
	uint64_t                     seed;
	hr_progress_fn               progress;
	void                        *user;
	struct hr_error             *err;

	struct hr_gguf_writer writer;
	struct hr_new_file    file;
	uint64_t              total_bytes;
	void                 *piece; /* [PIECE_ELEMS] encoded */
};

/* ---- What the model consists of ------------------------------------------------- */

typedef int (*tensor_fn)(struct synth *s, const struct hr_role *role, const char *name, uint64_t index);

static bool is_present(const struct synth *s, const struct hr_role *role)
{
	switch (role->feature) {
	case HR_ALWAYS:
	case HR_FFN_NORM:
		return true;
	case HR_QKV_BIAS:
		return s->shape->qkv_bias;
	case HR_HEAD:
		return !s->shape->hparams.tied;
	case HR_ROPE_FACTORS:
		return s->shape->rope_factors;
	default:
		return false;
	}
}

/* Call fn for each tensor in the order of the file: embedding, blocks, the other end. */
static int each_tensor(struct synth *s, tensor_fn fn)
{
	uint64_t index = 0;
	int      rc = fn(s, hr_line_end_roles, hr_line_end_roles->gguf, index++);
	for (int layer = 0; layer < s->shape->hparams.n_layers; layer++)
		for (const struct hr_role *role = hr_line_block_roles; role->gguf && !rc; role++) {
			char name[64];
			snprintf(name, sizeof name, HR_GGUF_BLOCK "%s", layer, role->gguf);
			if (is_present(s, role))
				rc = fn(s, role, name, index++);
		}
	for (const struct hr_role *role = hr_line_end_roles + 1; role->gguf && !rc; role++)
		if (is_present(s, role))
			rc = fn(s, role, role->gguf, index++);
	return rc;
}

/* Vectors are f32; a row that is no multiple of the block gets a type with a shorter one. */
static enum hr_type type_of(const struct synth *s, const struct hr_role *role)
{
	if (!role->rows)
		return HR_TYPE_F32;
	return hr__type_for_rows(s->type, hr_dim_size(role->cols, &s->shape->hparams));
}

static uint64_t elems_of(const struct synth *s, const struct hr_role *role)
{
	const struct hr_hparams *h = &s->shape->hparams;
	return hr_dim_size(role->cols, h) * (role->rows ? hr_dim_size(role->rows, h) : 1);
}

/* ---- The header ---------------------------------------------------------------- */

static void write_vocab(struct synth *s)
{
	struct hr_gguf_writer *w = &s->writer;
	uint64_t               n = (uint64_t)s->shape->hparams.n_vocab;
	char                   text[HR_SYNTH_TOKEN_BYTES];
	float                  score;
	hr_gguf_write_string(w, "tokenizer.ggml.model", "llama");
	hr_gguf_write_string(w, "tokenizer.ggml.pre", "default");
	hr_gguf_write_array(w, "tokenizer.ggml.tokens", HR_GGUF_STRING, n);
	for (uint64_t i = 0; i < n; i++) {
		hr__synth_token((int32_t)i, text, &score);
		hr_gguf_write_array_text(w, text);
	}
	hr_gguf_write_array(w, "tokenizer.ggml.scores", HR_GGUF_F32, n);
	for (uint64_t i = 0; i < n; i++) {
		hr__synth_token((int32_t)i, text, &score);
		hr_gguf_write_array_bytes(w, &score, sizeof score);
	}
	hr_gguf_write_array(w, "tokenizer.ggml.token_type", HR_GGUF_I32, n);
	for (uint64_t i = 0; i < n; i++) {
		int32_t type = (int32_t)hr__synth_token((int32_t)i, text, &score);
		hr_gguf_write_array_bytes(w, &type, sizeof type);
	}
	hr_gguf_write_u32(w, "tokenizer.ggml.unknown_token_id", 0);
	hr_gguf_write_u32(w, "tokenizer.ggml.bos_token_id", 1);
	hr_gguf_write_u32(w, "tokenizer.ggml.eos_token_id", 2);
	hr_gguf_write_bool(w, "tokenizer.ggml.add_bos_token", true);
	hr_gguf_write_bool(w, "tokenizer.ggml.add_eos_token", false);
}

static int describe_tensor(struct synth *s, const struct hr_role *role, const char *name, uint64_t index)
{
	const struct hr_hparams *h = &s->shape->hparams;
	uint64_t shape[2] = {hr_dim_size(role->rows ? role->rows : role->cols, h), hr_dim_size(role->cols, h)};
	(void)index;
	hr_gguf_write_tensor(&s->writer, name, type_of(s, role), role->rows ? 2 : 1, shape);
	return 0;
}

static int make_header(struct synth *s)
{
	struct hr_gguf_writer *w = &s->writer;
	hr_gguf_write_init(w, ALIGNMENT);
	hr_gguf_write_string(w, "general.architecture", s->shape->hparams.family);
	hr_gguf_write_string(w, "general.name", s->shape->name);
	hr_gguf_write_u32(w, "general.file_type", hr__mix_of_type(s->type)->file_type);
	hr_gguf_write_u32(w, "general.quantization_version", 2);
	hr__gguf_write_hparams(w, s->shape->hparams.family, &s->shape->hparams);
	write_vocab(s);
	each_tensor(s, describe_tensor);
	int rc = hr_gguf_write_finish(w, s->err);
	s->total_bytes = w->bytes + w->data_bytes;
	return rc;
}

/* ---- The file ---------------------------------------------------------------- */

/* Tell how far we are; a callback that returns non-zero stops the work. */
static int report(struct synth *s, uint64_t done)
{
	if (s->progress && s->progress(s->user, done, s->total_bytes))
		return hr__fail(s->err, HR_ECANCELED, "%s: stopped after %" PRIu64 " of %" PRIu64 " bytes, as asked.",
		                s->path, done, s->total_bytes);
	return 0;
}

/* Rising from 1 to 8 over the slower half of the frequencies, as Llama 3.1's do. */
static void fill_rope_factors(float *out, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		out[i] = i < n / 2 ? 1 : 1 + 7 * (float)(i - n / 2 + 1) / (float)(n - n / 2);
}

static void init_weights(const struct synth *s, struct hr_synth_weights *w, const struct hr_role *role,
                         uint64_t index)
{
	const struct hr_hparams *h = &s->shape->hparams;
	bool                     adds = role->rows == HR_DIM_EMBD; /* its output goes to the residual stream */
	bool  is_norm = !role->rows && (role->feature == HR_ALWAYS || role->feature == HR_FFN_NORM);
	float mean = is_norm ? 1 : 0, sigma = 0.1f;
	if (role->rows)
		sigma = 1 / sqrtf((float)hr_dim_size(role->cols, h) * (adds ? 2 * (float)h->n_layers : 1));
	hr__synth_weights_init(w, type_of(s, role), mean, sigma, hr__synth_mix(s->seed, index));
}

static int write_tensor(struct synth *s, const struct hr_role *role, const char *name, uint64_t index)
{
	struct hr_synth_weights    weights;
	const struct hr_type_info *type = hr_type_info(type_of(s, role));
	uint64_t                   n = elems_of(s, role), offset = s->writer.bytes + s->writer.data_bytes;
	(void)name;
	init_weights(s, &weights, role, index);
	for (uint64_t first = 0; first < n; first += PIECE_ELEMS) {
		uint64_t elems = n - first < PIECE_ELEMS ? n - first : PIECE_ELEMS;
		size_t   bytes = hr_type_row_bytes(type, elems);
		if (role->feature == HR_ROPE_FACTORS)
			fill_rope_factors(s->piece, elems);
		else
			hr__synth_weights_fill(&weights, s->piece, first, elems);
		int rc = hr__new_file_write(&s->file, s->piece, bytes, offset, s->err);
		if (!rc)
			rc = report(s, offset + bytes);
		if (rc)
			return rc;
		offset += bytes;
	}
	s->writer.data_bytes = hr__align_up(offset, ALIGNMENT) - s->writer.bytes;
	return 0;
}

static int write_file(struct synth *s)
{
	int rc = hr__new_file_create(&s->file, s->path, s->total_bytes, s->err);
	if (!rc)
		rc = hr__new_file_write(&s->file, s->writer.data, s->writer.bytes, 0, s->err);
	s->writer.data_bytes = 0; /* counts up again, now as written */
	if (!rc)
		rc = each_tensor(s, write_tensor);
	if (!rc)
		rc = hr__new_file_sync(&s->file, s->err);
	if (!rc)
		rc = hr__new_file_publish(&s->file, s->err);
	hr__new_file_release(&s->file);
	return rc;
}

int hr_synth(const char *path, const char *like, const char *type, uint64_t seed, hr_progress_fn progress,
             void *user, struct hr_error *err)
{
	if (!path || !*path || !like || !type)
		return hr__fail(err, HR_EINVAL, "A path, a shape and a type are needed; shapes are %s, types %s.",
		                hr_synth_shapes(), hr__gguf_type_list());
	struct synth s = {.path = path, .seed = seed, .progress = progress, .user = user, .err = err};
	int          type_id = hr_type_of_name(type);
	if (type_id < 0 || hr_type_info((enum hr_type)type_id)->gguf_id < 0)
		return hr__fail(err, HR_EINVAL, "The weight type '%s' is none of a GGUF; there are %s.", type,
		                hr__gguf_type_list());
	s.type = type_id;
	s.shape = hr__synth_find_shape(like);
	if (!s.shape)
		return hr__fail(err, HR_EINVAL, "The shape '%s' is unknown; known are %s.", like, hr_synth_shapes());
	s.piece = malloc(PIECE_ELEMS * sizeof(float));
	int rc =
	    s.piece ? make_header(&s) : hr__fail(err, HR_ENOMEM, "There is no memory for a piece of a tensor.");
	if (!rc)
		rc = write_file(&s);
	free(s.piece);
	hr_gguf_write_release(&s.writer);
	return rc;
}
