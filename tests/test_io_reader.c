/* Both readers against a file of random bytes: any extent, any chunk and depth,
 * direct and through the page cache, and everything that can go wrong. */
#include "io/hostmem.h"

#include "io_testing.h"

#include <errno.h>
#include <sys/mman.h>

#define SIZE (3u * 1024 * 1024 + 777) /* ends inside a block */
#define MARK 0x5a

static char  path[] = "test_io_reader.XXXXXX";
static char *content;

static const enum hr_reader_kind kinds[] = {HR_READER_URING, HR_READER_PREAD};

#define FOR_EACH_READER(reader, chunk, depth)                                                                \
	for (size_t kind_ = 0; kind_ < HR_COUNT_OF(kinds); kind_++)                                              \
		for (struct hr_reader *reader = open_reader(kinds[kind_], chunk, depth, 0); reader;                  \
		     reader->ops->close(reader), reader = NULL)

/* An extent and memory for its superset, with a marked block on either side. */
struct extent {
	struct hr_read read;
	char          *memory; /* marked block, superset, marked block */
	size_t         superset;
};

static void extent_init(struct extent *e, const struct hr_file *file, uint64_t offset, uint64_t length,
                        char *memory, struct counter *counter)
{
	size_t skip = offset % HR_IO_ALIGN;
	e->superset = hr__align_up(skip + length, HR_IO_ALIGN);
	e->memory = memory ? memory : aligned_memory(e->superset + 2 * HR_IO_ALIGN);
	memset(e->memory, MARK, e->superset + 2 * HR_IO_ALIGN);
	e->read = (struct hr_read){.file = file,
	                           .offset = offset,
	                           .length = length,
	                           .dst = e->memory + HR_IO_ALIGN + skip,
	                           .done = count_done,
	                           .user = counter};
}

static void extent_check(const struct extent *e)
{
	if (e->read.status)
		fail_msg("%s", e->read.error.message);
	assert_memory_equal(e->read.dst, content + e->read.offset, e->read.length);
	for (size_t i = 0; i < HR_IO_ALIGN; i++) {
		assert_int_equal(e->memory[i], MARK);
		assert_int_equal(e->memory[HR_IO_ALIGN + e->superset + i], MARK);
	}
	assert_true(e->read.start_ns > 0 && e->read.start_ns <= e->read.end_ns);
}

#define N_RANDOM 24

static int all_extents(uint64_t (*extents)[2])
{
	static const uint64_t odd[][2] = {
	    {0, 1},           {1, 1},
	    {4095, 1},        {4095, 2},
	    {4096, 4096},     {4097, 4094},
	    {0, SIZE},        {123, SIZE - 123},
	    {SIZE - 1, 1},    {SIZE - 5000, 5000},
	    {65535, 65537},   {1 << 20, 1 << 20},
	    {777, 2 << 20},   {SIZE - 777, 777},
	    {SIZE - 778, 10},
	};
	uint64_t seed = 1;
	int      n = 0;
	for (; n < (int)HR_COUNT_OF(odd); n++)
		memcpy(extents[n], odd[n], sizeof odd[n]);
	for (int i = 0; i < N_RANDOM; i++, n++) {
		extents[n][0] = next_random(&seed) % SIZE;
		uint64_t most = i % 2 ? 9000 : 400000, left = SIZE - extents[n][0];
		extents[n][1] = 1 + next_random(&seed) % (left < most ? left : most);
	}
	return n;
}

/* All extents at once, into registered memory when `registered`. */
static void read_all_extents(struct hr_reader *reader, const struct hr_file *file, bool registered)
{
	uint64_t          extents[64][2];
	struct extent     e[64];
	struct counter    over = COUNTER_INIT;
	struct hr_hostmem arena = {0};
	size_t            used = 0;
	int               n = all_extents(extents);
	if (registered) {
		assert_int_equal(hr_hostmem_init(&arena, 20u << 20, -1, NULL), 0);
		if (reader->ops->register_memory)
			reader->ops->register_memory(reader, arena.base, arena.bytes);
	}
	for (int i = 0; i < n; i++) {
		extent_init(&e[i], file, extents[i][0], extents[i][1], registered ? (char *)arena.base + used : NULL,
		            &over);
		used += e[i].superset + 2 * HR_IO_ALIGN;
		assert_true(!registered || used <= arena.bytes);
	}
	for (int i = 0; i < n; i++)
		reader->ops->submit(reader, &e[i].read);
	wait_for(&over, n);
	for (int i = 0; i < n; i++) {
		extent_check(&e[i]);
		if (!registered)
			free(e[i].memory);
	}
	reader->ops->drain(reader);
	assert_int_equal(over.n, n); /* once each */
	struct hr_reader_stats stats;
	reader->ops->stats(reader, &stats);
	assert_int_equal(stats.reads, n);
	uint64_t bytes = 0;
	for (int i = 0; i < n; i++)
		bytes += extents[i][1];
	assert_int_equal(stats.bytes, bytes);
	if (registered) {
		reader->ops->close(reader); /* before its memory goes */
		hr_hostmem_release(&arena);
	}
}

