/* Is the model in the page cache? A benchmark of streaming that reads from there times
 * memory; so the files are dropped from it before every repetition, and looked for after. */
#include "cli/bench.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef void (*file_fn)(int fd, size_t bytes, double *sums);

static void look(int fd, size_t bytes, double *sums)
{
	size_t         page = (size_t)sysconf(_SC_PAGESIZE), n = (bytes + page - 1) / page;
	void          *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	unsigned char *in = malloc(n);
	if (map != MAP_FAILED && in && !mincore(map, bytes, in)) {
		for (size_t i = 0; i < n; i++)
			sums[0] += in[i] & 1;
		sums[1] += (double)n;
	}
	free(in);
	if (map != MAP_FAILED)
		munmap(map, bytes);
}

static void drop(int fd, size_t bytes, double *sums)
{
	(void)bytes, (void)sums;
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

/* Every file once: tensors come file by file. */
static void for_each_file(const struct hr_model *model, file_fn fn, double *sums)
{
	const char           *last = "";
	struct hr_tensor_info t;
	for (int i = 0; !hr_model_tensor(model, i, &t); i++) {
		struct stat st;
		if (!strcmp(last, t.file))
			continue;
		last = t.file;
		int fd = open(t.file, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && !fstat(fd, &st) && st.st_size > 0)
			fn(fd, (size_t)st.st_size, sums);
		if (fd >= 0)
			close(fd);
	}
}

double hr_cli_cached_share(const struct hr_model *model)
{
	double sums[2] = {0};
	for_each_file(model, look, sums);
	return sums[1] > 0 ? sums[0] / sums[1] : 1; /* what can't be seen isn't claimed */
}

void hr_cli_drop_cached(const struct hr_model *model) { for_each_file(model, drop, NULL); }
