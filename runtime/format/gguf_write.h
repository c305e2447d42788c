/* Writing GGUF: the header of a version 3 file, in memory. The tensors' data is
 * the caller's to write, at the offsets that come out. */
#ifndef HR_RUNTIME_GGUF_WRITE_H
#define HR_RUNTIME_GGUF_WRITE_H

#include "runtime/format/gguf.h"

struct hr_gguf_writer {
	uint8_t *data; /* [bytes] the header so far */
	size_t   bytes, capacity;
	uint32_t alignment;
	uint64_t n_kvs, n_tensors;
	uint64_t data_bytes; /* of the tensors so far, padding included */
	bool     failed;     /* memory ran out; told once, by _finish() */
};

/* Begins with general.alignment, a power of two. All metadata comes before the first tensor. */
void hr_gguf_write_init(struct hr_gguf_writer *w, uint32_t alignment);
void hr_gguf_write_release(struct hr_gguf_writer *w); /* a zeroed struct is fine */

void hr_gguf_write_u32(struct hr_gguf_writer *w, const char *key, uint32_t value);
void hr_gguf_write_f32(struct hr_gguf_writer *w, const char *key, float value);
void hr_gguf_write_bool(struct hr_gguf_writer *w, const char *key, bool value);
void hr_gguf_write_string(struct hr_gguf_writer *w, const char *key, const char *value);

/* Begin an array of n elements, each of which must follow through one of those below. */
void hr_gguf_write_array(struct hr_gguf_writer *w, const char *key, enum hr_gguf_type elem, uint64_t n);
void hr_gguf_write_array_text(struct hr_gguf_writer *w, const char *text);
void hr_gguf_write_array_string(struct hr_gguf_writer *w, const char *text, size_t length);
void hr_gguf_write_array_bytes(struct hr_gguf_writer *w, const void *bytes, size_t n); /* little endian */

/* A pair as another file has it. */
void hr_gguf_write_kv(struct hr_gguf_writer *w, const struct hr_gguf_kv *kv);

/* Describe a tensor; shape is slowest first, its row a multiple of the type's block. Returns its offset in
 * the data. */
uint64_t hr_gguf_write_tensor(struct hr_gguf_writer *w, const char *name, enum hr_type type, int n_dims,
                              const uint64_t *shape);

/* Pad the header; w->bytes is then where the data begins. HR_ENOMEM. */
int hr_gguf_write_finish(struct hr_gguf_writer *w, struct hr_error *err);

#endif
