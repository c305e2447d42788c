/* A directory for files of fuzzed bytes, gone at the end. */
#ifndef HR_FUZZ_DIRECTORY_H
#define HR_FUZZ_DIRECTORY_H

#include <ftw.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char fuzz_directory[] = "/tmp/headrace-fuzz-XXXXXX";

static int fuzz_remove(const char *path, const struct stat *s, int kind, struct FTW *at)
{
	(void)s, (void)kind, (void)at;
	return remove(path);
}

static void fuzz_remove_directory(void) { nftw(fuzz_directory, fuzz_remove, 8, FTW_DEPTH | FTW_PHYS); }

/* True the first time. */
static bool fuzz_make_directory(void)
{
	static bool made;
	if (made)
		return false;
	if (!mkdtemp(fuzz_directory))
		abort();
	atexit(fuzz_remove_directory);
	return made = true;
}

static void fuzz_write_file(const char *name, const void *data, size_t n)
{
	char path[sizeof fuzz_directory + 64];
	snprintf(path, sizeof path, "%s/%s", fuzz_directory, name);
	FILE *f = fopen(path, "wb");
	if (!f || fwrite(data, 1, n, f) != n || fclose(f))
		abort();
}

#endif
