/* 8-bit floats with scales: what config.json says about them, and which scales belong to which matrix.
 *
 * A matrix X.weight of f8 stands for its elements times X.weight_scale, or X.weight_scale_inv, which is
 * multiplied by as well, in spite of its name. The shape of the scales tells how many elements share one:
 * all, a row, or a block (of DeepSeek, 128 x 128, with smaller ones at the edges). A matrix without scales is
 * just its elements.
 *
 * Scales are no weights. They become a part of their matrix, which layout.c places them next to, and those of
 * activations and of the KV cache are
 * dropped: they serve kernels that compute in 8 bits, while here floats are computed with. So the families'
 * tables know nothing of f8, and a scale that belongs to no f8 matrix is refused there like any other
 * leftover. */
#include "runtime/format/f8.h"

#include "base/error.h"
#include "base/mem.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>

/* ---- config.json ------------------------------------------------------------------ */

#define KEY "quantization_config"
#define SUPPORTED                                                                                            \
	"8-bit floats (fp8, and compressed-tensors of the format float-quantized) are; take the "                \
	"unquantized model, or a GGUF of it"

static int fail_method(const struct hr_json *config, const char *method, const char *detail,
                       struct hr_error *err)
{
	char text[160];
	snprintf(text, sizeof text, "%s%s%s", method, *detail ? " with " : "", detail);
	return hr__json_fail_option(config, KEY, text, SUPPORTED, err);
}

static int read_block(struct hr_f8_block *out, const struct hr_json *config, const json_t *shape,
                      struct hr_error *err)
{
	json_int_t rows = json_integer_value(json_array_get(shape, 0)),
	           cols = json_integer_value(json_array_get(shape, 1));
	if (!shape || json_is_null(shape))
		return 0;
	if (json_array_size(shape) != 2 || rows < 1 || cols < 1 || rows > INT32_MAX || cols > INT32_MAX)
		return hr__fail(err, HR_EFORMAT,
		                "%s: the size of a block in \"" KEY
		                "\" must be two integers above 0, [rows, columns].",
		                config->path);
	*out = (struct hr_f8_block){(uint64_t)rows, (uint64_t)cols};
	return 0;
}

/* compressed-tensors: groups of modules, each with a way of its own. */
static int read_groups(struct hr_f8_block *out, const struct hr_json *config, const json_t *method,
                       struct hr_error *err)
{
	const char   *name = "compressed-tensors";
	const char   *format = json_string_value(json_object_get(method, "format")), *key;
	const json_t *rotations = json_object_get(json_object_get(method, "transform_config"), "config_groups");
	json_t       *group;
	int           n_said = 0;
	if (!format || strcmp(format, "float-quantized") != 0)
		return fail_method(config, name, format ? format : "no format", err);
	if (json_object_size(rotations))
		return fail_method(config, name, "a transform_config", err);
	json_object_foreach(json_object_get(method, "config_groups"), key, group)
	{
		const json_t      *weights = json_object_get(group, "weights");
		const json_t      *structure = json_object_get(weights, "block_structure");
		const char        *type = json_string_value(json_object_get(weights, "type"));
		struct hr_f8_block block = *out;
		if (!type || strcmp(type, "float") != 0 ||
		    json_integer_value(json_object_get(weights, "num_bits")) != 8)
			return fail_method(config, name, "weights that are not floats of 8 bits", err);
		int rc = read_block(&block, config, structure, err);
		if (rc)
			return rc;
		bool differs = block.rows != out->rows || block.cols != out->cols;
		if (json_is_array(structure) && n_said++ && differs)
			return fail_method(config, name, "blocks of different sizes", err);
		*out = block;
	}
	return 0;
}

int hr__f8_read_config(struct hr_f8_block *out, const struct hr_json *config, struct hr_error *err)
{
	const json_t *method = json_object_get(config->object, KEY);
	const char   *name = json_string_value(json_object_get(method, "quant_method"));
	const char   *format = json_string_value(json_object_get(method, "fmt"));
	*out = (struct hr_f8_block){128, 128};
	if (json_is_object(json_object_get(config->object, "quantization")))
		return hr__json_fail_option(config, "quantization", "given, as MLX packs weights",
		                            "take the unquantized model, or a GGUF of it", err);
	if (!method || json_is_null(method))
		return 0;
	if (name && !strcmp(name, "compressed-tensors"))
		return read_groups(out, config, method, err);
	if (!name || strcmp(name, "fp8") != 0)
		return fail_method(config, name ? name : "given", "", err);
	if (format && strcmp(format, "e4m3") != 0)
		return fail_method(config, name, format, err);
	return read_block(out, config, json_object_get(method, "weight_block_size"), err);
}

/* ---- Scales ------------------------------------------------------------------------- */

static uint64_t n_blocks(uint64_t n, uint64_t size) { return n / size + (n % size != 0); }

