/* Predictions through the public header: rates that are measured once and kept, files of them that
 * are broken, and cards. */
#include "tests/plan_testing.h"

#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

static char             directory[] = "/tmp/headrace-predicted-XXXXXX";
static char             model_path[64], cache[64];
static struct hr_model *model;

static int set_up(void **state)
{
	(void)state;
	struct hr_error err = {0};
	if (!mkdtemp(directory))
		return -1;
	snprintf(model_path, sizeof model_path, "%s/m.gguf", directory);
	snprintf(cache, sizeof cache, "%s/a/b", directory);
	return hr_synth(model_path, "tiny-llama", "q8_0", 1, NULL, NULL, &err) ||
	       hr_model_open(&model, model_path, &err);
}

static int tear_down(void **state)
{
	(void)state;
	char command[128];
	hr_model_close(model);
	snprintf(command, sizeof command, "rm -r %s", directory);
	return system(command);
}

static struct hr_plan_options options_of(bool measure)
{
	struct hr_plan_options o;
	hr_plan_options_init(&o);
	o.cache_dir = cache;
	o.measure = measure;
	o.n_threads = 1;
	o.n_batch = 32;
	o.n_ctx = 128;
	o.window_layers = 2;
	o.on_notice = keep_notice;
	notices[0] = 0;
	return o;
}

