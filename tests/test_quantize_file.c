/* Converting models: what is in the file and that it is right, the same logits where nothing is lost,
 * and nothing left behind where something goes wrong. */
#include "headrace/headrace.h"
#include "runtime/format/assemble.h"
#include "runtime/format/quantize.h"
#include "tests/format_testing.h"
#include "tests/model_run.h"

#include <dirent.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>

#define GOLDEN "tests/golden/models/"

static char *directory, *source; /* of each test; source.gguf in it: random weights, f32 */

static char *path_in(const char *name)
{
	char *path = NULL;
	assert_true(asprintf(&path, "%s/%s", directory, name) > 0);
	return path;
}

static int set_up(void **state)
{
	(void)state;
	struct hr_error err = {0};
	directory = make_directory();
	source = path_in("source.gguf");
	if (hr_synth(source, "tiny-llama", "f32", 3, NULL, NULL, &err))
		fail_msg("%s", err.message);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	remove_directory(directory);
	free(source);
	return 0;
}

static int count_entries(const char *path)
{
	DIR *d = opendir(path);
	int  n = 0;
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static struct hr_quantize_options options_of(const char *type)
{
	struct hr_quantize_options q;
	hr_quantize_options_init(&q);
	q.type = type;
	q.n_threads = 2;
	return q;
}

static struct hr_quantize_result quantize(const char *out, const char *model, struct hr_quantize_options q)
{
	struct hr_error           err = {0};
	struct hr_quantize_result result = {0};
	if (hr_quantize(out, model, &q, &result, &err))
		fail_msg("%s to %s: %s", model, q.type, err.message);
	return result;
}

static void expect_failure(const char *what, const char *model, struct hr_quantize_options q, int code,
                           const char *fragment)
{
	struct hr_error err = {0};
	char           *out = path_in("out.gguf");
	int             before = count_entries(directory);
	check_failure(what, hr_quantize(out, model, &q, NULL, &err), &err, code, fragment);
	assert_int_equal(count_entries(directory), before);
	free(out);
}

/* ---- Types ---------------------------------------------------------------------- */

/* Root mean square of the error, as a part of the values': a little above what was measured. */
static const struct {
	const char  *name;
	enum hr_type type;
	double       bound;
} types[] = {
    {"f32", HR_TYPE_F32, 0},        {"f16", HR_TYPE_F16, 3e-4},       {"bf16", HR_TYPE_BF16, 2e-3},
    {"q8_0", HR_TYPE_Q8_0, 7e-3},   {"q4_0", HR_TYPE_Q4_0, 0.1},      {"q4_1", HR_TYPE_Q4_1, 0.09},
    {"q5_0", HR_TYPE_Q5_0, 0.05},   {"q5_1", HR_TYPE_Q5_1, 0.045},    {"q2_k", HR_TYPE_Q2_K, 0.34},
    {"q3_k", HR_TYPE_Q3_K, 0.17},   {"q4_k", HR_TYPE_Q4_K, 0.08},     {"q5_k", HR_TYPE_Q5_K, 0.04},
    {"q6_k", HR_TYPE_Q6_K, 0.02},   {"iq4_nl", HR_TYPE_IQ4_NL, 0.09}, {"iq4_xs", HR_TYPE_IQ4_XS, 0.09},
    {"mxfp4", HR_TYPE_MXFP4, 0.15},
};

static float *values_of(const struct hr_tensor *t, size_t *n)
{
	uint8_t *raw = malloc((size_t)t->bytes);
	*n = 1;
	for (int i = 0; i < t->n_dims; i++)
		*n *= (size_t)t->shape[i];
	float *x = malloc(*n * sizeof *x);
	assert_int_equal(hr_file_read_exact(t->file, t->offset, raw, (size_t)t->bytes, NULL), 0);
	hr_type_info(t->type)->to_f32(raw, x, *n);
	free(raw);
	return x;
}

static double relative_error(const struct hr_tensor *a, const struct hr_tensor *b)
{
	size_t n, m;
	float *x = values_of(a, &n), *y = values_of(b, &m);
	double squares = 0, error = 0;
	assert_int_equal(n, m);
	for (size_t i = 0; i < n; i++) {
		squares += (double)x[i] * x[i];
		error += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
	}
	free(x);
	free(y);
	return sqrt(error / squares);
}

static void check_tensors(const struct hr_checkpoint *a, const struct hr_checkpoint *b, enum hr_type type,
                          double bound)
{
	assert_int_equal(a->n_tensors, b->n_tensors);
	for (int i = 0; i < a->n_tensors; i++) {
		const struct hr_tensor *from = &a->tensors[i], *to = &b->tensors[i];
		assert_string_equal(from->name, to->name);
		assert_memory_equal(from->shape, to->shape, sizeof from->shape);
		assert_int_equal(to->offset % 4096, 0);
		if (from->n_dims == 1) {
			assert_int_equal(to->type, from->type);
			assert_true(relative_error(from, to) == 0);
			continue;
		}
		bool fits = from->shape[1] % hr_type_info(type)->block_elems == 0;
		assert_int_equal(to->type, fits ? type : hr__type_for_rows(type, from->shape[1]));
		double error = relative_error(from, to);
		if (fits && !(error <= bound))
			fail_msg("%s as %s: error %g", to->name, hr_type_info(type)->name, error);
	}
}

static void every_type_is_near_the_source(void **state)
{
	(void)state;
	char *out = path_in("out.gguf");
	for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
		struct hr_quantize_options q = options_of(types[i].name);
		struct hr_checkpoint       a, b;
		struct stat                st;
		q.pure = q.replace = true;
		struct hr_quantize_result result = quantize(out, source, q);
		assert_int_equal(stat(out, &st), 0);
		assert_int_equal(result.bytes, st.st_size);
		assert_int_equal(hr_checkpoint_open(&a, source, NULL), 0);
		assert_int_equal(hr_checkpoint_open(&b, out, NULL), 0);
		assert_int_equal(result.n_tensors, a.n_tensors);
		check_tensors(&a, &b, types[i].type, types[i].bound);
		hr_checkpoint_release(&a);
		hr_checkpoint_release(&b);
	}
	free(out);
}

