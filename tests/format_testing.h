/* For the tests of file formats: bytes that grow, with marks to find a field again, and files to put them in.
 */
#ifndef HR_TESTS_FORMAT_TESTING_H
#define HR_TESTS_FORMAT_TESTING_H

#include "headrace/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_MARKS 64

struct bytes {
	uint8_t *data;
	size_t   n, capacity;
	size_t   marks[MAX_MARKS]; /* offsets */
};

static inline void put(struct bytes *b, const void *data, size_t n)
{
	if (b->n + n > b->capacity) {
		b->capacity = 2 * (b->n + n);
		b->data = realloc(b->data, b->capacity);
		assert_non_null(b->data);
	}
	if (n)
		memcpy(b->data + b->n, data, n);
	b->n += n;
}

static inline void put_u32(struct bytes *b, uint32_t x) { put(b, &x, 4); }
static inline void put_u64(struct bytes *b, uint64_t x) { put(b, &x, 8); }

static inline void put_zeros(struct bytes *b, size_t n)
{
	while (n--)
		put(b, "", 1);
}

static inline void mark(struct bytes *b, int m) { b->marks[m] = b->n; }

/* A GGUF string. */
static inline void put_string(struct bytes *b, const char *text)
{
	put_u64(b, strlen(text));
	put(b, text, strlen(text));
}

/* `code` was returned, with a sentence that holds `fragment`. */
static inline void check_failure(const char *what, int rc, const struct hr_error *err, int code,
                                 const char *fragment)
{
	size_t length = strlen(err->message);
	if (rc != code || err->code != code || !strstr(err->message, fragment) || length == 0 ||
	    err->message[length - 1] != '.')
		fail_msg("%s: wanted %d with \"%s\", got %d: \"%s\"", what, code, fragment, rc, err->message);
}

/* A directory of its own under the build's temporary one, removed with everything in it by
 * remove_directory(). */
static inline char *make_directory(void)
{
	char *path = strdup("/tmp/headrace-test-XXXXXX");
	assert_non_null(path);
	assert_non_null(mkdtemp(path));
	return path;
}

static inline void remove_directory(char *path)
{
	char command[256];
	snprintf(command, sizeof command, "rm -rf '%s'", path);
	assert_int_equal(system(command), 0);
	free(path);
}

static inline const char *join(const char *directory, const char *name)
{
	static char path[512];
	snprintf(path, sizeof path, "%s/%s", directory, name);
	return path;
}

static inline void write_file(const char *path, const void *data, size_t n)
{
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
}

static inline void write_text(const char *directory, const char *name, const char *text)
{
	write_file(join(directory, name), text, strlen(text));
}

/* All of a file, for the caller to free. */
static inline uint8_t *read_file(const char *path, size_t *n)
{
	FILE *f = fopen(path, "rb");
	assert_non_null(f);
	struct stat st;
	assert_int_equal(fstat(fileno(f), &st), 0);
	uint8_t *data = malloc((size_t)st.st_size + 1);
	assert_non_null(data);
	*n = fread(data, 1, (size_t)st.st_size, f);
	assert_int_equal(*n, st.st_size);
	fclose(f);
	return data;
}

#endif
