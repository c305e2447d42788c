/* Plans for the CPU, where a budget is one for weights and the KV cache and the activations come beside it:
 * all three together fit the RAM that can be had, or the plan says what does not. */
#include "base/mem.h"
#include "runtime/backend.h"
#include "runtime/plan.h"
#include "tests/plan_testing.h"

#include <stdlib.h>
#include <unistd.h>

static struct hr_model *model;
static char             card[400];

static int set_up(void **state)
{
	(void)state;
	struct hr_error err = {0};
	char            path[] = "/tmp/headrace-ram-XXXXXX";
	close(mkstemp(path));
	unlink(path);
	int rc = hr_synth(path, "tiny-llama", "f32", 1, NULL, NULL, &err) || hr_model_open(&model, path, &err);
	unlink(path);
	return rc;
}

static int tear_down(void **state)
{
	(void)state;
	hr_model_close(model);
	return 0;
}

/* For a machine with so much RAM; 0: for this one. */
static struct hr_plan_options options_of(double ram_bytes)
{
	struct hr_plan_options o;
	hr_plan_options_init(&o);
	snprintf(
	    card, sizeof card,
	    "{\"name\": \"A machine\", \"device\": \"cpu\", \"device_memory_gib\": %.9f, \"host_memory_gib\": 1, "
	    "\"memory_gbps\": 50, \"tflops\": 1, \"disk_gbps\": 2, \"disk_us\": 100}",
	    ram_bytes / 0x1p30);
	o.device = "cpu";
	o.assume = ram_bytes > 0 ? card : NULL;
	o.n_batch = 32;
	o.n_ctx = 256;
	o.on_notice = keep_notice;
	notices[0] = 0;
	return o;
}

static void check_refused(const struct hr_plan_options *o, const char *words)
{
	struct hr_plan *plan;
	struct hr_error err = {0};
	assert_int_equal(hr_plan_new(&plan, model, o, &err), HR_EBUDGET);
	if (!strstr(err.message, words))
		fail_msg("no \"%s\": %s", words, err.message);
}

static void test_a_context_that_does_not_fit(void **state)
{
	(void)state;
	for (uint64_t budget = 0; budget < 2 << 20; budget += 1 << 20) {
		struct hr_plan_options o = options_of(256 << 20);
		o.device_memory_bytes = budget;
		o.n_ctx = 1000000; /* 1 KiB each */
		check_refused(&o, "the KV cache of 1 x 1000000 tokens wants 976.6 MiB");
		o = options_of(0);
		o.device_memory_bytes = budget;
		o.n_ctx = 2000000000;
		check_refused(&o, "the KV cache of 1 x 2000000000 tokens wants");
	}
}

/* A budget for all weights, in RAM that holds three quarters of them beside the cache. */
static void test_a_budget_that_is_not_there(void **state)
{
	(void)state;
	struct hr_plan_options o = options_of(1 << 30);
	o.n_ctx = 16384;
	struct hr_plan            *plan = plan_of(model, &o);
	const struct hr_plan_info *info = hr_plan_info(plan);
	uint64_t                   weights = info->device_bytes, fixed = info->kv_bytes + info->activation_bytes;
	assert_int_equal(info->slots, 0);
	hr_plan_free(plan);

	uint64_t ram = (fixed + weights * 3 / 4) / 15 * 16; /* with the margin */
	o = options_of((double)ram);
	o.n_ctx = 16384;
	o.device_memory_bytes = weights;
	plan = plan_of(model, &o);
	info = hr_plan_info(plan);
	assert_true(info->slots > 0 && info->device_budget_bytes < weights);
	assert_true(info->device_bytes + info->kv_bytes + info->activation_bytes <= ram);
	assert_non_null(strstr(notices, "A device budget of"));
	hr_plan_free(plan);
	o.no_fallback = true;
	check_refused(&o, "With --no-fallback that is an error.");

	o = options_of((double)ram); /* what is there can be had in peace */
	o.n_ctx = 16384;
	o.device_memory_bytes = weights / 2;
	hr_plan_free(plan_of(model, &o));
	assert_string_equal(notices, "");
}

static void test_less_is_asked_for(void **state)
{
	(void)state;
	struct hr_plan_options o = options_of(16 << 20);
	o.n_ctx = 0; /* 2048 */
	o.n_seqs = 32;
	struct hr_plan            *plan = plan_of(model, &o);
	const struct hr_plan_info *info = hr_plan_info(plan);
	assert_true(info->n_seqs < 32 && info->kv_bytes < 16 << 20);
	assert_non_null(strstr(notices, "sequences are computed at the same time instead of 32"));
	hr_plan_free(plan);
}