static void every_extent_in_every_chunk_and_depth(void **state)
{
	(void)state;
	static const size_t chunks[] = {4096, 65536, 1 << 20, 8 << 20};
	static const int    depths[] = {1, 2, 7, 64};
	for (int direct = 0; direct < 2; direct++)
		for (size_t c = 0; c < HR_COUNT_OF(chunks); c++)
			for (size_t d = 0; d < HR_COUNT_OF(depths); d++)
				FOR_EACH_READER(reader, chunks[c], depths[d])
				{
					struct hr_file file;
					open_file(&file, path);
					if (!direct)
						forbid_direct(&file);
					read_all_extents(reader, &file, false);
					hr_file_close(&file);
				}
}

static void every_extent_into_registered_memory(void **state)
{
	(void)state;
	for (size_t k = 0; k < HR_COUNT_OF(kinds); k++)
		for (int direct = 0; direct < 2; direct++) {
			struct hr_reader *reader = open_reader(kinds[k], 65536, 8, 0);
			struct hr_file    file;
			if (!reader)
				continue;
			open_file(&file, path);
			if (!direct)
				forbid_direct(&file);
			read_all_extents(reader, &file, true);
			hr_file_close(&file);
		}
}

static void blocking_reads_into_any_memory(void **state)
{
	(void)state;
	struct hr_file file;
	uint64_t       extents[64][2];
	int            n = all_extents(extents);
	open_file(&file, path);
	char *memory = aligned_memory(SIZE + HR_IO_ALIGN);
	FOR_EACH_READER(reader, 65536, 4)
	{
		struct hr_error err = {0};
		for (int i = 0; i < n; i++) {
			char *dst = memory + i % 3 * 4; /* aligned like the offset only by chance */
			memset(memory, MARK, SIZE + HR_IO_ALIGN);
			assert_int_equal(hr_reader_read_blocking(reader, &file, extents[i][0], dst, extents[i][1], &err),
			                 0);
			assert_memory_equal(dst, content + extents[i][0], extents[i][1]);
			assert_int_equal(dst[extents[i][1]], MARK);
		}
		assert_int_equal(hr_reader_read_blocking(reader, &file, SIZE - 10, memory, 11, &err), HR_ETRUNCATED);
		assert_non_null(strstr(err.message, "11 bytes wanted"));
		assert_non_null(strstr(err.message, "got 10"));
		assert_int_equal(hr_reader_read_blocking(reader, &file, SIZE, memory, 0, &err), 0);
	}
	free(memory);
	hr_file_close(&file);
}

static void a_file_cut_short_names_wanted_and_got(void **state)
{
	(void)state;
	char cut[] = "test_io_reader_cut.XXXXXX";
	make_file(cut, 200000, NULL);
	for (int direct = 0; direct < 2; direct++)
		FOR_EACH_READER(reader, 16384, 4)
		{
			struct hr_file file;
			struct counter over = COUNTER_INIT;
			struct extent  e;
			assert_int_equal(truncate(cut, 200000), 0);
			open_file(&file, cut);
			if (!direct)
				forbid_direct(&file);
			assert_int_equal(truncate(cut, 50001), 0);
			extent_init(&e, &file, 1001, 150000, NULL, &over);
			reader->ops->submit(reader, &e.read);
			wait_for(&over, 1);
			assert_int_equal(e.read.status, HR_ETRUNCATED);
			assert_non_null(strstr(e.read.error.message, cut));
			assert_non_null(strstr(e.read.error.message, "150000 bytes wanted at offset 1001, got 49000"));
			/* What is still there can be read, but it is not the file that was opened. */
			e.read.length = 1000;
			reader->ops->submit(reader, &e.read);
			wait_for(&over, 2);
			assert_int_equal(e.read.status, HR_ECHANGED);
			free(e.memory);
			hr_file_close(&file);
		}
	unlink(cut);
}

