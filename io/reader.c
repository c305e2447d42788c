/* Opening the reader that was asked for, and reading without waiting by hand.
 *
 * The one place that knows all readers: io_uring, or the pread pool where it is
 * refused, and the throttle around either. */
#include "io/reader.h"

#include "base/error.h"
#include "base/mem.h"
#include "io/read_queue.h"

#include <semaphore.h>

#define DEFAULT_CHUNK_BYTES (2u << 20)
#define MAX_CHUNK_BYTES     (1u << 30)
#define DEFAULT_DEPTH       8

/* A bounced extent goes through memory of this many chunks. */
#define BOUNCE_CHUNKS 4

static int open_unthrottled(struct hr_reader **out, const struct hr_reader_options *options,
                            struct hr_error *err)
{
	if (options->kind == HR_READER_PREAD)
		return hr__reader_pread_open(out, options, err);
	struct hr_error refused;
	int             rc = hr__reader_uring_open(out, options, &refused);
	if (!rc)
		return 0;
	if (options->kind == HR_READER_URING)
		return hr__fail(err, rc, "%s; choose the reader \"auto\" or \"pread\".", refused.message);
	rc = hr__reader_pread_open(out, options, err);
	if (!rc)
		hr__notice(&options->notices, "%s: reading with %d pread threads instead.", refused.message,
		           (*out)->depth);
	return rc;
}

int hr_reader_open(struct hr_reader **out, const struct hr_reader_options *options, struct hr_error *err)
{
	struct hr_reader_options all = *options;
	struct hr_reader        *reader;
	if (!all.chunk_bytes)
		all.chunk_bytes = DEFAULT_CHUNK_BYTES;
	if (!all.depth)
		all.depth = DEFAULT_DEPTH;
	if (all.chunk_bytes % HR_IO_ALIGN || all.chunk_bytes > MAX_CHUNK_BYTES)
		return hr__fail(err, HR_EINVAL,
		                "A read chunk of %zu bytes is not possible: give a multiple of %u, at most %u.",
		                all.chunk_bytes, HR_IO_ALIGN, MAX_CHUNK_BYTES);
	if (all.depth < 0)
		return hr__fail(err, HR_EINVAL, "A read depth of %d is not possible: give at least 1.", all.depth);
	int rc = open_unthrottled(&reader, &all, err);
	if (!rc && all.max_bytes_per_second)
		rc = hr__reader_throttle_open(&reader, reader, all.max_bytes_per_second, err);
	if (!rc)
		*out = reader;
	return rc;
}

static void post(struct hr_read *read) { sem_post(read->user); }

static int read_and_wait(struct hr_reader *reader, const struct hr_file *file, uint64_t offset, void *dst,
                         size_t bytes, struct hr_error *err)
{
	sem_t          over;
	struct hr_read read = {
	    .file = file, .offset = offset, .length = bytes, .dst = dst, .done = post, .user = &over};
	sem_init(&over, 0, 0);
	reader->ops->submit(reader, &read);
	while (sem_wait(&over))
		; /* interrupted */
	sem_destroy(&over);
	if (read.status && err)
		*err = read.error;
	return read.status;
}

/* Chunk by chunk through memory that has the place around the bytes which a read needs. */
static int read_bounced(struct hr_reader *reader, const struct hr_file *file, uint64_t offset, char *dst,
                        size_t bytes, struct hr_error *err)
{
	uint64_t begin = hr__align_down(offset, HR_IO_ALIGN);
	uint64_t covered = hr__align_up(bytes + (offset - begin), HR_IO_ALIGN);
	size_t   room = BOUNCE_CHUNKS * reader->chunk_bytes;
	void    *bounce = NULL;
	int      rc = 0;
	if (room > covered)
		room = covered;
	if (posix_memalign(&bounce, HR_IO_ALIGN, room))
		return hr__fail(err, HR_ENOMEM, "There is no memory left to read %zu bytes of %s.", bytes,
		                file->path);
	while (bytes && !rc) {
		size_t skip = offset % HR_IO_ALIGN;
		size_t n = bytes < room - skip ? bytes : room - skip;
		rc = read_and_wait(reader, file, offset, (char *)bounce + skip, n, err);
		if (!rc)
			memcpy(dst, (char *)bounce + skip, n);
		offset += n;
		dst += n;
		bytes -= n;
	}
	free(bounce);
	return rc;
}

int hr_reader_read_blocking(struct hr_reader *reader, const struct hr_file *file, uint64_t offset, void *dst,
                            size_t bytes, struct hr_error *err)
{
	if (!bytes)
		return 0;
	if ((offset | bytes | (uintptr_t)dst) % HR_IO_ALIGN)
		return read_bounced(reader, file, offset, dst, bytes, err);
	return read_and_wait(reader, file, offset, dst, bytes, err);
}
