/* What the tests of the readers share: a file of known bytes, and a count of
 * reads that are over. */
#ifndef HR_TESTS_IO_TESTING_H
#define HR_TESTS_IO_TESTING_H

#include "base/mem.h"
#include "io/reader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

/* xorshift64*: the same "random" numbers on every run. */
static inline uint64_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 2685821657736338717ull;
}

/* A temporary file of `size` bytes; `content` (may be NULL) receives them. */
static inline void make_file(char *path_template, size_t size, char **content)
{
	uint64_t seed = 88172645463325252ull;
	char    *bytes = malloc(size + 8);
	assert_non_null(bytes);
	for (size_t i = 0; i < size; i += 8) {
		uint64_t r = next_random(&seed);
		memcpy(bytes + i, &r, 8);
	}
	int fd = mkstemp(path_template);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, size), (ssize_t)size);
	fsync(fd);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
	if (content)
		*content = bytes;
	else
		free(bytes);
}

static inline void open_file(struct hr_file *file, const char *path)
{
	struct hr_error err = {0};
	if (hr_file_open(file, path, &err))
		fail_msg("%s", err.message);
}

/* As if the file system had refused O_DIRECT. */
static inline void forbid_direct(struct hr_file *file)
{
	if (file->fd_direct >= 0)
		close(file->fd_direct);
	file->fd_direct = -1;
}

struct counter {
	pthread_mutex_t lock;
	pthread_cond_t  changed;
	int             n;
};
#define COUNTER_INIT                                                                                         \
	{                                                                                                        \
		.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER                               \
	}

static inline void count_one(struct counter *counter)
{
	pthread_mutex_lock(&counter->lock);
	counter->n++;
	pthread_cond_broadcast(&counter->changed);
	pthread_mutex_unlock(&counter->lock);
}

static inline void wait_for(struct counter *counter, int n)
{
	pthread_mutex_lock(&counter->lock);
	while (counter->n < n)
		pthread_cond_wait(&counter->changed, &counter->lock);
	pthread_mutex_unlock(&counter->lock);
}

/* done() of a read whose user is a counter. */
static inline void count_done(struct hr_read *read) { count_one(read->user); }

static inline struct hr_reader *open_reader(enum hr_reader_kind kind, size_t chunk_bytes, int depth,
                                            uint64_t max_bytes_per_second)
{
	struct hr_reader_options options = {.kind = kind,
	                                    .chunk_bytes = chunk_bytes,
	                                    .depth = depth,
	                                    .max_bytes_per_second = max_bytes_per_second};
	struct hr_reader        *reader = NULL;
	struct hr_error          err = {0};
	int                      rc = hr_reader_open(&reader, &options, &err);
	if (rc == HR_EUNSUPPORTED) /* no io_uring here */
		return NULL;
	if (rc)
		fail_msg("%s", err.message);
	return reader;
}

static inline void *aligned_memory(size_t bytes)
{
	void *p = NULL;
	assert_int_equal(posix_memalign(&p, HR_IO_ALIGN, hr__align_up(bytes, HR_IO_ALIGN)), 0);
	return p;
}

#endif
