/* A file of weights, open for direct I/O.
 *
 * The file is opened twice: once with O_DIRECT (so that no page-cache copy of
 * the weights is made) and once buffered, for headers and for file systems
 * that refuse O_DIRECT. Its size and modification time are remembered: a file
 * that changes while it is being streamed is an error, never garbage. */
#ifndef HR_IO_FILE_H
#define HR_IO_FILE_H

#include "headrace/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Everything that is read directly is laid out on this grid, whatever smaller
 * alignment the drive would accept: one grid for all drives keeps offsets,
 * slots and staging the same everywhere. */
#define HR_IO_ALIGN 4096u

struct hr_file {
	char    *path;
	int      fd_direct; /* O_DIRECT; -1 when the file system refuses it */
	int      fd_buffered;
	uint64_t size_bytes;
	uint32_t mem_align; /* what statx(STATX_DIOALIGN) asks for; <= HR_IO_ALIGN or fd_direct is -1 */
	uint32_t offset_align;
	int64_t  mtime_ns;
	char     direct_refused[96]; /* why fd_direct is -1; empty otherwise */
};

/* Open `path` read-only. HR_ENOENT, HR_EIO, HR_EFORMAT (not a regular file). */
int  hr_file_open(struct hr_file *file, const char *path, struct hr_error *err);
void hr_file_close(struct hr_file *file); /* a zeroed struct is fine */

/* HR_ECHANGED when size or modification time differ from those at open. */
int hr_file_check_unchanged(const struct hr_file *file, struct hr_error *err);

/* Read exactly `bytes` at `offset` through the page cache; for headers.
 * HR_ETRUNCATED, HR_EIO. Blocks. */
int hr_file_read_exact(const struct hr_file *file, uint64_t offset, void *dst, size_t bytes,
                       struct hr_error *err);

#endif