/* The only file of the cache. */
static void find_file(char path[320])
{
	DIR *d = opendir(cache);
	assert_non_null(d);
	path[0] = 0;
	for (struct dirent *e; (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		assert_string_equal(path, "");
		snprintf(path, 320, "%s/%s", cache, e->d_name);
	}
	closedir(d);
	assert_string_not_equal(path, "");
}

static void test_without_rates_nothing_is_predicted(void **state)
{
	(void)state;
	struct hr_plan_options o = options_of(false);
	struct hr_plan        *plan = plan_of(model, &o);
	struct hr_prediction   p;
	assert_null(hr_plan_info(plan)->rates);
	assert_true(hr_plan_info(plan)->predicted_pass_ms == 0);
	assert_int_equal(hr_plan_predict(plan, 1, 1, 0, &p, NULL, NULL, NULL), HR_EUNSUPPORTED);
	assert_string_equal(notices, "");
	hr_plan_free(plan);
}

static void test_measured_once_and_kept(void **state)
{
	(void)state;
	struct hr_plan_options o = options_of(true);
	struct hr_plan        *measured = plan_of(model, &o), *again;
	char                   path[320];
	assert_string_equal(hr_plan_info(measured)->rates, "measured");
	assert_true(hr_plan_info(measured)->predicted_pass_ms > 0);
	assert_true(hr_plan_info(measured)->predicted_prefill_tps > 0);
	assert_true(hr_plan_info(measured)->predicted_pass_ms >=
	            hr_plan_info(measured)->decode_ceiling_ms * 0.999);
	find_file(path);
	o.measure = false;
	again = plan_of(model, &o);
	assert_true(abs((int)(1e6 * hr_plan_info(again)->predicted_pass_ms) -
	                (int)(1e6 * hr_plan_info(measured)->predicted_pass_ms)) <= 1);
	assert_string_equal(notices, "");
	o.n_threads = 2; /* other threads, other rates */
	hr_plan_free(again);
	again = plan_of(model, &o);
	assert_null(hr_plan_info(again)->rates);
	hr_plan_free(again);
	hr_plan_free(measured);
}

static void test_broken_file_is_told_and_replaced(void **state)
{
	(void)state;
	static const char *const broken[] = {"", "{", "[]", "{\"machine\": 3}", "{\"rates\": {}}"};
	char                     path[320];
	find_file(path);
	for (int i = 0; i < 5; i++) {
		FILE *f = fopen(path, "w");
		fputs(broken[i], f);
		fclose(f);
		struct hr_plan_options o = options_of(false);
		struct hr_plan        *plan = plan_of(model, &o);
		assert_null(hr_plan_info(plan)->rates);
		assert_non_null(strstr(notices, path));
		assert_ptr_equal(strstr(notices, path), notices);
		hr_plan_free(plan);
	}
	struct hr_plan_options o = options_of(true);
	struct hr_plan        *plan = plan_of(model, &o);
	assert_non_null(strstr(notices, "measured again"));
	assert_non_null(hr_plan_info(plan)->rates);
	hr_plan_free(plan);
	o = options_of(false);
	plan = plan_of(model, &o);
	assert_non_null(hr_plan_info(plan)->rates);
	assert_string_equal(notices, "");
	hr_plan_free(plan);
}

static void test_cache_that_cannot_be_written(void **state)
{
	(void)state;
	struct hr_plan_options o = options_of(true);
	o.cache_dir = "/proc/headrace";
	struct hr_plan *plan = plan_of(model, &o);
	assert_non_null(hr_plan_info(plan)->rates);
	assert_non_null(strstr(notices, "/proc/headrace"));
	hr_plan_free(plan);
}

#define CARD                                                                                                 \
	"{\"name\": \"A card\", \"device\": \"cuda:0\", \"device_memory_gib\": %s, \"host_memory_gib\": 1, "     \
	"\"memory_gbps\": 100, \"tflops\": 10, \"link_gbps\": 10, \"disk_gbps\": 2, \"disk_us\": 100%s}"

struct lanes {
	double sums[4], last_compute;
};

static void add_span(void *user, const struct hr_span *span)
{
	static const char *const names[] = {"disk", "link", "compute", "host"};
	struct lanes            *lanes = user;
	for (int i = 0; i < 4; i++)
		if (!strcmp(names[i], span->lane))
			lanes->sums[i] += span->end_ms - span->begin_ms;
	assert_non_null(span->name);
}

static void test_card_stands_in_for_a_machine(void **state)
{
	(void)state;
	struct hr_plan_options o = options_of(false);
	char                   card[512];
	struct lanes           lanes = {0};
	struct hr_prediction   p;
	snprintf(card, sizeof card, CARD, "1", "");
	o.assume = card;
	o.host_memory_bytes = 512 << 10; /* staging, and hardly more: some comes from the disk */
	o.chunk_bytes = 64 << 10;
	o.read_depth = 4;
	struct hr_plan            *plan = plan_of(model, &o);
	const struct hr_plan_info *info = hr_plan_info(plan);
	assert_string_equal(info->rates, "A card");
	assert_string_equal(info->device_name, "A card");
	assert_string_equal(info->device, "cuda:0");
	assert_true(info->link_bytes_per_pass > 0 && info->disk_bytes_per_pass > 0);
	assert_int_equal(hr_plan_predict(plan, 1, 1, 10, &p, add_span, &lanes, NULL), 0);
	assert_true(p.disk_ms > 0 && p.link_ms > 0 && p.compute_ms > 0);
	assert_true(p.pass_ms >= p.ceiling_ms * 0.999);
	assert_true(lanes.sums[0] > 0 && lanes.sums[1] > 0 && lanes.sums[2] > 0);
	hr_plan_free(plan);
}

static void test_card_that_is_wrong(void **state)
{
	(void)state;
	static const struct {
		const char *memory, *more, *word;
	} bad[] = {{"\"24\"", "", "device_memory_gib"},
	           {"-1", "", "device_memory_gib"},
	           {"1", ", \"vram\": 3", "vram"},
	           {"1", ", \"link_us\": \"x\"", "link_us"},
	           {"1", ",", "JSON"}};
	for (int i = 0; i < 5; i++) {
		struct hr_plan_options o = options_of(false);
		struct hr_plan        *plan;
		struct hr_error        err = {0};
		char                   card[512];
		snprintf(card, sizeof card, CARD, bad[i].memory, bad[i].more);
		o.assume = card;
		assert_int_equal(hr_plan_new(&plan, model, &o, &err), HR_EFORMAT);
		assert_non_null(strstr(err.message, bad[i].word));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_without_rates_nothing_is_predicted),
	    cmocka_unit_test(test_measured_once_and_kept),
	    cmocka_unit_test(test_broken_file_is_told_and_replaced),
	    cmocka_unit_test(test_cache_that_cannot_be_written),
	    cmocka_unit_test(test_card_stands_in_for_a_machine),
	    cmocka_unit_test(test_card_that_is_wrong),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