static void threads_do_not_change_a_byte(void **state)
{
	(void)state;
	static const int n_threads[] = {1, 3, 16};
	uint8_t         *first = NULL;
	size_t           n_first = 0;
	for (int i = 0; i < 3; i++) {
		struct hr_quantize_options q = options_of("q4_k_m");
		char                      *out = path_in("out.gguf");
		size_t                     n;
		q.replace = true;
		q.n_threads = n_threads[i];
		quantize(out, source, q);
		uint8_t *data = read_file(out, &n);
		if (first) {
			assert_int_equal(n, n_first);
			assert_memory_equal(data, first, n);
			free(data);
		} else {
			first = data;
			n_first = n;
		}
		free(out);
	}
	free(first);
}

/* The type of each tensor in a model of 32 layers with rows of 256 and shared heads: as llama.cpp has them.
 */
static void mixes_are_those_of_llama_cpp(void **state)
{
	(void)state;
	static const struct {
		const char  *mix, *tensor;
		enum hr_type type;
	} wanted[] = {
	    {"q4_0", "output.weight", HR_TYPE_Q6_K},
	    {"q4_0", "token_embd.weight", HR_TYPE_Q4_0},
	    {"q8_0", "output.weight", HR_TYPE_Q8_0},
	    {"q4_k", "blk.0.attn_v.weight", HR_TYPE_Q6_K},
	    {"q4_k_m", "blk.4.attn_v.weight", HR_TYPE_Q4_K},
	    {"q4_k_m", "blk.6.ffn_down.weight", HR_TYPE_Q6_K},
	    {"q4_k_m", "blk.28.ffn_down.weight", HR_TYPE_Q6_K},
	    {"q4_k_m", "blk.0.attn_output.weight", HR_TYPE_Q4_K},
	    {"q4_k_s", "blk.3.attn_v.weight", HR_TYPE_Q5_K},
	    {"q4_k_s", "blk.4.ffn_down.weight", HR_TYPE_Q4_K},
	    {"q5_k_m", "blk.31.attn_v.weight", HR_TYPE_Q6_K},
	    {"q5_k_s", "blk.31.attn_v.weight", HR_TYPE_Q5_K},
	    {"q3_k_m", "blk.1.attn_v.weight", HR_TYPE_Q5_K},
	    {"q3_k_m", "blk.2.ffn_down.weight", HR_TYPE_Q4_K},
	    {"q3_k_l", "blk.2.attn_output.weight", HR_TYPE_Q5_K},
	    {"q3_k_s", "blk.2.attn_output.weight", HR_TYPE_Q3_K},
	    {"q2_k", "blk.9.attn_v.weight", HR_TYPE_Q4_K},
	    {"q2_k", "blk.9.ffn_down.weight", HR_TYPE_Q3_K},
	    {"q2_k", "blk.9.ffn_up.weight", HR_TYPE_Q2_K},
	    {"q6_k", "blk.9.ffn_norm.weight", HR_TYPE_F32},
	    {"iq4_nl", "blk.3.ffn_down.weight", HR_TYPE_Q5_K},
	    {"f16", "position_embd.weight", HR_TYPE_F32},
	};
	struct hr_hparams h = {.n_layers = 32, .n_heads = 32, .n_kv_heads = 8};
	for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
		assert_int_equal(
		    hr__mix_type(hr__mix_of_name(wanted[i].mix), wanted[i].tensor, 2, 256, HR_TYPE_F32, false, &h),
		    wanted[i].type);
	assert_int_equal(
	    hr__mix_type(hr__mix_of_name("q4_k_m"), "blk.9.ffn_up.weight", 2, 96, HR_TYPE_F32, false, &h),
	    HR_TYPE_Q5_0);
	assert_int_equal(
	    hr__mix_type(hr__mix_of_name("q6_k"), "blk.9.ffn_up.weight", 2, 80, HR_TYPE_F32, false, &h),
	    HR_TYPE_F16);
	h.tied = true;
	assert_int_equal(
	    hr__mix_type(hr__mix_of_name("q4_0"), "token_embd.weight", 2, 256, HR_TYPE_F32, false, &h),
	    HR_TYPE_Q6_K);
	h = (struct hr_hparams){.encoder = true, .n_layers = 12, .n_heads = 12, .n_kv_heads = 12};
	assert_int_equal(
	    hr__mix_type(hr__mix_of_name("q4_0"), "token_embd.weight", 2, 256, HR_TYPE_F32, false, &h),
	    HR_TYPE_Q6_K);
}

