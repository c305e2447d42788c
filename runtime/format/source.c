/* Bytes to parse, in order.
 *
 * A header is thousands of short fields, so a file is read in pieces of 64 KiB and
 * the fields are copied out of the piece; what is longer than the buffer goes
 * straight to its destination. Nothing is mapped: a file cut short while it is
 * parsed is an error here, not a SIGBUS.
 *
 * Invariant: pos <= size_bytes, so hr__source_left() never wraps, and a parser
 * can hold every count it reads against the bytes that are left before it
 * allocates anything. */
#include "runtime/format/source.h"

#include "base/error.h"

#include <endian.h>
#include <inttypes.h>
#include <string.h>

void hr__source_init_file(struct hr_source *s, const struct hr_file *file)
{
	s->path = file->path;
	s->file = file;
	s->memory = NULL;
	s->size_bytes = file->size_bytes;
	s->pos = s->buffer_pos = 0;
	s->buffer_bytes = 0;
}

void hr__source_init_memory(struct hr_source *s, const char *path, const void *memory, size_t bytes)
{
	s->path = path;
	s->file = NULL;
	s->memory = memory;
	s->size_bytes = bytes;
	s->pos = s->buffer_pos = 0;
	s->buffer_bytes = 0;
}

/* Make the buffer begin at pos. */
static int refill(struct hr_source *s, struct hr_error *err)
{
	uint64_t left = hr__source_left(s);
	size_t   bytes = left < sizeof s->buffer ? (size_t)left : sizeof s->buffer;
	s->buffer_bytes = 0;
	int rc = hr_file_read_exact(s->file, s->pos, s->buffer, bytes, err);
	if (rc)
		return rc;
	s->buffer_pos = s->pos;
	s->buffer_bytes = bytes;
	return 0;
}

static int read_file(struct hr_source *s, void *dst, size_t bytes, struct hr_error *err)
{
	if (bytes > sizeof s->buffer) {
		int rc = hr_file_read_exact(s->file, s->pos, dst, bytes, err);
		if (!rc)
			s->pos += bytes;
		return rc;
	}
	uint64_t end = s->buffer_pos + s->buffer_bytes;
	if (s->pos < s->buffer_pos || s->pos + bytes > end) {
		int rc = refill(s, err);
		if (rc)
			return rc;
	}
	memcpy(dst, s->buffer + (s->pos - s->buffer_pos), bytes);
	s->pos += bytes;
	return 0;
}

int hr__source_read(struct hr_source *s, void *dst, size_t bytes, const char *what, struct hr_error *err)
{
	if (bytes > hr__source_left(s))
		return hr__fail(err, HR_ETRUNCATED,
		                "%s: the file ends at byte %" PRIu64
		                ", in the middle of %s (%zu bytes at offset %" PRIu64
		                "); it is cut short or damaged: get it again.",
		                s->path, s->size_bytes, what, bytes, s->pos);
	if (bytes == 0)
		return 0;
	if (s->file)
		return read_file(s, dst, bytes, err);
	memcpy(dst, s->memory + s->pos, bytes);
	s->pos += bytes;
	return 0;
}

int hr__source_read_u32(struct hr_source *s, uint32_t *out, const char *what, struct hr_error *err)
{
	uint32_t raw;
	int      rc = hr__source_read(s, &raw, sizeof raw, what, err);
	if (!rc)
		*out = le32toh(raw);
	return rc;
}

int hr__source_read_u64(struct hr_source *s, uint64_t *out, const char *what, struct hr_error *err)
{
	uint64_t raw;
	int      rc = hr__source_read(s, &raw, sizeof raw, what, err);
	if (!rc)
		*out = le64toh(raw);
	return rc;
}
