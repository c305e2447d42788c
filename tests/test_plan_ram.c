/* Plans for the CPU, where a budget is one for weights and the KV cache and the activations come beside it:
 * all three together fit the RAM that can be had, or the plan says what does not. */
#include "headrace/headrace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct hr_model *model;
static char             notices[4096], card[400];

static void keep_notice(void *user, const char *sentence)
{
	(void)user;
	strncat(notices, sentence, sizeof notices - strlen(notices) - 1);
}

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

static struct hr_plan *plan_of(const struct hr_plan_options *o)
{
	struct hr_plan *plan;
	struct hr_error err = {0};
	if (hr_plan_new(&plan, model, o, &err))
		fail_msg("%s", err.message);
	return plan;
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
	struct hr_plan            *plan = plan_of(&o);
	const struct hr_plan_info *info = hr_plan_info(plan);
	uint64_t                   weights = info->device_bytes, fixed = info->kv_bytes + info->activation_bytes;
	assert_int_equal(info->slots, 0);
	hr_plan_free(plan);

	uint64_t ram = (fixed + weights * 3 / 4) / 15 * 16; /* with the margin */
	o = options_of((double)ram);
	o.n_ctx = 16384;
	o.device_memory_bytes = weights;
	plan = plan_of(&o);
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
	hr_plan_free(plan_of(&o));
	assert_string_equal(notices, "");
}

static void test_less_is_asked_for(void **state)
{
	(void)state;
	struct hr_plan_options o = options_of(16 << 20);
	o.n_ctx = 0; /* 2048 */
	o.n_seqs = 32;
	struct hr_plan            *plan = plan_of(&o);
	const struct hr_plan_info *info = hr_plan_info(plan);
	assert_true(info->n_seqs < 32 && info->kv_bytes < 16 << 20);
	assert_non_null(strstr(notices, "sequences are computed at the same time instead of 32"));
	hr_plan_free(plan);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_a_context_that_does_not_fit),
	    cmocka_unit_test(test_a_budget_that_is_not_there),
	    cmocka_unit_test(test_less_is_asked_for),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
