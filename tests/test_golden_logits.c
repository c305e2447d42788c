/* The logits of small models of every family against those of Transformers.
 *
 * scripts/make-golden-models wrote tests/golden/models: each NAME.json there names
 * models (Hugging Face directories and GGUF files of the same weights), a prompt,
 * and the float32 logits that Transformers computes from exactly those weights.
 * Every model is run with everything resident and with everything streamed, on each
 * instruction set of this machine, with an f32 and an f16 cache. Asked for the last logits alone, of
 * which the last layer computes no more, it must give the bits that it gave among all others. */
#include "model_run.h"

#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#define ROOT       "tests/golden/models"
#define MAX_IDS    512
#define MAX_MODELS 64

/* Differences from the golden, as a fraction of its range: the worst of all logits, and the root of their
 * mean square. */
struct difference {
	double worst, rms;
};

/* The bounds are about twice what was measured on any model and instruction set. */
static const struct bounds {
	const char       *weights;  /* dtype of the model; NULL: all others */
	struct difference f32, f16; /* by type of the cache */
} bounds[] = {
    {"f32", {1e-5, 1e-6}, {4e-3, 4e-4}},
    {"f16", {1e-5, 1e-6}, {4e-3, 4e-4}},
    {"bf16", {1e-5, 1e-6}, {4e-3, 4e-4}},
    {NULL, {6e-4, 6e-5}, {4e-3, 4e-4}}, /* block types are multiplied with inputs rounded to 16 bits */
};

struct golden {
	int32_t ids[MAX_IDS];
	size_t  n_ids;
	int     first, rows, n_vocab; /* positions first .. first + rows - 1 */
	int     n_ctx;                /* of the session; 0: as it comes */
	float  *logits;               /* [rows][n_vocab] */
	double  range;
};

struct one_case {
	char model[300], json[300];
};

static struct one_case   cases[MAX_MODELS];
static struct CMUnitTest tests[MAX_MODELS];
static size_t            n_cases;

/* ---- Goldens --------------------------------------------------------------- */

static float *load_logits(const char *name, size_t n)
{
	char path[600];
	snprintf(path, sizeof path, "%s/%s", ROOT, name);
	FILE  *f = fopen(path, "rb");
	float *logits = malloc(n * sizeof *logits);
	assert_non_null(f);
	assert_non_null(logits);
	assert_int_equal(fread(logits, sizeof *logits, n, f), n);
	assert_int_equal(fgetc(f), EOF);
	fclose(f);
	return logits;
}

static double range_of(const float *x, size_t n)
{
	float low = x[0], high = x[0];
	for (size_t i = 0; i < n; i++) {
		low = fminf(low, x[i]);
		high = fmaxf(high, x[i]);
	}
	return (double)high - (double)low;
}

static void load_golden(struct golden *g, const char *path)
{
	json_error_t why;
	json_t      *json = json_load_file(path, 0, &why);
	if (!json)
		fail_msg("%s: %s", path, why.text);
	json_t *ids = json_object_get(json, "ids"), *shape = json_object_get(json, "shape");
	g->n_ids = json_array_size(ids);
	assert_in_range(g->n_ids, 1, MAX_IDS);
	for (size_t i = 0; i < g->n_ids; i++)
		g->ids[i] = (int32_t)json_integer_value(json_array_get(ids, i));
	g->first = (int)json_integer_value(json_object_get(json, "first"));
	g->rows = (int)json_integer_value(json_array_get(shape, 0));
	g->n_vocab = (int)json_integer_value(json_array_get(shape, 1));
	g->n_ctx = (int)json_integer_value(json_object_get(json, "n_ctx"));
	assert_int_equal((size_t)g->first + (size_t)g->rows, g->n_ids);
	size_t n = (size_t)g->rows * (size_t)g->n_vocab;
	g->logits = load_logits(json_string_value(json_object_get(json, "logits")), n);
	g->range = range_of(g->logits, n);
	json_decref(json);
}

/* ---- Comparing ------------------------------------------------------------- */

struct comparison {
	const struct golden *golden;
	double               worst, squares;
	int                  n_seen;
};

static double larger(double a, double b) { return a > b || isnan(a) ? a : b; }

/* Adds the squares of the differences from row `row` of `golden`; returns the largest. */
static double worst_of_row(const float *logits, const float *golden, int row, int n_vocab, double *squares)
{
	double       worst = 0;
	const float *want = golden + (size_t)row * (size_t)n_vocab;
	for (int i = 0; i < n_vocab; i++) {
		double d = fabs((double)logits[i] - (double)want[i]);
		worst = larger(worst, d);
		*squares += d * d;
	}
	return worst;
}

static void on_logits(void *user, uint64_t id, int position, const float *logits, int n_vocab)
{
	struct comparison   *c = user;
	const struct golden *g = c->golden;
	(void)id;
	assert_int_equal(n_vocab, g->n_vocab);
	if (position < g->first || position >= g->first + g->rows)
		return;
	c->worst = larger(c->worst, worst_of_row(logits, g->logits, position - g->first, n_vocab, &c->squares));
	c->n_seen++;
}