/* ---- Metadata ------------------------------------------------------------------- */

static void read_metadata(struct hr_gguf *g, const char *path)
{
	static struct hr_source s;
	struct hr_file          file;
	struct hr_error         err = {0};
	assert_int_equal(hr_file_open(&file, path, &err), 0);
	hr__source_init_file(&s, &file);
	if (hr_gguf_read(g, &s, &err))
		fail_msg("%s", err.message);
	hr_file_close(&file);
}

static void metadata_is_carried_over(void **state)
{
	(void)state;
	char          *out = path_in("out.gguf");
	struct hr_gguf a = {0}, b = {0};
	quantize(out, source, options_of("q4_0"));
	read_metadata(&a, source);
	read_metadata(&b, out);
	assert_int_equal(a.n_kvs, b.n_kvs);
	assert_int_equal(b.alignment, 4096);
	for (int i = 0; i < a.n_kvs; i++) {
		assert_string_equal(a.kvs[i].key, b.kvs[i].key);
		assert_int_equal(a.kvs[i].type, b.kvs[i].type);
		assert_int_equal(a.kvs[i].data_bytes, b.kvs[i].data_bytes);
		if (strcmp(a.kvs[i].key, "general.file_type") != 0)
			assert_memory_equal(a.kvs[i].data, b.kvs[i].data, a.kvs[i].data_bytes);
	}
	int32_t file_type = 0;
	assert_int_equal(hr_gguf_get_i32(&b, "general.file_type", &file_type, NULL), 1);
	assert_int_equal(file_type, 2);
	hr_gguf_release(&a);
	hr_gguf_release(&b);
	free(out);
}