static void what_cannot_be_read_fails_once_with_its_reason(void **state)
{
	(void)state;
	FOR_EACH_READER(reader, 65536, 4)
	{
		struct hr_file closed = {.path = "closed", .fd_direct = -1, .fd_buffered = 999999};
		struct hr_file directory = {.path = "directory", .fd_direct = -1};
		struct counter over = COUNTER_INIT;
		struct extent  e[2];
		directory.fd_buffered = open(".", O_RDONLY);
		extent_init(&e[0], &closed, 0, 1 << 20, NULL, &over);
		extent_init(&e[1], &directory, 5, 100, NULL, &over);
		for (int i = 0; i < 2; i++)
			reader->ops->submit(reader, &e[i].read);
		wait_for(&over, 2);
		reader->ops->drain(reader);
		assert_int_equal(over.n, 2);
		assert_int_equal(e[0].read.status, HR_EIO);
		assert_non_null(strstr(e[0].read.error.message, strerror(EBADF)));
		assert_non_null(strstr(e[0].read.error.message, "closed"));
		assert_int_equal(e[1].read.status, HR_EIO);
		assert_non_null(strstr(e[1].read.error.message, strerror(EISDIR)));
		assert_non_null(strstr(e[1].read.error.message, "wanted at 5"));
		close(directory.fd_buffered);
		free(e[0].memory);
		free(e[1].memory);
	}
}

static void a_drain_cancels_and_the_reader_works_on(void **state)
{
	(void)state;
	enum { N = 200 };
	struct hr_file file;
	open_file(&file, path);
	FOR_EACH_READER(reader, 4096, 1)
	{
		struct counter over = COUNTER_INIT;
		struct extent *e = calloc(N, sizeof *e);
		int            n_read = 0, n_canceled = 0;
		for (int i = 0; i < N; i++)
			extent_init(&e[i], &file, 0, 512 * 1024, NULL, &over);
		for (int i = 0; i < N; i++)
			reader->ops->submit(reader, &e[i].read);
		reader->ops->drain(reader);
		assert_int_equal(over.n, N);
		for (int i = 0; i < N; i++) {
			if (e[i].read.status == 0)
				extent_check(&e[i]), n_read++;
			else
				assert_int_equal(e[i].read.status, HR_ECANCELED), n_canceled++;
			assert_true(e[i].read.status == 0 || e[i].read.error.code == HR_ECANCELED);
		}
		assert_int_equal(n_read + n_canceled, N);
		assert_true(n_canceled > 0);
		reader->ops->submit(reader, &e[0].read);
		wait_for(&over, N + 1);
		extent_check(&e[0]);
		for (int i = 0; i < N; i++)
			free(e[i].memory);
		free(e);
	}
	hr_file_close(&file);
}

struct chain {
	struct hr_reader *reader;
	struct counter    over;
	int               left;
};

static void submit_again(struct hr_read *read)
{
	struct chain *chain = read->user;
	if (!read->status && chain->left-- > 0) {
		read->offset = (read->offset + HR_IO_ALIGN) % (3u << 20);
		chain->reader->ops->submit(chain->reader, read);
	} else {
		count_one(&chain->over);
	}
}

/* Also: thousands of tiny reads, and not one wake-up lost in a queue of one. */
static void done_may_submit(void **state)
{
	(void)state;
	struct hr_file file;
	open_file(&file, path);
	FOR_EACH_READER(reader, 4096, 8)
	{
		struct chain  chain = {.reader = reader, .over = COUNTER_INIT, .left = 5000};
		struct extent e;
		extent_init(&e, &file, 3, 40, NULL, NULL);
		e.read.done = submit_again;
		e.read.user = &chain;
		reader->ops->submit(reader, &e.read);
		wait_for(&chain.over, 1);
		extent_check(&e);
		/* A drain ends even a chain that would go on for ever. */
		chain.left = 1 << 30;
		reader->ops->submit(reader, &e.read);
		reader->ops->drain(reader);
		assert_int_equal(chain.over.n, 2);
		assert_int_equal(e.read.status, HR_ECANCELED);
		free(e.memory);
	}
	hr_file_close(&file);
}

struct submitter {
	struct hr_reader     *reader;
	const struct hr_file *file;
	uint64_t              seed;
	int                   n_wrong;
};

static void *submit_many(void *arg)
{
	enum { N = 40, ROUNDS = 25 };
	struct submitter *s = arg;
	struct counter    over = COUNTER_INIT;
	struct extent     e[N];
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < N; i++) {
			uint64_t length = 1 + next_random(&s->seed) % (i % 8 ? 300 : 30000);
			extent_init(&e[i], s->file, next_random(&s->seed) % (SIZE - length), length, NULL, &over);
			s->reader->ops->submit(s->reader, &e[i].read);
		}
		wait_for(&over, (round + 1) * N);
		for (int i = 0; i < N; i++) {
			s->n_wrong +=
			    e[i].read.status || memcmp(e[i].read.dst, content + e[i].read.offset, e[i].read.length);
			free(e[i].memory);
		}
	}
	return NULL;
}

static void many_threads_submit(void **state)
{
	(void)state;
	struct hr_file file;
	open_file(&file, path);
	FOR_EACH_READER(reader, 8192, 6)
	{
		struct submitter s[4];
		pthread_t        threads[4];
		for (int i = 0; i < 4; i++) {
			s[i] = (struct submitter){reader, &file, 77 + (uint64_t)i, 0};
			assert_int_equal(pthread_create(&threads[i], NULL, submit_many, &s[i]), 0);
		}
		for (int i = 0; i < 4; i++) {
			pthread_join(threads[i], NULL);
			assert_int_equal(s[i].n_wrong, 0);
		}
	}
	hr_file_close(&file);
}