/* Raises `worst` to what this run differs by; returns the hash of its logits, 0 when this machine can't run
 * it. */
static uint64_t compare(struct difference *worst, const struct hr_model *model, const struct golden *g,
                        const struct hr_plan_options *o)
{
	struct comparison c = {.golden = g};
	struct run_prompt prompt = {g->ids, g->n_ids, 1};
	struct run_result result = {0}, last = {0};
	if (run_prompts(&result, model, o, &prompt, 1, on_logits, &c))
		return 0;
	assert_int_equal(c.n_seen, g->rows);
	assert_int_equal(result.streamed, !o->full);
	assert_int_equal(result.plan.kept_share > 0, result.streamed && o->resident_layers == HR_AUTO);
	assert_int_equal(run_prompts(&last, model, o, &prompt, 1, NULL, NULL), 0);
	assert_true(last.hash[0] == result.hash[0]);
	worst->worst = larger(worst->worst, c.worst / g->range);
	worst->rms = larger(worst->rms, sqrt(c.squares / g->rows / g->n_vocab) / g->range);
	return result.hash[0];
}

static void check(const struct difference *got, const struct difference *bound)
{
	assert_true(got->worst > 0); /* ours is not a copy of theirs */
	assert_true(got->worst <= bound->worst);
	assert_true(got->rms <= bound->rms);
}

static void print_difference(const char *model, const char *cache, const struct difference *d)
{
	printf("             %-30s %s cache: worst %.1e rms %.1e\n", model, cache, d->worst, d->rms);
}

static void equals_transformers(void **state)
{
	static const char *const isas[] = {"portable", "avx2", "avx512", "amx"};
	const struct one_case   *one = *state;
	struct golden            golden = {0};
	struct hr_model         *model, *cut;
	struct hr_error          err = {0};
	load_golden(&golden, one->json);
	if (hr_model_open(&model, one->model, &err))
		fail_msg("%s", err.message);
	struct difference f32 = {0}, f16 = {0};
	uint64_t          hashes[2] = {0}; /* streamed, of each type of cache */
	if (hr_model_open(&cut, one->model, &err))
		fail_msg("%s", err.message);
	assert_int_equal(run_cut_always(cut), 0);
	for (int run = 0; run < 4 * 2 * 2; run++) {
		struct hr_plan_options o;
		hr_plan_options_init(&o);
		o.device = "cpu";
		o.cpu_isa = isas[run / 4];
		o.kv_type = run & 1 ? "f16" : "f32";
		o.full = run & 2;
		o.n_threads = 2;
		o.n_ctx = golden.n_ctx;
		bool pieces = !o.full && run / 4 % 2 == 0; /* whole blocks are streamed, or pieces of them */
		if (pieces)
			o.device_memory_bytes = RUN_CUT_BUDGET;
		else if (!o.full) {
			o.resident_layers = 0;
			o.device_memory_bytes = run_smallest_budget(model, &o);
		}
		uint64_t hash = compare(run & 1 ? &f16 : &f32, pieces ? cut : model, &golden, &o);
		if (o.full)
			assert_true(hash == hashes[run & 1]);
		hashes[run & 1] = hash;
	}
	print_difference(one->model + sizeof ROOT, "f32", &f32);
	print_difference("", "f16", &f16);
	const struct bounds *bound = bounds;
	while (bound->weights && strcmp(bound->weights, hr_model_info(model)->dtype))
		bound++;
	check(&f32, &bound->f32);
	check(&f16, &bound->f16);
	hr_model_close(cut);
	hr_model_close(model);
	free(golden.logits);
}

/* ---- One test per model ---------------------------------------------------- */

static int add_cases(const char *file)
{
	char json_path[300];
	snprintf(json_path, sizeof json_path, "%s/%s", ROOT, file);
	json_t *json = json_load_file(json_path, 0, NULL), *name;
	size_t  i;
	if (!json)
		return -1;
	json_array_foreach(json_object_get(json, "models"), i, name)
	{
		if (n_cases == MAX_MODELS)
			return -1;
		struct one_case *one = &cases[n_cases];
		snprintf(one->model, sizeof one->model, "%s/%s", ROOT, json_string_value(name));
		snprintf(one->json, sizeof one->json, "%s", json_path);
		tests[n_cases++] = (struct CMUnitTest){one->model, equals_transformers, NULL, NULL, one};
	}
	json_decref(json);
	return 0;
}

int main(void)
{
	struct dirent **files;
	int             n = scandir(ROOT, &files, NULL, alphasort), rc = n > 0 ? 0 : -1;
	for (int i = 0; i < n; i++) {
		const char *end = strrchr(files[i]->d_name, '.');
		if (end && !strcmp(end, ".json"))
			rc |= add_cases(files[i]->d_name);
		free(files[i]);
	}
	if (n > 0)
		free(files);
	if (rc || !n_cases) {
		fprintf(stderr, "No goldens could be read from %s; run the test from the source directory.\n", ROOT);
		return 1;
	}
	return _cmocka_run_group_tests("golden_logits", tests, n_cases, NULL, NULL);
}
