/* Synthetic models: every shape and type opens, the same seed gives the same
 * bytes, values are spread as promised, and a failure leaves nothing behind. */
#include "headrace/headrace.h"
#include "runtime/format/synth.h"
#include "tests/format_testing.h"

#include <dirent.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

static const char *const tiny[] = {"tiny-llama", "tiny-llama3", "tiny-mistral", "tiny-qwen2"};
static const char *const types[] = {"f32",  "f16",  "bf16", "q8_0", "q4_0", "q4_1",
                                    "q5_0", "q5_1", "q4_k", "q5_k", "q6_k", "mxfp4"};

static void synth(const char *path, const char *shape, const char *type, uint64_t seed)
{
	struct hr_error err = {0};
	if (hr_synth(path, shape, type, seed, NULL, NULL, &err))
		fail_msg("%s", err.message);
}

static int count_entries(const char *directory)
{
	DIR *d = opendir(directory);
	int  n = 0;
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

/* Tensors follow one another on the grid of direct I/O, layer after layer. */
static void check_layout(const struct hr_checkpoint *c)
{
	for (int i = 0; i < c->n_tensors; i++) {
		assert_int_equal(c->tensors[i].offset % 4096, 0);
		if (i > 0)
			assert_true(c->tensors[i].offset - (c->tensors[i - 1].offset + c->tensors[i - 1].bytes) < 4096);
	}
	for (int i = 1; i < c->hparams.n_layers; i++)
		assert_true(c->blocks[i].attn_norm > c->blocks[i - 1].down);
}

/* What a matrix with rows of `cols` has instead of a type whose block is too long for them. */
static const char *type_for(const char *type, uint64_t cols)
{
	if (cols % hr_type_info((enum hr_type)hr_type_of_name(type))->block_elems == 0)
		return type;
	return !strcmp(type, "q4_k") ? "q5_0" : !strcmp(type, "q5_k") ? "q5_1" : "q8_0";
}

/* Norms stay f32, matrices have the type that was asked for. */
static void every_shape_and_type_opens(void **state)
{
	(void)state;
	char *directory = make_directory();
	for (size_t i = 0; i < sizeof tiny / sizeof *tiny; i++)
		for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
			struct hr_checkpoint c = {0};
			struct hr_error      err = {0};
			synth(join(directory, "m.gguf"), tiny[i], types[k], 3);
			if (hr_checkpoint_open(&c, join(directory, "m.gguf"), &err))
				fail_msg("%s %s: %s", tiny[i], types[k], err.message);
			if (hr_type_info((enum hr_type)hr_type_of_name(types[k]))->block_elems <= 32)
				assert_string_equal(c.dtype, types[k]);
			assert_int_equal(c.tensors[c.blocks[0].attn_norm].type, HR_TYPE_F32);
			assert_int_equal(c.tensors[c.blocks[0].down].type,
			                 hr_type_of_name(type_for(types[k], c.tensors[c.blocks[0].down].shape[1])));
			assert_int_equal(c.tensors[c.blocks[0].gate].type,
			                 hr_type_of_name(type_for(types[k], c.tensors[c.blocks[0].gate].shape[1])));
			check_layout(&c);
			hr_checkpoint_release(&c);
		}
	remove_directory(directory);
}

static void the_seed_decides_every_byte(void **state)
{
	(void)state;
	char *directory = make_directory();
	for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
		size_t n[3];
		synth(join(directory, "a"), "tiny-llama", types[k], 7);
		synth(join(directory, "b"), "tiny-llama", types[k], 7);
		synth(join(directory, "c"), "tiny-llama", types[k], 8);
		uint8_t *a = read_file(join(directory, "a"), &n[0]), *b = read_file(join(directory, "b"), &n[1]);
		uint8_t *c = read_file(join(directory, "c"), &n[2]);
		assert_int_equal(n[0], n[1]);
		assert_int_equal(n[0], n[2]);
		assert_memory_equal(a, b, n[0]);
		assert_memory_not_equal(a, c, n[0]);
		free(a);
		free(b);
		free(c);
	}
	remove_directory(directory);
}