/* ---- A machine that says how much of its RAM is free ----------------------------- */

static struct hr_device_ops host_ops;
static uint64_t             free_bytes;

static int say_free(struct hr_device *device, struct hr_device_memory *out)
{
	(void)device;
	*out = (struct hr_device_memory){.total_bytes = 1ull << 40, .free_bytes = free_bytes};
	return 0;
}

/* Plan where so much is free. */
static int plan_where(uint64_t bytes, struct hr_plan **plan, struct hr_error *err)
{
	struct hr_plan_options o = options_of(0);
	struct hr_backend      backend = {0};
	assert_int_equal(hr__backend_open(&backend, &o, NULL), 0);
	const struct hr_device_ops *ops = backend.device->ops;
	host_ops = *ops;
	host_ops.memory = say_free;
	backend.device->ops = &host_ops;
	free_bytes = bytes;
	int rc = hr__plan_new(plan, model, &o, &backend, NULL, err);
	backend.device->ops = ops;
	hr__backend_close(&backend);
	return rc;
}

/* A sixteenth of what is free, at least 32 MiB, at most 512 MiB, is for what no plan counts. */
static void test_a_margin_is_left(void **state)
{
	(void)state;
	static const uint64_t mib[][2] = {{80, 32},  {100, 32},   {511, 32},   {512, 32},
	                                  {800, 50}, {8000, 500}, {8192, 512}, {1 << 20, 512}};
	for (size_t i = 0; i < HR_COUNT_OF(mib); i++) {
		struct hr_plan *plan;
		struct hr_error err = {0};
		if (plan_where(mib[i][0] << 20, &plan, &err))
			fail_msg("%s", err.message);
		const struct hr_plan_info *info = hr_plan_info(plan);
		uint64_t                   used = info->device_budget_bytes + info->kv_bytes + info->activation_bytes;
		assert_int_equal((mib[i][0] << 20) - used, mib[i][1] << 20);
		hr_plan_free(plan);
	}
}

static void test_hardly_more_than_the_margin(void **state)
{
	(void)state;
	static const struct {
		uint64_t    mib;
		const char *words;
	} cases[] = {{0, "Of 0.0 MiB of RAM"}, {31, "Of 0.0 MiB of RAM"}, {33, "Of 1.0 MiB of RAM"}};
	for (size_t i = 0; i < HR_COUNT_OF(cases); i++) {
		struct hr_plan *plan;
		struct hr_error err = {0};
		assert_int_equal(plan_where(cases[i].mib << 20, &plan, &err), HR_EBUDGET);
		if (!strstr(err.message, cases[i].words) || !strstr(err.message, "too few for this model"))
			fail_msg("no \"%s\": %s", cases[i].words, err.message);
	}
}

/* A full load is advised to ask for more only where more can be had. */
static void test_a_full_load_that_does_not_fit(void **state)
{
	(void)state;
	struct hr_plan_options o = options_of(1 << 30);
	o.full = true;
	o.n_ctx = 16384;
	struct hr_plan            *plan = plan_of(model, &o);
	const struct hr_plan_info *info = hr_plan_info(plan);
	uint64_t                   weights = info->device_bytes, fixed = info->kv_bytes + info->activation_bytes;
	hr_plan_free(plan);

	o = options_of(1 << 30);
	o.full = true;
	o.n_ctx = 16384;
	o.device_memory_bytes = weights / 2;
	check_refused(&o, "leave out --window full, or give --device-memory");
	struct hr_error err = {0};
	double          advised = 0;
	hr_plan_new(&plan, model, &o, &err);
	assert_int_equal(sscanf(strstr(err.message, "--device-memory "), "--device-memory %lfMiB", &advised), 1);
	o.device_memory_bytes = (uint64_t)(advised * (1 << 20));
	hr_plan_free(plan_of(model, &o));

	o = options_of((double)(fixed + weights / 2) / 15 * 16);
	o.full = true;
	o.n_ctx = 16384;
	check_refused(&o, "can be had; leave out --window full.");
	o.device_memory_bytes = 1 << 30; /* does not help */
	check_refused(&o, "can be had; leave out --window full.");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_a_context_that_does_not_fit),
	    cmocka_unit_test(test_a_budget_that_is_not_there),
	    cmocka_unit_test(test_less_is_asked_for),
	    cmocka_unit_test(test_a_margin_is_left),
	    cmocka_unit_test(test_hardly_more_than_the_margin),
	    cmocka_unit_test(test_a_full_load_that_does_not_fit),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
