/* Reads the header of a GGUF file:
 *
 *     "GGUF", u32 version, u64 n_tensors, u64 n_kvs
 *     n_kvs     x { string key, u32 type, value }
 *     n_tensors x { string name, u32 n_dims, u64 ne[n_dims] fastest first, u32 type, u64 offset }
 *     padding to general.alignment, then the data that the offsets count from
 *
 * Nothing is believed before it is checked. A count is held against the bytes
 * that are left in the file before anything is allocated for it, so a header
 * that lies costs no more memory than the file is long; metadata values are
 * kept as the file has them, and only who asks for one gives it a meaning.
 * What a key means is left to the families and to vocab_gguf.c.
 *
 * Every sentence names the file, the key or tensor, and where it helps the byte. */
#include "runtime/format/gguf.h"

#include "base/error.h"
#include "base/mem.h"

#include <endian.h>
#include <inttypes.h>
#include <stdio.h>

#define MIN_KV_BYTES       (8 + 1 + 4 + 1)         /* a key of one letter, a bool */
#define MIN_TENSOR_BYTES   (8 + 1 + 4 + 8 + 4 + 8) /* a name of one letter, one dimension */
#define MAX_KEY_BYTES      65535u                  /* the specification's */
#define MAX_NAME_BYTES     255u                    /* the specification says 64; some writers go beyond */
#define MAX_METADATA_BYTES (1u << 30)              /* the largest vocabularies need some 20 MiB */
#define MAX_ALIGNMENT      (1u << 30)
#define MAX_COUNT          (1u << 20) /* of keys, and of tensors; real files have some hundreds of each */

static const struct {
	const char *name;
	uint32_t    bytes; /* 0: not a scalar of fixed size */
} value_types[HR_GGUF_TYPE_COUNT] = {
    [HR_GGUF_U8] = {"uint8", 1},    [HR_GGUF_I8] = {"int8", 1},    [HR_GGUF_U16] = {"uint16", 2},
    [HR_GGUF_I16] = {"int16", 2},   [HR_GGUF_U32] = {"uint32", 4}, [HR_GGUF_I32] = {"int32", 4},
    [HR_GGUF_F32] = {"float32", 4}, [HR_GGUF_BOOL] = {"bool", 1},  [HR_GGUF_STRING] = {"string", 0},
    [HR_GGUF_ARRAY] = {"array", 0}, [HR_GGUF_U64] = {"uint64", 8}, [HR_GGUF_I64] = {"int64", 8},
    [HR_GGUF_F64] = {"float64", 8},
};