static int attach(struct hr_tensor *t, const struct hr_tensor *s, const struct hr_f8_block *block,
                  const char *path, struct hr_error *err)
{
	uint64_t rows = t->shape[0], cols = t->shape[t->n_dims - 1];
	uint64_t high = n_blocks(rows, block->rows), wide = n_blocks(cols, block->cols);
	bool     is_matrix = t->n_dims == 2 && s->n_dims == 2;
	if (!hr_type_is_plain(s->type))
		return hr__fail(err, HR_EUNSUPPORTED,
		                "%s: the scales '%s' have the type %s; supported are f32, f16 and bf16.",
		                s->file ? s->file->path : path, s->name, hr_type_info(s->type)->name);
	t->scales =
	    (struct hr_scales){.file = s->file, .offset = s->offset, .type = s->type, .rows = rows, .cols = cols};
	if (s->bytes == hr_type_info(s->type)->block_bytes)
		return 0;
	t->scales.rows = 1;
	if (is_matrix && s->shape[0] == rows && s->shape[1] == 1)
		return 0;
	t->scales.rows = block->rows;
	t->scales.cols = block->cols;
	if (is_matrix && s->shape[0] == high && s->shape[1] == wide)
		return 0;
	char got[64];
	snprintf(got, sizeof got, s->n_dims > 1 ? "[%" PRIu64 ", %" PRIu64 "]" : "[%" PRIu64 "]", s->shape[0],
	         s->shape[1]);
	return hr__fail(
	    err, HR_EFORMAT,
	    "%s: the scales '%s' of a tensor [%" PRIu64 ", %" PRIu64 "] have the shape %s; possible are "
	    "[1], [%" PRIu64 ", 1], and [%" PRIu64 ", %" PRIu64 "] for blocks of %" PRIu64 " x %" PRIu64 ".",
	    s->file ? s->file->path : path, s->name, rows, cols, got, rows, high, wide, block->rows, block->cols);
}

/* The scales of tensor `t`, -1: none. */
static int find_scales(const struct hr_tensor_list *list, const struct hr_tensor *t)
{
	static const char *const endings[] = {"_scale", "_scale_inv"};
	int                      index = -1;
	for (size_t i = 0; i < HR_COUNT_OF(endings) && index < 0; i++) {
		char name[256];
		int  n = snprintf(name, sizeof name, "%s%s", t->name, endings[i]);
		index = n < (int)sizeof name ? hr__tensors_find(list, name) : -1;
	}
	return index;
}

static bool is_of_no_weight(const char *name)
{
	static const char *const patterns[] = {"*.input_scale", "*.activation_scale", "*.output_scale",
	                                       "*.k_scale",     "*.v_scale",          "*.kv_scale"};
	for (size_t i = 0; i < HR_COUNT_OF(patterns); i++)
		if (fnmatch(patterns[i], name, 0) == 0)
			return true;
	return false;
}

static void drop(struct hr_tensor_list *list, const bool *gone)
{
	int n = 0;
	for (int i = 0; i < list->n; i++) {
		if (gone[i])
			free(list->items[i].name);
		else
			list->items[n++] = list->items[i];
	}
	list->n = n;
	free(list->by_name);
	list->by_name = NULL;
}

int hr__f8_attach_scales(struct hr_tensor_list *list, const struct hr_f8_block *block, const char *path,
                         struct hr_error *err)
{
	bool  any = false;
	bool *gone;
	for (int i = 0; i < list->n; i++)
		any |= list->items[i].type == HR_TYPE_F8_E4M3;
	int rc = any ? hr__tensors_index(list, path, err) : 0;
	if (rc || !any)
		return rc;
	gone = hr__calloc((size_t)list->n, sizeof *gone);
	if (!gone)
		return hr__fail(err, HR_ENOMEM, "%s: there is no memory for %d tensors.", path, list->n);
	for (int i = 0; i < list->n && !rc; i++) {
		struct hr_tensor *t = &list->items[i];
		int               index = t->type == HR_TYPE_F8_E4M3 ? find_scales(list, t) : -1;
		gone[i] |= is_of_no_weight(t->name);
		if (index < 0)
			continue;
		rc = attach(t, &list->items[index], block, path, err);
		gone[index] = true;
	}
	if (!rc)
		drop(list, gone);
	free(gone);
	return rc;
}

int hr__f8_scale_row(const struct hr_tensor *t, uint64_t row, float *x, uint64_t cols, struct hr_error *err)
{
	enum { MOST = 64 };
	const struct hr_scales    *s = &t->scales;
	const struct hr_type_info *type = hr_type_info(s->type);
	uint64_t                   n = (cols + s->cols - 1) / s->cols,
	         place = s->offset + (row + s->skip) / s->rows * n * type->block_bytes;
	uint8_t raw[MOST * sizeof(float)];
	float   scales[MOST];
	for (uint64_t b = 0; b < n; b++) {
		if (b % MOST == 0) {
			size_t m = (size_t)(n - b < MOST ? n - b : MOST);
			int    rc =
			    hr_file_read_exact(s->file, place + b * type->block_bytes, raw, m * type->block_bytes, err);
			if (rc)
				return rc;
			type->to_f32(raw, scales, m);
		}
		uint64_t end = cols - b * s->cols < s->cols ? cols : (b + 1) * s->cols;
		for (uint64_t i = b * s->cols; i < end; i++)
			x[i] *= scales[b % MOST];
	}
	return 0;
}