/* Mean 0 and standard deviation 1/sqrt(columns), whatever the type; no two rows alike. */
static void values_are_spread_as_promised(void **state)
{
	(void)state;
	char *directory = make_directory();
	for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
		struct hr_checkpoint c = {0};
		synth(join(directory, "m"), "tiny-llama", types[k], 1);
		assert_int_equal(hr_checkpoint_open(&c, join(directory, "m"), NULL), 0);
		const struct hr_tensor *t = &c.tensors[c.blocks[1].gate];
		size_t                  n = (size_t)(t->shape[0] * t->shape[1]), cols = (size_t)t->shape[1];
		uint8_t                *raw = malloc((size_t)t->bytes);
		float                  *x = malloc(n * sizeof *x);
		assert_int_equal(hr_file_read_exact(t->file, t->offset, raw, (size_t)t->bytes, NULL), 0);
		hr_type_info(t->type)->to_f32(raw, x, n);
		double sum = 0, squares = 0;
		for (size_t i = 0; i < n; i++) {
			assert_true(isfinite(x[i]));
			sum += x[i];
			squares += (double)x[i] * x[i];
		}
		double mean = sum / (double)n, sigma = sqrt(squares / (double)n) * sqrt((double)cols);
		assert_true(fabs(mean) < 0.03 / sqrt((double)cols));
		assert_true(sigma > 0.95 && sigma < 1.05);
		for (size_t row = 1; row < t->shape[0]; row++)
			assert_memory_not_equal(x + (row - 1) * cols, x + row * cols, cols * sizeof *x);
		free(raw);
		free(x);
		hr_checkpoint_release(&c);
	}
	remove_directory(directory);
}

/* A tensor made in pieces is the tensor made at once. */
static void pieces_make_the_whole(void **state)
{
	(void)state;
	enum { N = 4096, PIECE = 768 };
	for (int type = 0; type < HR_TYPE_COUNT; type++) {
		struct hr_synth_weights    w;
		const struct hr_type_info *info = hr_type_info(type);
		uint8_t                    whole[N * 4] = {0}, pieces[N * 4] = {0};
		hr__synth_weights_init(&w, type, 0, 0.02f, 5);
		hr__synth_weights_fill(&w, whole, 0, N);
		for (uint64_t first = 0; first < N; first += PIECE)
			hr__synth_weights_fill(&w, pieces + hr_type_row_bytes(info, first), first,
			                       N - first < PIECE ? N - first : PIECE);
		assert_memory_equal(whole, pieces, hr_type_row_bytes(info, N));
		assert_memory_not_equal(whole, whole + hr_type_row_bytes(info, N / 2), info->block_bytes);
	}
}

static void rope_factors_rise_from_1_to_8(void **state)
{
	(void)state;
	char                *directory = make_directory();
	struct hr_checkpoint c = {0};
	float                x[16];
	synth(join(directory, "m"), "tiny-llama3", "f16", 1);
	assert_int_equal(hr_checkpoint_open(&c, join(directory, "m"), NULL), 0);
	const struct hr_tensor *t = &c.tensors[c.ends.rope_factors];
	assert_int_equal(t->bytes, sizeof x);
	assert_int_equal(hr_file_read_exact(t->file, t->offset, x, sizeof x, NULL), 0);
	assert_true(x[0] == 1 && x[15] == 8);
	for (int i = 1; i < 16; i++)
		assert_true(x[i] >= x[i - 1]);
	hr_checkpoint_release(&c);
	remove_directory(directory);
}

