/* The header of one GGUF file (version 2 or 3, little endian): its metadata and
 * its tensors, validated. Format: the GGUF specification in ggml's docs/gguf.md. */
#ifndef HR_RUNTIME_GGUF_H
#define HR_RUNTIME_GGUF_H

#include "runtime/format/source.h"
#include "runtime/format/tensors.h"

enum hr_gguf_type {
	HR_GGUF_U8,
	HR_GGUF_I8,
	HR_GGUF_U16,
	HR_GGUF_I16,
	HR_GGUF_U32,
	HR_GGUF_I32,
	HR_GGUF_F32,
	HR_GGUF_BOOL,
	HR_GGUF_STRING,
	HR_GGUF_ARRAY,
	HR_GGUF_U64,
	HR_GGUF_I64,
	HR_GGUF_F64,
	HR_GGUF_TYPE_COUNT
};

/* One metadata pair; data holds the value as the file does (little endian):
 *   scalar       its 1, 2, 4 or 8 bytes
 *   string       the text, with a NUL after the end
 *   array        n elements of `elem`, densely; strings each as u64 length, text */
struct hr_gguf_kv {
	char             *key;
	enum hr_gguf_type type, elem; /* elem: of an array only */
	uint64_t          n;          /* elements of an array, else 1 */
	uint8_t          *data;
	size_t            data_bytes; /* without the NUL */
};

struct hr_gguf {
	char                 *path;
	uint32_t              version;
	uint32_t              alignment;
	uint64_t              data_offset; /* of the tensor data */
	int                   n_kvs;
	struct hr_gguf_kv    *kvs;     /* [n_kvs] sorted by key */
	struct hr_tensor_list tensors; /* in the file's order, offsets from the start of the file */
};

/* Read and validate the header at the start of `s`. HR_EFORMAT, HR_ETRUNCATED, HR_EUNSUPPORTED (version, byte
 * order, a tensor type: named), HR_EIO, HR_ENOMEM. A tensor's `file` is the source's. */
int  hr_gguf_read(struct hr_gguf *g, struct hr_source *s, struct hr_error *err);
void hr_gguf_release(struct hr_gguf *g); /* a zeroed struct is fine */

/* NULL: no such key. */
const struct hr_gguf_kv *hr_gguf_find(const struct hr_gguf *g, const char *key);

/* The value of a key: 1 and *out written; 0: no such key; HR_EFORMAT: it has another type, or
 * does not fit. An integer may have any of the integer types, a float either. */
int hr_gguf_get_u64(const struct hr_gguf *g, const char *key, uint64_t *out, struct hr_error *err);
int hr_gguf_get_i32(const struct hr_gguf *g, const char *key, int32_t *out, struct hr_error *err); /* >= 0 */
int hr_gguf_get_f32(const struct hr_gguf *g, const char *key, float *out, struct hr_error *err);
int hr_gguf_get_bool(const struct hr_gguf *g, const char *key, bool *out, struct hr_error *err);
/* Text without a NUL inside; borrowed until hr_gguf_release(). */
int hr_gguf_get_string(const struct hr_gguf *g, const char *key, const char **out, struct hr_error *err);

/* The same for an array whose elements have type `elem`; *out points to the pair. */
int hr_gguf_get_array(const struct hr_gguf *g, const char *key, enum hr_gguf_type elem,
                      const struct hr_gguf_kv **out, struct hr_error *err);

const char *hr_gguf_type_name(enum hr_gguf_type type);

#endif
