/* Builds a GGUF header in one growing buffer. Memory that runs out is remembered
 * and told at the end, so that a header is written as a list of statements. */
#include "runtime/format/gguf_write.h"

#include "base/error.h"
#include "base/mem.h"

#include <endian.h>

#define N_TENSORS_AT 8 /* behind magic and version */

static void put(struct hr_gguf_writer *w, const void *bytes, size_t n)
{
	if (w->failed || n == 0)
		return;
	if (w->bytes + n > w->capacity) {
		size_t   capacity = 2 * (w->bytes + n);
		uint8_t *data = realloc(w->data, capacity);
		if (!data) {
			w->failed = true;
			return;
		}
		w->data = data;
		w->capacity = capacity;
	}
	memcpy(w->data + w->bytes, bytes, n);
	w->bytes += n;
}

static void put_u32(struct hr_gguf_writer *w, uint32_t x)
{
	x = htole32(x);
	put(w, &x, sizeof x);
}

static void put_u64(struct hr_gguf_writer *w, uint64_t x)
{
	x = htole64(x);
	put(w, &x, sizeof x);
}

static void put_string(struct hr_gguf_writer *w, const void *text, size_t length)
{
	put_u64(w, length);
	put(w, text, length);
}

static void put_text(struct hr_gguf_writer *w, const char *text) { put_string(w, text, strlen(text)); }

static void put_key(struct hr_gguf_writer *w, const char *key, enum hr_gguf_type type)
{
	put_text(w, key);
	put_u32(w, type);
	w->n_kvs++;
}

void hr_gguf_write_init(struct hr_gguf_writer *w, uint32_t alignment)
{
	*w = (struct hr_gguf_writer){.alignment = alignment};
	put(w, "GGUF", 4);
	put_u32(w, 3);
	put_u64(w, 0); /* both counts are filled in at the end */
	put_u64(w, 0);
	hr_gguf_write_u32(w, "general.alignment", alignment);
}

void hr_gguf_write_release(struct hr_gguf_writer *w)
{
	free(w->data);
	*w = (struct hr_gguf_writer){0};
}

void hr_gguf_write_u32(struct hr_gguf_writer *w, const char *key, uint32_t value)
{
	put_key(w, key, HR_GGUF_U32);
	put_u32(w, value);
}

void hr_gguf_write_f32(struct hr_gguf_writer *w, const char *key, float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof bits);
	put_key(w, key, HR_GGUF_F32);
	put_u32(w, bits);
}

void hr_gguf_write_bool(struct hr_gguf_writer *w, const char *key, bool value)
{
	uint8_t byte = value;
	put_key(w, key, HR_GGUF_BOOL);
	put(w, &byte, 1);
}

void hr_gguf_write_string(struct hr_gguf_writer *w, const char *key, const char *value)
{
	put_key(w, key, HR_GGUF_STRING);
	put_text(w, value);
}

void hr_gguf_write_array(struct hr_gguf_writer *w, const char *key, enum hr_gguf_type elem, uint64_t n)
{
	put_key(w, key, HR_GGUF_ARRAY);
	put_u32(w, elem);
	put_u64(w, n);
}

void hr_gguf_write_array_text(struct hr_gguf_writer *w, const char *text) { put_text(w, text); }

void hr_gguf_write_array_string(struct hr_gguf_writer *w, const char *text, size_t length)
{
	put_string(w, text, length);
}

void hr_gguf_write_array_bytes(struct hr_gguf_writer *w, const void *bytes, size_t n) { put(w, bytes, n); }

void hr_gguf_write_kv(struct hr_gguf_writer *w, const struct hr_gguf_kv *kv)
{
	put_key(w, kv->key, kv->type);
	if (kv->type == HR_GGUF_STRING) {
		put_string(w, kv->data, kv->data_bytes);
		return;
	}
	if (kv->type == HR_GGUF_ARRAY) {
		put_u32(w, kv->elem);
		put_u64(w, kv->n);
	}
	put(w, kv->data, kv->data_bytes);
}

uint64_t hr_gguf_write_tensor(struct hr_gguf_writer *w, const char *name, enum hr_type type, int n_dims,
                              const uint64_t *shape)
{
	const struct hr_type_info *info = hr_type_info(type);
	uint64_t                   offset = w->data_bytes, bytes = hr_type_row_bytes(info, shape[n_dims - 1]);
	put_text(w, name);
	put_u32(w, (uint32_t)n_dims);
	for (int i = n_dims - 1; i >= 0; i--)
		put_u64(w, shape[i]);
	put_u32(w, (uint32_t)info->gguf_id);
	put_u64(w, offset);
	for (int i = 0; i < n_dims - 1; i++)
		bytes *= shape[i];
	w->data_bytes = hr__align_up(offset + bytes, w->alignment);
	w->n_tensors++;
	return offset;
}

int hr_gguf_write_finish(struct hr_gguf_writer *w, struct hr_error *err)
{
	static const uint8_t zeros[4096];
	uint64_t             end = hr__align_up(w->bytes, w->alignment);
	while (w->bytes < end && !w->failed) {
		size_t n = (size_t)(end - w->bytes);
		put(w, zeros, n < sizeof zeros ? n : sizeof zeros);
	}
	if (w->failed)
		return hr__fail(err, HR_ENOMEM, "There is no memory for the header of a GGUF file.");
	uint64_t counts[2] = {htole64(w->n_tensors), htole64(w->n_kvs)};
	memcpy(w->data + N_TENSORS_AT, counts, sizeof counts);
	return 0;
}
