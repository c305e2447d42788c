/* A file of weights, opened once for direct and once for buffered reads.
 *
 * Whether O_DIRECT works is found out here, once per file: some file systems
 * refuse the open, some accept it and refuse the read, some want more alignment
 * than our grid offers. So the first block is read on trial, and whatever is
 * refused leaves fd_direct at -1 with the reason; readers then go through the
 * page cache and drop what they read. With direct reads refused, the kernel's
 * read-ahead is switched off, because it would fill the cache with bytes that no
 * reader drops again.
 *
 * Invariant: fd_direct is -1 or accepts every read on the HR_IO_ALIGN grid. */
#include "io/file.h"

#include "base/error.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int64_t mtime_ns(const struct stat *st)
{
	return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

/* What the file system asks of direct reads; HR_IO_ALIGN where it doesn't tell. */
static void query_alignment(struct hr_file *file)
{
	file->mem_align = file->offset_align = HR_IO_ALIGN;
#ifdef STATX_DIOALIGN
	struct statx stx;
	if (!statx(file->fd_buffered, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) && stx.stx_mask & STATX_DIOALIGN) {
		file->mem_align = stx.stx_dio_mem_align;
		file->offset_align = stx.stx_dio_offset_align;
	}
#endif
}

static int try_direct_read(int fd)
{
	void *block = NULL;
	if (posix_memalign(&block, HR_IO_ALIGN, HR_IO_ALIGN))
		return ENOMEM;
	int refused = pread(fd, block, HR_IO_ALIGN, 0) < 0 ? errno : 0;
	free(block);
	return refused;
}

/* Sets fd_direct, or says in direct_refused why there is none. */
static void open_direct(struct hr_file *file)
{
	size_t size = sizeof file->direct_refused;
	query_alignment(file);
	if (!file->mem_align || !file->offset_align) {
		snprintf(file->direct_refused, size, "the file system has no direct reads");
		return;
	}
	if (file->mem_align > HR_IO_ALIGN || file->offset_align > HR_IO_ALIGN) {
		snprintf(file->direct_refused, size, "the drive wants reads aligned to %u bytes",
		         file->mem_align > file->offset_align ? file->mem_align : file->offset_align);
		return;
	}
	int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_DIRECT);
	int refused = fd < 0 ? errno : try_direct_read(fd);
	if (!refused) {
		file->fd_direct = fd;
		return;
	}
	snprintf(file->direct_refused, size, "the file system refuses O_DIRECT (%s)", strerror(refused));
	if (fd >= 0)
		close(fd);
}

int hr_file_open(struct hr_file *out, const char *path, struct hr_error *err)
{
	struct hr_file file = {.fd_direct = -1, .fd_buffered = -1};
	struct stat    st;
	int            rc = 0;

	/* Asked before the open, which would wait on a pipe. */
	if (!stat(path, &st) && !S_ISREG(st.st_mode))
		return hr__fail(err, HR_EFORMAT, "%s is not a regular file; name a file of weights.", path);
	file.fd_buffered = open(path, O_RDONLY | O_CLOEXEC);
	if (file.fd_buffered < 0 || fstat(file.fd_buffered, &st)) {
		rc = hr__fail(err, errno == ENOENT || errno == ENOTDIR ? HR_ENOENT : HR_EIO,
		              "%s cannot be opened: %s.", path, strerror(errno));
		goto done;
	}
	file.size_bytes = (uint64_t)st.st_size;
	file.mtime_ns = mtime_ns(&st);
	file.path = strdup(path);
	if (!file.path) {
		rc = hr__fail(err, HR_ENOMEM, "There is no memory left to open %s.", path);
		goto done;
	}
	open_direct(&file);
	if (file.fd_direct < 0)
		posix_fadvise(file.fd_buffered, 0, 0, POSIX_FADV_RANDOM);
	*out = file;
done:
	if (rc)
		hr_file_close(&file);
	return rc;
}

void hr_file_close(struct hr_file *file)
{
	if (!file->path && !file->fd_buffered) /* zeroed: descriptor 0 is not ours */
		return;
	if (file->fd_direct >= 0)
		close(file->fd_direct);
	if (file->fd_buffered >= 0)
		close(file->fd_buffered);
	free(file->path);
	*file = (struct hr_file){.fd_direct = -1, .fd_buffered = -1};
}

int hr_file_check_unchanged(const struct hr_file *file, struct hr_error *err)
{
	struct stat st;
	if (fstat(file->fd_buffered, &st))
		return hr__fail(err, HR_EIO, "%s cannot be examined: %s.", file->path, strerror(errno));
	if ((uint64_t)st.st_size != file->size_bytes)
		return hr__fail(
		    err, HR_ECHANGED,
		    "%s changed while in use: it had %llu bytes and has %lld now; restore it and start again.",
		    file->path, (unsigned long long)file->size_bytes, (long long)st.st_size);
	if (mtime_ns(&st) != file->mtime_ns)
		return hr__fail(err, HR_ECHANGED, "%s was written to while in use; start again.", file->path);
	return 0;
}

int hr_file_read_exact(const struct hr_file *file, uint64_t offset, void *dst, size_t bytes,
                       struct hr_error *err)
{
	size_t got = 0;
	while (got < bytes) {
		ssize_t n = pread(file->fd_buffered, (char *)dst + got, bytes - got, (off_t)(offset + got));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return hr__fail(err, HR_EIO, "%s cannot be read at offset %llu: %s.", file->path,
			                (unsigned long long)(offset + got), strerror(errno));
		if (n == 0)
			return hr__fail(
			    err, HR_ETRUNCATED,
			    "%s ends too early: %zu bytes wanted at offset %llu, got %zu; fetch the file again.",
			    file->path, bytes, (unsigned long long)offset, got);
		got += (size_t)n;
	}
	return 0;
}