/* ---- Logits --------------------------------------------------------------------- */

static uint64_t hash_of(const char *path, int n_ctx)
{
	struct hr_model *model;
	struct hr_error  err = {0};
	if (hr_model_open(&model, path, &err))
		fail_msg("%s", err.message);
	return run_to_hash_in(model, n_ctx);
}

/* Same weights, same bits: a GGUF made of a directory against the directory itself, or, where a GGUF has
 * other rows (llama), against one that another writer made of it; and of shards against the shards. */
static void nothing_is_lost_at_the_same_type(void **state)
{
	(void)state;
	static const struct {
		const char *model, *type, *same;
	} pairs[] = {
	    {"qwen2", "f32", "qwen2"},
	    {"qwen2-tied", "bf16", "qwen2-tied"},
	    {"qwen3", "f16", "qwen3"},
	    {"stablelm", "f16", "stablelm"},
	    {"stablelm-parallel", "f16", "stablelm-parallel"},
	    {"phi3", "f16", "phi3"},
	    {"phi3-longrope", "f16", "phi3-longrope"},
	    {"phi3-longrope.gguf", "f16", "phi3-longrope"},
	    {"phi4-longrope", "f16", "phi4-longrope.gguf"},
	    {"qwen2-yarn", "f16", "qwen2-yarn"},
	    {"qwen3-yarn", "f16", "qwen3-yarn"},
	    {"gpt2", "f16", "gpt2"},
	    {"opt", "f16", "opt"},
	    {"opt-after", "f16", "opt-after"},
	    {"gpt-neox", "f16", "gpt-neox"},
	    {"pythia", "f16", "pythia"},
	    {"llama2", "f32", "llama2-f32.gguf"},
	    {"llama2", "f16", "llama2-f16.gguf"},
	    {"llama3", "f16", "llama3-f16.gguf"},
	    {"llama-bias", "bf16", "llama-bias-bf16.gguf"},
	    {"llama-linear", "bf16", "llama-linear-bf16.gguf"},
	    {"mistral", "f16", "mistral-f16.gguf"},
	    {"mistral-window", "bf16", "mistral-window-bf16.gguf"},
	    {"smollm2", "bf16", "smollm2-bf16.gguf"},
	    {"qwen2-f32-00001-of-00003.gguf", "f32", "qwen2-f32-00001-of-00003.gguf"},
	};
	char *out = path_in("out.gguf");
	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
		char                       model[128], same[128];
		struct hr_quantize_options q = options_of(pairs[i].type);
		q.replace = true;
		snprintf(model, sizeof model, GOLDEN "%s", pairs[i].model);
		snprintf(same, sizeof same, GOLDEN "%s", pairs[i].same);
		quantize(out, model, q);
		for (int n_ctx = 0; n_ctx <= 32; n_ctx += 32) /* above what longrope calls original, and not */
			if (hash_of(out, n_ctx) != hash_of(same, n_ctx))
				fail_msg("%s as %s has other logits than %s", pairs[i].model, pairs[i].type, pairs[i].same);
	}
	free(out);
}

/* ---- What is refused -------------------------------------------------------------- */

