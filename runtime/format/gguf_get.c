/* Values of GGUF metadata, by key.
 *
 * Writers differ in the width of the integers and floats they use for the same
 * key, so any width is accepted and the value must fit; a string where a number
 * belongs is an error, never a default. */
#include "runtime/format/gguf.h"

#include "base/error.h"

#include <endian.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

const struct hr_gguf_kv *hr_gguf_find(const struct hr_gguf *g, const char *key)
{
	int low = 0, high = g->n_kvs;
	while (low < high) {
		int middle = low + (high - low) / 2;
		int order = strcmp(g->kvs[middle].key, key);
		if (order == 0)
			return &g->kvs[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

static int fail_type(const struct hr_gguf *g, const struct hr_gguf_kv *kv, const char *wanted,
                     struct hr_error *err)
{
	bool array = kv->type == HR_GGUF_ARRAY;
	return hr__fail(err, HR_EFORMAT, "%s: key '%s' is %s%s, but %s is needed.", g->path, kv->key,
	                array ? "an array of " : "of type ", hr_gguf_type_name(array ? kv->elem : kv->type),
	                wanted);
}

/* The little-endian integer of a scalar, sign-extended when its type is signed. */
static uint64_t load_integer(const struct hr_gguf_kv *kv)
{
	uint64_t raw = 0;
	memcpy(&raw, kv->data, kv->data_bytes);
	raw = le64toh(raw);
	switch (kv->type) {
	case HR_GGUF_I8:
		return (uint64_t)(int64_t)(int8_t)raw;
	case HR_GGUF_I16:
		return (uint64_t)(int64_t)(int16_t)raw;
	case HR_GGUF_I32:
		return (uint64_t)(int64_t)(int32_t)raw;
	default:
		return raw;
	}
}

static bool is_signed(enum hr_gguf_type type)
{
	return type == HR_GGUF_I8 || type == HR_GGUF_I16 || type == HR_GGUF_I32 || type == HR_GGUF_I64;
}

static bool is_integer(enum hr_gguf_type type)
{
	return is_signed(type) || type == HR_GGUF_U8 || type == HR_GGUF_U16 || type == HR_GGUF_U32 ||
	       type == HR_GGUF_U64;
}

int hr_gguf_get_u64(const struct hr_gguf *g, const char *key, uint64_t *out, struct hr_error *err)
{
	const struct hr_gguf_kv *kv = hr_gguf_find(g, key);
	if (!kv)
		return 0;
	if (!is_integer(kv->type))
		return fail_type(g, kv, "an integer", err);
	uint64_t value = load_integer(kv);
	if (is_signed(kv->type) && (int64_t)value < 0)
		return hr__fail(err, HR_EFORMAT, "%s: key '%s' is %" PRId64 ", but it cannot be negative.", g->path,
		                key, (int64_t)value);
	*out = value;
	return 1;
}

int hr_gguf_get_i32(const struct hr_gguf *g, const char *key, int32_t *out, struct hr_error *err)
{
	uint64_t value;
	int      rc = hr_gguf_get_u64(g, key, &value, err);
	if (rc <= 0)
		return rc;
	if (value > INT32_MAX)
		return hr__fail(err, HR_EFORMAT, "%s: key '%s' is %" PRIu64 ", which is absurdly large.", g->path,
		                key, value);
	*out = (int32_t)value;
	return 1;
}

int hr_gguf_get_f32(const struct hr_gguf *g, const char *key, float *out, struct hr_error *err)
{
	const struct hr_gguf_kv *kv = hr_gguf_find(g, key);
	if (!kv)
		return 0;
	if (kv->type != HR_GGUF_F32 && kv->type != HR_GGUF_F64)
		return fail_type(g, kv, "a float", err);
	double   value;
	uint64_t bits = load_integer(kv);
	if (kv->type == HR_GGUF_F32) {
		uint32_t half = (uint32_t)bits;
		float    single;
		memcpy(&single, &half, sizeof single);
		value = single;
	} else {
		memcpy(&value, &bits, sizeof value);
	}
	if (!isfinite(value) || fabs(value) > 3.0e38)
		return hr__fail(err, HR_EFORMAT, "%s: key '%s' is not a finite number.", g->path, key);
	*out = (float)value;
	return 1;
}

int hr_gguf_get_bool(const struct hr_gguf *g, const char *key, bool *out, struct hr_error *err)
{
	const struct hr_gguf_kv *kv = hr_gguf_find(g, key);
	if (!kv)
		return 0;
	if (kv->type != HR_GGUF_BOOL)
		return fail_type(g, kv, "a bool", err);
	*out = kv->data[0] != 0;
	return 1;
}

int hr_gguf_get_string(const struct hr_gguf *g, const char *key, const char **out, struct hr_error *err)
{
	const struct hr_gguf_kv *kv = hr_gguf_find(g, key);
	if (!kv)
		return 0;
	if (kv->type != HR_GGUF_STRING)
		return fail_type(g, kv, "a string", err);
	if (memchr(kv->data, 0, kv->data_bytes))
		return hr__fail(err, HR_EFORMAT,
		                "%s: the string of key '%s' holds a NUL byte; the header is damaged.", g->path, key);
	*out = (const char *)kv->data;
	return 1;
}

int hr_gguf_get_array(const struct hr_gguf *g, const char *key, enum hr_gguf_type elem,
                      const struct hr_gguf_kv **out, struct hr_error *err)
{
	const struct hr_gguf_kv *kv = hr_gguf_find(g, key);
	if (!kv)
		return 0;
	if (kv->type != HR_GGUF_ARRAY || kv->elem != elem) {
		char wanted[48];
		snprintf(wanted, sizeof wanted, "an array of %s", hr_gguf_type_name(elem));
		return fail_type(g, kv, wanted, err);
	}
	*out = kv;
	return 1;
}
