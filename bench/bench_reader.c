/* How fast a reader reads a file, once through, in extents as large as layers.
 *
 *     bench_reader FILE [chunk_kib=2048] [depth=8] [reader=uring|pread|auto] [registered=1]
 *
 * Prints one line: bytes, seconds, GB/s, CPU seconds. Compare with, interleaved
 * and more than once, because drives are erratic:
 *
 *     fio --name=r --filename=FILE --readonly --rw=read --direct=1 --ioengine=io_uring --bs=4M --iodepth=4 */
#include "base/clock.h"
#include "io/hostmem.h"
#include "io/reader.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define EXTENT_BYTES (64ull << 20)
#define N_EXTENTS    3 /* queued; what a window of a few slots keeps asked for */

struct stream {
	struct hr_reader *reader;
	struct hr_file    file;
	struct hr_read    reads[N_EXTENTS];

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t  over;
	uint64_t        next_offset;
	int             n_in_flight;
	struct hr_error error;
};

/* Ask for what comes next in the file; false at its end. Lock held. */
static bool ask_next(struct stream *s, struct hr_read *read)
{
	uint64_t left = s->file.size_bytes - s->next_offset;
	if (!left || s->error.code)
		return false;
	read->offset = s->next_offset;
	read->length = left < EXTENT_BYTES ? left : EXTENT_BYTES;
	s->next_offset += read->length;
	s->reader->ops->submit(s->reader, read);
	return true;
}

static void on_done(struct hr_read *read)
{
	struct stream *s = read->user;
	pthread_mutex_lock(&s->lock);
	if (read->status && !s->error.code)
		s->error = read->error;
	if (!ask_next(s, read) && !--s->n_in_flight)
		pthread_cond_signal(&s->over);
	pthread_mutex_unlock(&s->lock);
}

static double cpu_seconds(void)
{
	struct rusage use;
	getrusage(RUSAGE_SELF, &use);
	return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
	       1e-6 * (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
}

static void read_file(struct stream *s, char *memory)
{
	pthread_mutex_lock(&s->lock);
	for (int i = 0; i < N_EXTENTS; i++) {
		s->reads[i] = (struct hr_read){
		    .file = &s->file, .dst = memory + (uint64_t)i * EXTENT_BYTES, .done = on_done, .user = s};
		s->n_in_flight += ask_next(s, &s->reads[i]);
	}
	while (s->n_in_flight)
		pthread_cond_wait(&s->over, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

static int fail(const struct hr_error *err)
{
	fprintf(stderr, "bench_reader: %s\n", err->message);
	return 1;
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return fprintf(stderr,
		               "usage: bench_reader FILE [chunk_kib] [depth] [uring|pread|auto] [registered]\n"),
		       2;
	const char              *kind = argc > 4 ? argv[4] : "uring";
	struct hr_reader_options options = {
	    .kind = !strcmp(kind, "uring")   ? HR_READER_URING
	            : !strcmp(kind, "pread") ? HR_READER_PREAD
	                                     : HR_READER_AUTO,
	    .chunk_bytes = (argc > 2 ? strtoull(argv[2], NULL, 10) : 2048) << 10,
	    .depth = argc > 3 ? atoi(argv[3]) : 8,
	};
	struct stream     s = {.lock = PTHREAD_MUTEX_INITIALIZER, .over = PTHREAD_COND_INITIALIZER};
	struct hr_hostmem memory;
	struct hr_error   err;

	if (hr_file_open(&s.file, argv[1], &err) || hr_reader_open(&s.reader, &options, &err) ||
	    hr_hostmem_init(&memory, N_EXTENTS * EXTENT_BYTES, -1, &err))
		return fail(&err);
	if (s.reader->ops->register_memory && (argc <= 5 || atoi(argv[5])))
		s.reader->ops->register_memory(s.reader, memory.base, memory.bytes);

	double   cpu = cpu_seconds();
	uint64_t begin = hr__now_ns();
	read_file(&s, memory.base);
	double seconds = 1e-9 * (double)(hr__now_ns() - begin);
	cpu = cpu_seconds() - cpu;
	if (s.error.code)
		return fail(&s.error);
	printf("%llu bytes %.3f s %.3f GB/s cpu %.3f s (%s, %s, %zu KiB x %d)\n",
	       (unsigned long long)s.file.size_bytes, seconds, 1e-9 * (double)s.file.size_bytes / seconds, cpu,
	       s.reader->ops->name, s.file.fd_direct >= 0 ? "direct" : s.file.direct_refused,
	       s.reader->chunk_bytes >> 10, s.reader->depth);
	s.reader->ops->close(s.reader);
	hr_hostmem_release(&memory);
	hr_file_close(&s.file);
	return 0;
}