/* Weight types that exist and that we do not read, so that they can be named. */
static const struct {
	uint32_t    id;
	const char *name;
} foreign_types[] = {
    {9, "Q8_1"},   {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"},
    {21, "IQ3_S"}, {22, "IQ2_S"}, {24, "I8"},      {25, "I16"},    {26, "I32"},     {27, "I64"},
    {28, "F64"},   {29, "IQ1_M"}, {34, "TQ1_0"},   {35, "TQ2_0"},
};

const char *hr_gguf_type_name(enum hr_gguf_type type)
{
	return (unsigned)type < HR_GGUF_TYPE_COUNT ? value_types[type].name : "unknown";
}

/* Whether n things of at least min_bytes can be in what is left of the file. */
static int check_count(const struct hr_source *s, uint64_t n, uint64_t min_bytes, const char *what,
                       struct hr_error *err)
{
	if (n > hr__source_left(s) / min_bytes)
		return hr__fail(err, HR_ETRUNCATED,
		                "%s: the header claims %" PRIu64 " %s, but only %" PRIu64
		                " bytes of the file are left; it is cut short or damaged: get it again.",
		                s->path, n, what, hr__source_left(s));
	if (n > MAX_COUNT)
		return hr__fail(err, HR_EFORMAT,
		                "%s: the header claims %" PRIu64 " %s, which is absurdly many (%u at most).", s->path,
		                n, what, MAX_COUNT);
	return 0;
}

/* ---- Strings ---------------------------------------------------------------- */

/* A key or a name: printable ASCII, so that it can stand in a sentence. */
static int read_name(struct hr_source *s, char **out, uint64_t max_bytes, const char *what,
                     struct hr_error *err)
{
	uint64_t at = s->pos, length;
	int      rc = hr__source_read_u64(s, &length, what, err);
	if (rc)
		return rc;
	if (length == 0 || length > max_bytes)
		return hr__fail(err, HR_EFORMAT,
		                "%s: %s at byte %" PRIu64 " is %" PRIu64 " bytes long, 1 to %" PRIu64
		                " are possible; the header is damaged.",
		                s->path, what, at, length, max_bytes);
	char *text = hr__calloc((size_t)length + 1, 1);
	if (!text)
		return hr__fail(err, HR_ENOMEM, "%s: there is no memory for %s of %" PRIu64 " bytes.", s->path, what,
		                length);
	rc = hr__source_read(s, text, (size_t)length, what, err);
	for (uint64_t i = 0; i < length && !rc; i++)
		if (text[i] < 0x20 || text[i] > 0x7e)
			rc = hr__fail(err, HR_EFORMAT,
			              "%s: %s at byte %" PRIu64 " holds the byte 0x%02x, which is not printable; the "
			              "header is damaged.",
			              s->path, what, at, (unsigned char)text[i]);
	if (rc) {
		free(text);
		return rc;
	}
	*out = text;
	return 0;
}

/* ---- Metadata ---------------------------------------------------------------- */

/* Room for `more` bytes behind data_bytes; grows by doubling, so that a count that lies is
 * found out by the end of the file before it has cost much. */
static int kv_reserve(struct hr_gguf_kv *kv, size_t *capacity, uint64_t more, const char *path,
                      struct hr_error *err)
{
	uint64_t need = kv->data_bytes + more + 1;
	if (need <= *capacity)
		return 0;
	if (more > MAX_METADATA_BYTES || need > MAX_METADATA_BYTES)
		return hr__fail(err, HR_EFORMAT,
		                "%s: the value of key '%s' is longer than %u bytes; the header is damaged.", path,
		                kv->key, MAX_METADATA_BYTES);
	size_t   bytes = need < 2 * *capacity ? 2 * *capacity : (size_t)need;
	uint8_t *data = realloc(kv->data, bytes);
	if (!data)
		return hr__fail(err, HR_ENOMEM, "%s: there is no memory for the value of key '%s' (%zu bytes).", path,
		                kv->key, bytes);
	kv->data = data;
	*capacity = bytes;
	return 0;
}

/* Append `bytes` of the source to the value, NUL behind. */
static int kv_append(struct hr_gguf_kv *kv, size_t *capacity, struct hr_source *s, uint64_t bytes,
                     const char *what, struct hr_error *err)
{
	if (bytes > hr__source_left(s))
		return hr__fail(err, HR_ETRUNCATED,
		                "%s: the file ends at byte %" PRIu64 ", in the middle of %s (%" PRIu64
		                " bytes at offset %" PRIu64 "); it is cut short or damaged: get it again.",
		                s->path, s->size_bytes, what, bytes, s->pos);
	int rc = kv_reserve(kv, capacity, bytes, s->path, err);
	if (!rc)
		rc = hr__source_read(s, kv->data + kv->data_bytes, (size_t)bytes, what, err);
	if (rc)
		return rc;
	kv->data_bytes += (size_t)bytes;
	kv->data[kv->data_bytes] = 0;
	return 0;
}

/* One string; in arrays its length goes before it. */
static int kv_append_string(struct hr_gguf_kv *kv, size_t *capacity, struct hr_source *s, bool in_array,
                            const char *what, struct hr_error *err)
{
	uint64_t length;
	int      rc = hr__source_read_u64(s, &length, what, err);
	if (rc)
		return rc;
	if (in_array) {
		rc = kv_reserve(kv, capacity, sizeof length, s->path, err);
		if (rc)
			return rc;
		memcpy(kv->data + kv->data_bytes, &length, sizeof length);
		kv->data_bytes += sizeof length;
	}
	return kv_append(kv, capacity, s, length, what, err);
}

static int read_array(struct hr_gguf_kv *kv, size_t *capacity, struct hr_source *s, const char *what,
                      struct hr_error *err)
{
	uint32_t elem;
	int      rc = hr__source_read_u32(s, &elem, what, err);
	if (!rc)
		rc = hr__source_read_u64(s, &kv->n, what, err);
	if (rc)
		return rc;
	if (elem == HR_GGUF_ARRAY)
		return hr__fail(err, HR_EUNSUPPORTED, "%s: key '%s' is an array of arrays, which is not supported.",
		                s->path, kv->key);
	if (elem >= HR_GGUF_TYPE_COUNT)
		return hr__fail(err, HR_EFORMAT,
		                "%s: key '%s' at byte %" PRIu64
		                " is an array of value type %u, which does not exist; the "
		                "header is damaged.",
		                s->path, kv->key, s->pos, elem);
	kv->elem = elem;
	uint32_t size = elem == HR_GGUF_STRING ? 8 : value_types[elem].bytes;
	if (kv->n > hr__source_left(s) / size)
		return hr__fail(err, HR_ETRUNCATED,
		                "%s: key '%s' claims %" PRIu64 " elements, but only %" PRIu64
		                " bytes of the file are left; it is cut short or damaged: get it again.",
		                s->path, kv->key, kv->n, hr__source_left(s));
	if (elem != HR_GGUF_STRING)
		return kv_append(kv, capacity, s, kv->n * size, what, err);
	for (uint64_t i = 0; i < kv->n && !rc; i++)
		rc = kv_append_string(kv, capacity, s, true, what, err);
	return rc;
}

static int check_bools(const struct hr_gguf_kv *kv, const char *path, struct hr_error *err)
{
	for (size_t i = 0; i < kv->data_bytes; i++)
		if (kv->data[i] > 1)
			return hr__fail(err, HR_EFORMAT, "%s: key '%s' is a bool of value %u; the header is damaged.",
			                path, kv->key, kv->data[i]);
	return 0;
}

static int read_kv(struct hr_gguf_kv *kv, struct hr_source *s, struct hr_error *err)
{
	int rc = read_name(s, &kv->key, MAX_KEY_BYTES, "a metadata key", err);
	if (rc)
		return rc;
	char what[160];
	snprintf(what, sizeof what, "the value of key '%.100s'", kv->key);
	uint32_t type;
	rc = hr__source_read_u32(s, &type, what, err);
	if (rc)
		return rc;
	if (type >= HR_GGUF_TYPE_COUNT)
		return hr__fail(err, HR_EFORMAT,
		                "%s: key '%s' at byte %" PRIu64
		                " has value type %u, which does not exist; the header is "
		                "damaged.",
		                s->path, kv->key, s->pos - 4, type);
	kv->type = type;
	kv->n = 1;
	size_t capacity = 0;
	rc = kv_reserve(kv, &capacity, 8, s->path, err);
	if (rc)
		return rc;
	if (type == HR_GGUF_ARRAY)
		rc = read_array(kv, &capacity, s, what, err);
	else if (type == HR_GGUF_STRING)
		rc = kv_append_string(kv, &capacity, s, false, what, err);
	else
		rc = kv_append(kv, &capacity, s, value_types[type].bytes, what, err);
	if (!rc && (type == HR_GGUF_BOOL || (type == HR_GGUF_ARRAY && kv->elem == HR_GGUF_BOOL)))
		rc = check_bools(kv, s->path, err);
	return rc;
}

static int compare_keys(const void *a, const void *b)
{
	return strcmp(((const struct hr_gguf_kv *)a)->key, ((const struct hr_gguf_kv *)b)->key);
}

static int read_kvs(struct hr_gguf *g, struct hr_source *s, uint64_t n, struct hr_error *err)
{
	int rc = check_count(s, n, MIN_KV_BYTES, "metadata keys", err);
	if (rc)
		return rc;
	g->kvs = hr__calloc((size_t)n, sizeof *g->kvs);
	if (!g->kvs)
		return hr__fail(err, HR_ENOMEM, "%s: there is no memory for %" PRIu64 " metadata keys.", s->path, n);
	uint64_t begin = s->pos;
	while (g->n_kvs < (int)n) {
		rc = read_kv(&g->kvs[g->n_kvs++], s, err);
		if (rc)
			return rc;
		if (s->pos - begin > MAX_METADATA_BYTES)
			return hr__fail(err, HR_EFORMAT,
			                "%s: the metadata is longer than %u bytes; the header is damaged.", s->path,
			                MAX_METADATA_BYTES);
	}
	qsort(g->kvs, (size_t)g->n_kvs, sizeof *g->kvs, compare_keys);
	for (int i = 1; i < g->n_kvs; i++)
		if (strcmp(g->kvs[i - 1].key, g->kvs[i].key) == 0)
			return hr__fail(err, HR_EFORMAT,
			                "%s: the metadata key '%s' stands there twice; one of the two is wrong.", s->path,
			                g->kvs[i].key);
	return 0;
}

/* ---- Tensors ---------------------------------------------------------------- */

static int fail_type(const struct hr_source *s, const char *name, uint32_t id, struct hr_error *err)
{
	for (size_t i = 0; i < HR_COUNT_OF(foreign_types); i++)
		if (foreign_types[i].id == id)
			return hr__fail(err, HR_EUNSUPPORTED,
			                "%s: tensor '%s' has the type %s, which is not supported; supported are %s. "
			                "Requantize the model to one of these.",
			                s->path, name, foreign_types[i].name, hr__gguf_type_list());
	return hr__fail(
	    err, HR_EUNSUPPORTED,
	    "%s: tensor '%s' has the unknown type id %u; supported are %s. Requantize the model to one of "
	    "these.",
	    s->path, name, id, hr__gguf_type_list());
}

/* Everything but the offset's meaning, which the data's beginning decides. */
static int read_tensor(struct hr_tensor *t, struct hr_source *s, struct hr_error *err)
{
	int rc = read_name(s, &t->name, MAX_NAME_BYTES, "a tensor name", err);
	if (rc)
		return rc;
	char what[320];
	snprintf(what, sizeof what, "the description of tensor '%s'", t->name);
	uint32_t n_dims, id;
	rc = hr__source_read_u32(s, &n_dims, what, err);
	if (rc)
		return rc;
	if (n_dims < 1 || n_dims > 4)
		return hr__fail(err, HR_EFORMAT,
		                "%s: tensor '%s' has %u dimensions, 1 to 4 are possible; the header is damaged.",
		                s->path, t->name, n_dims);
	t->n_dims = (int)n_dims;
	for (int i = t->n_dims - 1; i >= 0 && !rc; i--)
		rc = hr__source_read_u64(s, &t->shape[i], what, err);
	if (!rc)
		rc = hr__source_read_u32(s, &id, what, err);
	if (!rc)
		rc = hr__source_read_u64(s, &t->offset, what, err);
	if (rc)
		return rc;
	int type = hr_type_of_gguf_id(id);
	if (type < 0)
		return fail_type(s, t->name, id, err);
	t->type = type;
	t->file = s->file;
	return hr__tensor_measure(t, s->path, err);
}

/* From an offset in the data to one in the file, inside it. */
static int place_tensor(const struct hr_gguf *g, struct hr_tensor *t, const struct hr_source *s,
                        struct hr_error *err)
{
	if (t->offset % g->alignment)
		return hr__fail(err, HR_EFORMAT,
		                "%s: tensor '%s' begins at byte %" PRIu64
		                " of the data, which is no multiple of the alignment %u; the header is damaged.",
		                s->path, t->name, t->offset, g->alignment);
	uint64_t begin, end;
	if (!hr__add_u64(g->data_offset, t->offset, &begin) || !hr__add_u64(begin, t->bytes, &end) ||
	    end > s->size_bytes)
		return hr__fail(err, HR_ETRUNCATED,
		                "%s: tensor '%s' wants %" PRIu64 " bytes at offset %" PRIu64
		                " of the data, which begins at byte %" PRIu64 ", but the file ends at byte %" PRIu64
		                "; it is cut short or damaged: get it again.",
		                s->path, t->name, t->bytes, t->offset, g->data_offset, s->size_bytes);
	t->offset = begin;
	return 0;
}

static int read_tensors(struct hr_gguf *g, struct hr_source *s, uint64_t n, struct hr_error *err)
{
	int rc = check_count(s, n, MIN_TENSOR_BYTES, "tensors", err);
	if (rc)
		return rc;
	struct hr_tensor_list *list = &g->tensors;
	list->items = hr__calloc((size_t)n, sizeof *list->items);
	if (!list->items)
		return hr__fail(err, HR_ENOMEM, "%s: there is no memory for %" PRIu64 " tensors.", s->path, n);
	while (list->n < (int)n) {
		rc = read_tensor(&list->items[list->n++], s, err);
		if (rc)
			return rc;
	}
	g->data_offset = hr__align_up(s->pos, g->alignment);
	for (int i = 0; i < list->n; i++) {
		rc = place_tensor(g, &list->items[i], s, err);
		if (rc)
			return rc;
	}
	return 0;
}

/* ---- The file ---------------------------------------------------------------- */

static int read_magic(struct hr_gguf *g, struct hr_source *s, struct hr_error *err)
{
	uint8_t magic[4];
	int     rc = hr__source_read(s, magic, sizeof magic, "the first four bytes", err);
	if (!rc && memcmp(magic, "GGUF", 4) != 0) {
		static const char *const old[] = {"lmgg", "fmgg", "tjgg", "algg"};
		for (size_t i = 0; i < HR_COUNT_OF(old); i++)
			if (memcmp(magic, old[i], 4) == 0)
				return hr__fail(err, HR_EUNSUPPORTED,
				                "%s: this is a GGML file from before GGUF; convert the model to GGUF.",
				                s->path);
		return hr__fail(err, HR_EFORMAT,
		                "%s: this is no GGUF file (it begins with the bytes %02x %02x %02x %02x instead of "
		                "\"GGUF\"). For safetensors, give the directory that holds config.json.",
		                s->path, magic[0], magic[1], magic[2], magic[3]);
	}
	if (!rc)
		rc = hr__source_read_u32(s, &g->version, "the version", err);
	if (rc)
		return rc;
	if ((g->version & 0xffff) == 0 && g->version)
		return hr__fail(
		    err, HR_EUNSUPPORTED,
		    "%s: this GGUF file is big-endian (version bytes 0x%08x); only little-endian files are "
		    "supported: convert the model again with that byte order.",
		    s->path, g->version);
	if (g->version != 2 && g->version != 3)
		return hr__fail(err, HR_EUNSUPPORTED,
		                "%s: this GGUF file has version %u; supported are 2 and 3: convert the model again.",
		                s->path, g->version);
	return 0;
}

static int read_alignment(struct hr_gguf *g, struct hr_error *err)
{
	uint64_t alignment = 32;
	int      rc = hr_gguf_get_u64(g, "general.alignment", &alignment, err);
	if (rc < 0)
		return rc;
	if (alignment == 0 || alignment > MAX_ALIGNMENT || (alignment & (alignment - 1)))
		return hr__fail(err, HR_EFORMAT,
		                "%s: general.alignment is %" PRIu64 ", but it must be a power of two up to %u.",
		                g->path, alignment, MAX_ALIGNMENT);
	g->alignment = (uint32_t)alignment;
	return 0;
}

int hr_gguf_read(struct hr_gguf *g, struct hr_source *s, struct hr_error *err)
{
	struct hr_gguf got = {.path = strdup(s->path)};
	int      rc = got.path ? 0 : hr__fail(err, HR_ENOMEM, "%s: there is no memory for its path.", s->path);
	uint64_t n_tensors, n_kvs;
	if (!rc)
		rc = read_magic(&got, s, err);
	if (!rc)
		rc = hr__source_read_u64(s, &n_tensors, "the number of tensors", err);
	if (!rc)
		rc = hr__source_read_u64(s, &n_kvs, "the number of metadata keys", err);
	if (!rc)
		rc = read_kvs(&got, s, n_kvs, err);
	if (!rc)
		rc = read_alignment(&got, err);
	if (!rc)
		rc = read_tensors(&got, s, n_tensors, err);
	if (rc)
		hr_gguf_release(&got);
	else
		*g = got;
	return rc;
}

void hr_gguf_release(struct hr_gguf *g)
{
	for (int i = 0; i < g->n_kvs; i++) {
		free(g->kvs[i].key);
		free(g->kvs[i].data);
	}
	free(g->kvs);
	free(g->path);
	hr__tensors_release(&g->tensors);
	*g = (struct hr_gguf){0};
}