static size_t pages_in_cache(const struct hr_file *file)
{
	size_t         pages = (file->size_bytes + 4095) / 4096, n = 0;
	unsigned char *in = calloc(pages, 1);
	void          *map = mmap(NULL, file->size_bytes, PROT_READ, MAP_SHARED, file->fd_buffered, 0);
	assert_true(map != MAP_FAILED);
	assert_int_equal(mincore(map, file->size_bytes, in), 0);
	for (size_t i = 0; i < pages; i++)
		n += in[i] & 1;
	munmap(map, file->size_bytes);
	free(in);
	return n;
}

static void no_page_cache_copy_stays(void **state)
{
	(void)state;
	for (int direct = 0; direct < 2; direct++)
		FOR_EACH_READER(reader, 256 * 1024, 4)
		{
			struct hr_file file;
			struct counter over = COUNTER_INIT;
			struct extent  e;
			open_file(&file, path);
			if (direct && file.fd_direct < 0)
				skip();
			if (!direct) {
				forbid_direct(&file);
				posix_fadvise(file.fd_buffered, 0, 0, POSIX_FADV_RANDOM); /* as hr_file_open() does */
			}
			posix_fadvise(file.fd_buffered, 0, 0, POSIX_FADV_DONTNEED);
			if (pages_in_cache(&file)) /* a file system that lives in the cache */
				skip();
			extent_init(&e, &file, 0, SIZE, NULL, &over);
			reader->ops->submit(reader, &e.read);
			wait_for(&over, 1);
			extent_check(&e);
			assert_int_equal(pages_in_cache(&file), 0);
			free(e.memory);
			hr_file_close(&file);
		}
}

static void busy_time_is_time_with_reads_in_flight(void **state)
{
	(void)state;
	struct hr_file file;
	open_file(&file, path);
	FOR_EACH_READER(reader, 65536, 4)
	{
		struct hr_reader_stats stats;
		struct counter         over = COUNTER_INIT;
		struct extent          e[8];
		uint64_t               sum = 0;
		for (int i = 0; i < 8; i++) {
			extent_init(&e[i], &file, 0, 1 << 20, NULL, &over);
			reader->ops->submit(reader, &e[i].read);
			if (i == 3) {
				wait_for(&over, 4);
				usleep(50000); /* idle: not counted */
			}
		}
		wait_for(&over, 8);
		reader->ops->drain(reader);
		reader->ops->stats(reader, &stats);
		uint64_t first = e[0].read.start_ns, last = 0;
		for (int i = 0; i < 8; i++) {
			last = e[i].read.end_ns > last ? e[i].read.end_ns : last;
			sum += e[i].read.end_ns - e[i].read.start_ns;
			free(e[i].memory);
		}
		assert_true(stats.busy_ns > 0 && stats.busy_ns <= sum);
		assert_true(stats.busy_ns <= last - first - 40000000);
	}
	hr_file_close(&file);
}

static void impossible_options_are_refused(void **state)
{
	(void)state;
	struct hr_reader        *reader = NULL;
	struct hr_error          err = {0};
	struct hr_reader_options options = {.chunk_bytes = 5000};
	assert_int_equal(hr_reader_open(&reader, &options, &err), HR_EINVAL);
	assert_non_null(strstr(err.message, "5000"));
	options = (struct hr_reader_options){.depth = -1};
	assert_int_equal(hr_reader_open(&reader, &options, &err), HR_EINVAL);
	assert_null(reader);
	options = (struct hr_reader_options){0};
	assert_int_equal(hr_reader_open(&reader, &options, &err), 0);
	assert_true(reader->depth > 0 && reader->chunk_bytes > 0);
	reader->ops->close(reader);
}

static int set_up(void **state)
{
	(void)state;
	make_file(path, SIZE, &content);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	free(content);
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_extent_in_every_chunk_and_depth),
	    cmocka_unit_test(every_extent_into_registered_memory),
	    cmocka_unit_test(blocking_reads_into_any_memory),
	    cmocka_unit_test(a_file_cut_short_names_wanted_and_got),
	    cmocka_unit_test(what_cannot_be_read_fails_once_with_its_reason),
	    cmocka_unit_test(a_drain_cancels_and_the_reader_works_on),
	    cmocka_unit_test(done_may_submit),
	    cmocka_unit_test(many_threads_submit),
	    cmocka_unit_test(no_page_cache_copy_stays),
	    cmocka_unit_test(busy_time_is_time_with_reads_in_flight),
	    cmocka_unit_test(impossible_options_are_refused),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