static void an_existing_file_is_replaced_at_the_end_only(void **state)
{
	(void)state;
	struct hr_error err = {0};
	char           *directory = make_directory();
	write_text(directory, "m.gguf", "old");
	check_failure("a bad shape", hr_synth(join(directory, "m.gguf"), "llama-1t", "f16", 1, NULL, NULL, &err),
	              &err, HR_EINVAL, "The shape 'llama-1t' is unknown; known are tinyllama-1.1b, ");
	check_failure("a bad type", hr_synth(join(directory, "m.gguf"), "tiny-llama", "q9", 1, NULL, NULL, &err),
	              &err, HR_EINVAL,
	              "The weight type 'q9' is none of a GGUF; there are f32, f16, bf16, q8_0, ");
	check_failure("no directory",
	              hr_synth(join(directory, "no/m.gguf"), "tiny-llama", "f16", 1, NULL, NULL, &err), &err,
	              HR_EIO, "creating the file failed: No such file or directory");
	check_failure("no path", hr_synth(NULL, "tiny-llama", "f16", 1, NULL, NULL, &err), &err, HR_EINVAL,
	              "shapes are");
	size_t   n;
	uint8_t *data = read_file(join(directory, "m.gguf"), &n);
	assert_int_equal(n, 3);
	free(data);
	synth(join(directory, "m.gguf"), "tiny-llama", "f16", 1);
	assert_int_equal(count_entries(directory), 1);
	remove_directory(directory);
}

struct progress {
	uint64_t done, total;
	int      calls, stop_after;
};

static int on_progress(void *user, uint64_t done, uint64_t total)
{
	struct progress *p = user;
	assert_true(done > p->done && done <= total);
	p->done = done;
	p->total = total;
	return ++p->calls == p->stop_after;
}

static void progress_counts_up_and_can_stop(void **state)
{
	(void)state;
	struct progress p = {0};
	struct hr_error err = {0};
	char           *directory = make_directory();
	size_t          n;
	assert_int_equal(hr_synth(join(directory, "m"), "tiny-llama", "f16", 1, on_progress, &p, &err), 0);
	free(read_file(join(directory, "m"), &n));
	assert_int_equal(p.total, n);
	assert_true(p.total - p.done < 4096);
	p = (struct progress){.stop_after = 5};
	check_failure("stopped", hr_synth(join(directory, "n"), "tiny-llama", "f16", 1, on_progress, &p, &err),
	              &err, HR_ECANCELED, "as asked");
	assert_int_equal(p.calls, 5);
	assert_int_equal(count_entries(directory), 1);
	remove_directory(directory);
}

/* A limit on the size of files stops it half-way. */
static void a_failed_write_leaves_nothing_behind(void **state)
{
	(void)state;
	struct rlimit   old, small;
	struct hr_error err = {0};
	char           *directory = make_directory();
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = old;
	small.rlim_cur = 100000;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	int rc = hr_synth(join(directory, "m.gguf"), "tiny-llama", "f16", 1, NULL, NULL, &err);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	check_failure("a limit", rc, &err, HR_EIO, "m.gguf: reserving its bytes failed: File too large");
	assert_int_equal(count_entries(directory), 0);
	remove_directory(directory);
}

/* A file system of 100 KiB in a mount namespace of our own, where the system lets us have one. */
static void no_room_is_named(void **state)
{
	(void)state;
	struct hr_error err = {0};
	char           *directory = make_directory();
	int             flags = CLONE_NEWNS | (geteuid() ? CLONE_NEWUSER : 0);
	if (unshare(flags) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", directory, "tmpfs", 0, "size=100k")) {
		remove_directory(directory);
		skip();
	}
	check_failure("no room", hr_synth(join(directory, "m.gguf"), "tiny-llama", "f16", 1, NULL, NULL, &err),
	              &err, HR_EIO, "m.gguf: there is no room for it: 1495040 bytes are needed, ");
	assert_int_equal(count_entries(directory), 0);
	assert_int_equal(umount(directory), 0);
	remove_directory(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_shape_and_type_opens),
	    cmocka_unit_test(the_seed_decides_every_byte),
	    cmocka_unit_test(values_are_spread_as_promised),
	    cmocka_unit_test(pieces_make_the_whole),
	    cmocka_unit_test(rope_factors_rise_from_1_to_8),
	    cmocka_unit_test(an_existing_file_is_replaced_at_the_end_only),
	    cmocka_unit_test(progress_counts_up_and_can_stop),
	    cmocka_unit_test(a_failed_write_leaves_nothing_behind),
	    cmocka_unit_test(no_room_is_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
