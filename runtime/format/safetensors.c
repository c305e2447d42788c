/* Reads safetensors headers:
 *
 *     u64 n, n bytes of JSON {"name": {"dtype", "shape", "data_offsets": [begin, end]}, ...}, the data
 *
 * The offsets count from the end of the JSON. They need no alignment: files with
 * tensors on odd multiples of 2 are common, and the rest of the runtime loads
 * unaligned. dtype and shape must ask for exactly the bytes between the offsets.
 * The JSON's length is held against the file before anything is allocated; the
 * 100 MB limit is that of the reference implementation.
 *
 * An index names the files of a sharded model. Its names come from a stranger: one
 * that leaves the directory is refused. */
#include "runtime/format/safetensors.h"

#include "base/error.h"
#include "base/mem.h"

#include <inttypes.h>

#define MAX_HEADER_BYTES 100000000u
#define METADATA_KEY     "__metadata__"

/* ---- One tensor ---------------------------------------------------------------- */

/* Element `i` of an array of integers >= 0; -1 when it is none. */
static json_int_t integer_at(const json_t *array, size_t i)
{
	const json_t *value = json_array_get(array, i);
	return json_is_integer(value) ? json_integer_value(value) : -1;
}

/* Tables of positions and masks, which some models were saved with, are no weights. */
static bool is_index(const json_t *entry)
{
	const char *dtype = json_string_value(json_object_get(entry, "dtype"));
	return dtype && (!strcmp(dtype, "I64") || !strcmp(dtype, "I32") || !strcmp(dtype, "BOOL"));
}

static int read_type(struct hr_tensor *t, const json_t *entry, const char *path, struct hr_error *err)
{
	const char *dtype = json_string_value(json_object_get(entry, "dtype"));
	if (!dtype)
		return hr__fail(err, HR_EFORMAT, "%s: tensor '%s' has no \"dtype\"; the header is damaged.", path,
		                t->name);
	int type = hr_type_of_safetensors_name(dtype);
	if (type < 0)
		return hr__fail(
		    err, HR_EUNSUPPORTED,
		    "%s: tensor '%s' has the dtype %s, which is not supported in safetensors; supported are %s; "
		    "convert the model to one of these, or take a GGUF of it.",
		    path, t->name, dtype, hr__safetensors_type_list());
	t->type = type;
	return 0;
}

static int read_shape(struct hr_tensor *t, const json_t *entry, const char *path, struct hr_error *err)
{
	const json_t *shape = json_object_get(entry, "shape");
	size_t        n = json_array_size(shape);
	if (!json_is_array(shape) || n > 4)
		return hr__fail(err, HR_EFORMAT,
		                "%s: the \"shape\" of tensor '%s' must be an array of at most 4 dimensions.", path,
		                t->name);
	t->n_dims = n ? (int)n : 1; /* a scalar is a vector of one */
	t->shape[0] = 1;
	for (size_t i = 0; i < n; i++) {
		json_int_t size = integer_at(shape, i);
		if (size < 0)
			return hr__fail(err, HR_EFORMAT, "%s: dimension %zu of tensor '%s' is not an integer >= 0.", path,
			                i, t->name);
		t->shape[i] = (uint64_t)size;
	}
	return hr__tensor_measure(t, path, err);
}

static int read_place(struct hr_tensor *t, const json_t *entry, const struct hr_source *s,
                      uint64_t data_offset, struct hr_error *err)
{
	const json_t *offsets = json_object_get(entry, "data_offsets");
	json_int_t    begin = integer_at(offsets, 0), end = integer_at(offsets, 1);
	if (json_array_size(offsets) != 2 || begin < 0 || end < begin)
		return hr__fail(err, HR_EFORMAT,
		                "%s: the \"data_offsets\" of tensor '%s' must be two integers, [begin, end].",
		                s->path, t->name);
	if ((uint64_t)(end - begin) != t->bytes)
		return hr__fail(err, HR_EFORMAT,
		                "%s: the \"data_offsets\" of tensor '%s' span %" JSON_INTEGER_FORMAT
		                " bytes, but its dtype and shape ask for %" PRIu64 "; the header is damaged.",
		                s->path, t->name, end - begin, t->bytes);
	if ((uint64_t)end > s->size_bytes - data_offset)
		return hr__fail(err, HR_ETRUNCATED,
		                "%s: tensor '%s' wants the bytes up to %" JSON_INTEGER_FORMAT
		                " of the data, which begins at byte %" PRIu64 ", but the file ends at byte %" PRIu64
		                "; it is cut short or damaged: get it again.",
		                s->path, t->name, end, data_offset, s->size_bytes);
	t->offset = data_offset + (uint64_t)begin;
	return 0;
}

static int read_tensor(struct hr_tensor *t, const char *name, const json_t *entry, const struct hr_source *s,
                       uint64_t data_offset, struct hr_error *err)
{
	t->name = strdup(name);
	if (!t->name)
		return hr__fail(err, HR_ENOMEM, "%s: there is no memory for a tensor's name.", s->path);
	t->file = s->file;
	if (!*name || !json_is_object(entry))
		return hr__fail(err, HR_EFORMAT,
		                "%s: the entry of tensor '%s' is not an object, or its name is empty.", s->path,
		                name);
	int rc = read_type(t, entry, s->path, err);
	if (!rc)
		rc = read_shape(t, entry, s->path, err);
	if (!rc)
		rc = read_place(t, entry, s, data_offset, err);
	return rc;
}