static void what_makes_no_sense_is_refused(void **state)
{
	(void)state;
	struct hr_quantize_options q = options_of("q4_0");
	expect_failure("a type", source, options_of("q9"), HR_EINVAL, "known are f32, f16, bf16, q8_0, ");
	expect_failure("no model", "/no/model", q, HR_ENOENT, "/no/model");
	expect_failure("coarser", GOLDEN "llama2-q8_0.gguf", q, HR_EUNSUPPORTED, "--allow-requantize");
	expect_failure("finer", GOLDEN "llama2-q4_0.gguf", options_of("f16"), HR_EUNSUPPORTED, "be no better");
	expect_failure("unlike others", GOLDEN "gemma2", q, HR_EUNSUPPORTED, "attention_scale");
	char *out = path_in("out.gguf");
	q.allow_requantize = true;
	quantize(out, GOLDEN "llama2-q8_0.gguf", q);
	expect_failure("there already", source, q, HR_EINVAL, "is there already");
	q.replace = true;
	quantize(out, source, q);
	free(out);
}

static void set_weight(float value)
{
	struct hr_checkpoint c;
	assert_int_equal(hr_checkpoint_open(&c, source, NULL), 0);
	FILE *f = fopen(source, "r+b");
	assert_int_equal(fseek(f, (long)c.tensors[c.blocks[2].up].offset + 4 * 1000, SEEK_SET), 0);
	assert_int_equal(fwrite(&value, sizeof value, 1, f), 1);
	fclose(f);
	hr_checkpoint_release(&c);
}

static void weights_that_a_type_cannot_hold_are_named(void **state)
{
	(void)state;
	set_weight(70000);
	expect_failure("too large", source, options_of("f16"), HR_EUNSUPPORTED,
	               "'blk.2.ffn_up.weight' holds the weight 70000, and 65504 is the largest");
	set_weight(NAN);
	expect_failure("NaN", source, options_of("q4_0"), HR_EFORMAT, "no number");
	set_weight(-INFINITY);
	expect_failure("infinite", source, options_of("q4_k"), HR_EFORMAT, "infinite");
}

/* ---- What goes wrong --------------------------------------------------------------- */

static int stop_half_way(void *user, uint64_t done, uint64_t total)
{
	(void)user;
	return done > total / 2;
}

static int stop_at_the_end(void *user, uint64_t done, uint64_t total)
{
	(void)user;
	return done == total;
}

static void stopping_leaves_nothing(void **state)
{
	(void)state;
	struct hr_quantize_options q = options_of("q8_0");
	q.on_progress = stop_half_way;
	expect_failure("stopped", source, q, HR_ECANCELED, "as asked");
	q.on_progress = stop_at_the_end;
	expect_failure("stopped late", source, q, HR_ECANCELED, "as asked");
}

/* A limit on the size of files, and a file system of 100 KiB where the system lets us have one. */
static void a_full_disk_leaves_nothing(void **state)
{
	(void)state;
	struct rlimit old, small;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = old;
	small.rlim_cur = 100000;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	expect_failure("a limit", source, options_of("f16"), HR_EIO, "File too large");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);

	char                      *small_disk = path_in("small"), *out = path_in("small/out.gguf");
	struct hr_error            err = {0};
	struct hr_quantize_options q = options_of("f16");
	int                        flags = CLONE_NEWNS | (geteuid() ? CLONE_NEWUSER : 0);
	assert_int_equal(mkdir(small_disk, 0777), 0);
	if (!unshare(flags) && !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
	    !mount("none", small_disk, "tmpfs", 0, "size=100k")) {
		check_failure("no room", hr_quantize(out, source, &q, NULL, &err), &err, HR_EIO,
		              "there is no room for it: ");
		assert_int_equal(count_entries(small_disk), 0);
		assert_int_equal(umount(small_disk), 0);
	}
	free(small_disk);
	free(out);
}

