/* Files that are either whole or not there.
 *
 * Until it is published a file has a temporary name beside the final one, so that the
 * last step is a rename within a file system. Whoever writes holds a lock on it. A process that was
 * killed leaves its temporary file behind, but no lock: the next writer of the same file takes the
 * name over and begins anew, so nothing piles up; two writers at once take different names. */
#include "runtime/format/new_file.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { MAX_WRITERS = 100 };

static int fail_room(const struct hr_new_file *f, uint64_t free_bytes, const char *why, struct hr_error *err)
{
	return hr__fail(err, HR_EIO,
	                "%s: there is no room for it: %" PRIu64 " bytes are needed, %" PRIu64
	                " are free on its file system%s.",
	                f->path, f->total_bytes, free_bytes, why);
}

static int fail_system(const struct hr_new_file *f, const char *what, int errnum, struct hr_error *err)
{
	struct statvfs fs;
	uint64_t       free_bytes = fstatvfs(f->fd, &fs) == 0 ? (uint64_t)fs.f_bavail * fs.f_frsize : 0;
	if (errnum == ENOSPC)
		return fail_room(f, free_bytes, "", err);
	if (errnum == EDQUOT)
		return fail_room(f, free_bytes, ", and the quota is used up", err);
	return hr__fail(err, HR_EIO, "%s: %s failed: %s.", f->path, what, strerror(errnum));
}

/* The file behind `fd` still has this name: its last writer didn't remove it before we got the lock. */
static int is_named(int fd, const char *name)
{
	struct stat mine, there;
	return !fstat(fd, &mine) && !lstat(name, &there) && mine.st_dev == there.st_dev &&
	       mine.st_ino == there.st_ino && S_ISREG(mine.st_mode);
}

/* 0: `name` is ours; EWOULDBLOCK: another writer's; else why there can't be such a file. */
static int take_name(struct hr_new_file *f, const char *name)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666), errnum = 0;
	if (fd < 0)
		return errno == ELOOP || errno == EISDIR ? EWOULDBLOCK : errno;
	if (flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
		errnum = EWOULDBLOCK; /* a file system without locks: the name alone must do */
	else if (!is_named(fd, name))
		errnum = EWOULDBLOCK;
	else if (ftruncate(fd, 0))
		errnum = errno;
	if (errnum)
		close(fd);
	else
		f->fd = fd;
	return errnum;
}

static int create_temporary(struct hr_new_file *f, struct hr_error *err)
{
	for (int i = 0; i < MAX_WRITERS; i++) {
		char *name;
		if (asprintf(&name, "%s.headrace-part%d", f->path, i) < 0)
			return hr__fail(err, HR_ENOMEM, "%s: there is no memory for its path.", f->path);
		int errnum = take_name(f, name);
		if (!errnum) {
			f->temporary = name;
			return 0;
		}
		free(name);
		if (errnum != EWOULDBLOCK)
			return fail_system(f, "creating the file", errnum, err);
	}
	return hr__fail(err, HR_EIO, "%s: %d others are writing it; wait for them.", f->path, MAX_WRITERS);
}

int hr__new_file_create(struct hr_new_file *f, const char *path, uint64_t total_bytes, struct hr_error *err)
{
	struct statvfs fs;
	*f = (struct hr_new_file){.path = path, .fd = -1, .total_bytes = total_bytes};
	int rc = create_temporary(f, err);
	if (rc)
		return rc;
	if (!fallocate(f->fd, 0, 0, (off_t)total_bytes))
		return 0;
	if (errno != EOPNOTSUPP && errno != ENOSYS)
		return fail_system(f, "reserving its bytes", errno, err);
	if (!fstatvfs(f->fd, &fs) && (uint64_t)fs.f_bavail * fs.f_frsize < total_bytes)
		return fail_room(f, (uint64_t)fs.f_bavail * fs.f_frsize, "", err);
	return ftruncate(f->fd, (off_t)total_bytes) ? fail_system(f, "setting its size", errno, err) : 0;
}

int hr__new_file_write(struct hr_new_file *f, const void *data, size_t bytes, uint64_t offset,
                       struct hr_error *err)
{
	const uint8_t *at = data;
	while (bytes) {
		ssize_t n = pwrite(f->fd, at, bytes, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return fail_system(f, "writing", n < 0 ? errno : EIO, err);
		at += n;
		bytes -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int hr__new_file_sync(struct hr_new_file *f, struct hr_error *err)
{
	return fsync(f->fd) ? fail_system(f, "bringing it to the disk", errno, err) : 0;
}

/* Make the name durable too; a file system that cannot is not our failure. */
static void sync_directory(const char *path)
{
	const char *slash = strrchr(path, '/');
	char       *directory = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	int         fd = directory ? open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (fd >= 0) {
		fsync(fd);
		close(fd);
	}
	free(directory);
}

int hr__new_file_publish(struct hr_new_file *f, struct hr_error *err)
{
	if (rename(f->temporary, f->path))
		return fail_system(f, "renaming it", errno, err);
	free(f->temporary);
	f->temporary = NULL;
	sync_directory(f->path);
	return 0;
}

void hr__new_file_release(struct hr_new_file *f)
{
	if (f->temporary)
		unlink(f->temporary); /* before the lock goes */
	if (f->path && f->fd >= 0)
		close(f->fd);
	free(f->temporary);
	*f = (struct hr_new_file){.fd = -1};
}