/* ---- The header ---------------------------------------------------------------- */

static int read_header(json_t **out, struct hr_source *s, struct hr_error *err)
{
	uint64_t bytes;
	int      rc = hr__source_read_u64(s, &bytes, "the length of the header", err);
	if (rc)
		return rc;
	if (bytes < 2 || bytes > MAX_HEADER_BYTES)
		return hr__fail(err, HR_EFORMAT,
		                "%s: the header claims to be %" PRIu64
		                " bytes long, 2 to %u are possible; this is no "
		                "safetensors file, or it is damaged.",
		                s->path, bytes, MAX_HEADER_BYTES);
	if (bytes > hr__source_left(s))
		return hr__fail(err, HR_ETRUNCATED,
		                "%s: the header claims to be %" PRIu64
		                " bytes long, but the file ends at byte %" PRIu64
		                "; it is cut short or damaged: get it again.",
		                s->path, bytes, s->size_bytes);
	char *text = malloc((size_t)bytes);
	if (!text)
		return hr__fail(err, HR_ENOMEM, "%s: there is no memory for a header of %" PRIu64 " bytes.", s->path,
		                bytes);
	rc = hr__source_read(s, text, (size_t)bytes, "the header", err);
	if (!rc)
		rc = hr__json_parse(out, s->path, text, (size_t)bytes, err);
	free(text);
	return rc;
}

int hr_safetensors_read(struct hr_tensor_list *list, struct hr_source *s, struct hr_error *err)
{
	json_t *header = NULL;
	int     rc = read_header(&header, s, err);
	if (rc)
		return rc;
	struct hr_tensor_list got = {.items = hr__calloc(json_object_size(header), sizeof *got.items)};
	if (!got.items)
		rc = hr__fail(err, HR_ENOMEM, "%s: there is no memory for %zu tensors.", s->path,
		              json_object_size(header));
	const char *name;
	json_t     *entry;
	json_object_foreach(header, name, entry)
	{
		if (rc)
			break;
		if (strcmp(name, METADATA_KEY) != 0 && !is_index(entry))
			rc = read_tensor(&got.items[got.n++], name, entry, s, s->pos, err);
	}
	json_decref(header);
	if (rc)
		hr__tensors_release(&got);
	else
		*list = got;
	return rc;
}

/* ---- The index ---------------------------------------------------------------- */

static bool is_plain_name(const char *name)
{
	return *name && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* Most indexes mention the same file many times in a row, and no model has many: look from the end. */
static void add_file(struct hr_safetensors_index *index, const char *name)
{
	for (int i = index->n_files - 1; i >= 0; i--)
		if (strcmp(index->files[i], name) == 0)
			return;
	index->files[index->n_files++] = name;
}

int hr_safetensors_index_read(struct hr_safetensors_index *index, const char *path, json_t *root,
                              struct hr_error *err)
{
	struct hr_safetensors_index got = {.root = root};
	int                         rc = 0;
	json_t                     *map = json_object_get(root, "weight_map");
	const char                 *tensor;
	json_t                     *file;
	if (json_object_size(map) == 0) {
		rc = hr__fail(err, HR_EFORMAT,
		              "%s: there is no \"weight_map\" that says which tensor is in which file.", path);
		goto done;
	}
	got.files = hr__calloc(HR_SAFETENSORS_MAX_FILES, sizeof *got.files);
	if (!got.files) {
		rc = hr__fail(err, HR_ENOMEM, "%s: there is no memory for its file names.", path);
		goto done;
	}
	json_object_foreach(map, tensor, file)
	{
		const char *name = json_string_value(file);
		if (!name || !is_plain_name(name)) {
			rc = hr__fail(
			    err, HR_EFORMAT,
			    "%s: tensor '%s' is said to be in \"%s\", which is not the name of a file in this directory.",
			    path, tensor, name ? name : "(not a string)");
			goto done;
		}
		if (got.n_files == HR_SAFETENSORS_MAX_FILES) {
			rc = hr__fail(err, HR_EFORMAT, "%s: the index names more than %d files.", path,
			              HR_SAFETENSORS_MAX_FILES - 1);
			goto done;
		}
		add_file(&got, name);
	}
done:
	if (rc)
		hr_safetensors_index_release(&got);
	else
		*index = got;
	return rc;
}

void hr_safetensors_index_release(struct hr_safetensors_index *index)
{
	free(index->files);
	json_decref(index->root);
	*index = (struct hr_safetensors_index){0};
}

int hr_safetensors_index_check(const struct hr_safetensors_index *index, const char *path,
                               const struct hr_tensor_list *list, struct hr_error *err)
{
	const char *tensor;
	json_t     *file;
	json_object_foreach(json_object_get(index->root, "weight_map"), tensor, file)
	{
		if (hr__tensors_find(list, tensor) < 0)
			return hr__fail(
			    err, HR_EFORMAT,
			    "%s: tensor '%s' is said to be in %s, but it is in none of the model's files; one of them "
			    "is from another model, or damaged.",
			    path, tensor, json_string_value(file));
	}
	return 0;
}