/* What a writer that was killed left is taken over; what another one is writing isn't. */
static void unfinished_files_do_not_pile_up(void **state)
{
	(void)state;
	char *out = path_in("out.gguf"), *left = path_in("out.gguf.headrace-part0");
	write_file(left, "half", 4);
	quantize(out, source, options_of("q4_0"));
	assert_int_equal(access(left, F_OK), -1);
	assert_int_equal(count_entries(directory), 2);
	FILE *other = fopen(left, "w");
	assert_int_equal(flock(fileno(other), LOCK_EX), 0);
	struct hr_quantize_options q = options_of("q4_1");
	q.replace = true;
	quantize(out, source, q);
	assert_int_equal(access(left, F_OK), 0);
	assert_int_equal(count_entries(directory), 3);
	fclose(other);
	free(out);
	free(left);
}

/* ---- The cache -------------------------------------------------------------------- */

static char last_notice[2000];

static void on_notice(void *user, const char *sentence)
{
	(void)user;
	snprintf(last_notice, sizeof last_notice, "%s", sentence);
}

/* The file that is streamed from. */
static char *open_as(const char *model, const char *type)
{
	struct hr_error            err = {0};
	struct hr_model           *m;
	struct hr_quantize_options q = options_of(type);
	q.on_notice = on_notice;
	*last_notice = 0;
	if (hr_model_open_as(&m, model, &q, directory, &err))
		fail_msg("%s", err.message);
	assert_string_equal(hr_model_info(m)->dtype, type);
	char *path = strdup(hr_model_info(m)->path);
	hr_model_close(m);
	return path;
}

static void a_conversion_is_kept_and_found(void **state)
{
	(void)state;
	char *converted = path_in("converted"), *first = open_as(source, "q8_0");
	assert_non_null(strstr(last_notice, first));
	char *second = open_as(source, "q8_0");
	assert_string_equal(first, second);
	assert_string_equal(last_notice, "");
	free(second);
	assert_int_equal(truncate(first, 20000), 0); /* cut short: made anew */
	second = open_as(source, "q8_0");
	assert_string_equal(first, second);
	assert_non_null(strstr(last_notice, "was converted"));
	free(second);
	set_weight(0.5f); /* another model now: the older conversion goes */
	second = open_as(source, "q8_0");
	assert_string_not_equal(first, second);
	assert_int_equal(count_entries(converted), 1);
	free(open_as(source, "q4_0"));
	assert_int_equal(count_entries(converted), 2);
	free(second);
	second = open_as(source, "f32");
	assert_string_equal(second, source);
	assert_non_null(strstr(last_notice, "f32 already"));
	free(second);
	free(first);
	free(converted);
}

static void a_stopped_conversion_leaves_nothing(void **state)
{
	(void)state;
	struct hr_error            err = {0};
	struct hr_model           *m;
	char                      *converted = path_in("converted");
	struct hr_quantize_options q = options_of("q8_0");
	q.on_progress = stop_half_way;
	check_failure("stopped", hr_model_open_as(&m, source, &q, directory, &err), &err, HR_ECANCELED,
	              "as asked");
	assert_int_equal(count_entries(converted), 0);
	q = options_of("q4_0");
	check_failure("coarser", hr_model_open_as(&m, GOLDEN "llama2-q8_0.gguf", &q, directory, &err), &err,
	              HR_EUNSUPPORTED, "quantised already");
	check_failure("no cache", hr_model_open_as(&m, source, &q, NULL, &err), &err, HR_EINVAL,
	              "XDG_CACHE_HOME");
	assert_int_equal(count_entries(converted), 0);
	free(converted);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(every_type_is_near_the_source),
	    TEST(threads_do_not_change_a_byte),
	    TEST(mixes_are_those_of_llama_cpp),
	    TEST(metadata_is_carried_over),
	    TEST(nothing_is_lost_at_the_same_type),
	    TEST(what_makes_no_sense_is_refused),
	    TEST(weights_that_a_type_cannot_hold_are_named),
	    TEST(stopping_leaves_nothing),
	    TEST(unfinished_files_do_not_pile_up),
	    TEST(a_conversion_is_kept_and_found),
	    TEST(a_stopped_conversion_leaves_nothing),
	    TEST(a_full_disk_leaves_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
