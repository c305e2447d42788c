/* Bytes to parse, read in order: from a file through a small buffer, or from
 * memory (the fuzzers and the tests). */
#ifndef HR_RUNTIME_SOURCE_H
#define HR_RUNTIME_SOURCE_H

#include "io/file.h"

#define HR_SOURCE_BUFFER_BYTES 65536u

struct hr_source {
	const char           *path;   /* for messages; borrowed */
	const struct hr_file *file;   /* NULL: memory is read */
	const uint8_t        *memory; /* [size_bytes] */
	uint64_t              size_bytes;
	uint64_t              pos;
	uint64_t              buffer_pos; /* where in the file buffer[0] comes from */
	size_t                buffer_bytes;
	uint8_t               buffer[HR_SOURCE_BUFFER_BYTES];
};

/* Both borrow what they are given for as long as the source is used. */
void hr__source_init_file(struct hr_source *s, const struct hr_file *file);
void hr__source_init_memory(struct hr_source *s, const char *path, const void *memory, size_t bytes);

static inline uint64_t hr__source_left(const struct hr_source *s) { return s->size_bytes - s->pos; }

/* Read the next `bytes`. HR_ETRUNCATED when the source ends first, with `what`
 * ("the value of key 'a.b'") in the sentence; HR_EIO. */
int hr__source_read(struct hr_source *s, void *dst, size_t bytes, const char *what, struct hr_error *err);

/* Little-endian integers. */
int hr__source_read_u32(struct hr_source *s, uint32_t *out, const char *what, struct hr_error *err);
int hr__source_read_u64(struct hr_source *s, uint64_t *out, const char *what, struct hr_error *err);

#endif
