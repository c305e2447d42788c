/* Fuzzes what plans are made from besides the model, by making plans for a small one. The first byte
 * says what the rest is: a device map, a card, or, as a file of the cache, measured rates or a profile
 * (which get the words of this machine, or would be refused for them). Whatever the bytes, the answer is
 * a plan with figures that are numbers, or an error with a sentence. */
#include "fuzz_directory.h"
#include "runtime/machine.h"
#include "runtime/profile.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct hr_model *model;
static char             rates_machine[1024], profile_machine[1024], rates_name[64], profile_name[64];

static void ignore_notice(void *user, const char *sentence) { (void)user, (void)sentence; }

static struct hr_plan_options options(void)
{
	struct hr_plan_options o;
	hr_plan_options_init(&o);
	o.device = "cpu";
	o.device_memory_bytes = 300000; /* not all of it */
	o.n_ctx = 64;
	o.on_notice = ignore_notice;
	return o;
}

static void check_prediction(const struct hr_plan *plan, int n_tokens)
{
	struct hr_prediction p;
	struct hr_error      err = {0};
	if (hr_plan_predict(plan, n_tokens, 1, 10, &p, NULL, NULL, &err))
		abort();
	if (!(p.pass_ms >= 0) || !(p.stall_ms >= 0) || isinf(p.pass_ms) || !p.bound)
		abort();
}

/* Where its rates are from, or NULL; `*profile`: whether one was used. */
static bool make_plan(const struct hr_plan_options *o, bool *profile)
{
	struct hr_plan *plan = NULL;
	struct hr_error err = {0};
	int             rc = hr_plan_new(&plan, model, o, &err);
	if (rc ? rc != err.code || !err.message[0] || plan : !plan)
		abort();
	if (rc)
		return false;
	const struct hr_plan_info *info = hr_plan_info(plan);
	bool                       rates = info->rates;
	if (info->slots == 1 || info->window_layers < 1 || info->chunk_bytes % 4096 || info->read_depth < 1 ||
	    (!o->assume && info->device_bytes > o->device_memory_bytes))
		abort();
	if (rates) {
		check_prediction(plan, 1);
		check_prediction(plan, 64);
	}
	if (profile)
		*profile = info->profile;
	hr_plan_free(plan);
	return rates;
}

/* Write the object `text` as a file of the cache, with the machine's words; false: it is none. */
static bool write_cached(const char *name, const char *machine, const char *text, size_t n)
{
	json_t *object = json_loadb(text, n, 0, NULL);
	bool    good = json_is_object(object) && !json_object_set_new(object, "machine", json_string(machine));
	char   *whole = good ? json_dumps(object, 0) : NULL;
	json_decref(object);
	if (!whole)
		return false;
	fuzz_write_file(name, whole, strlen(whole));
	free(whole);
	return true;
}

static bool plan_with(const char *name, const char *machine, const char *text, size_t n, bool *profile)
{
	struct hr_plan_options o = options();
	char                   path[sizeof fuzz_directory + 64];
	o.cache_dir = fuzz_directory;
	if (!write_cached(name, machine, text, n))
		return false;
	bool rates = make_plan(&o, profile);
	snprintf(path, sizeof path, "%s/%s", fuzz_directory, name);
	unlink(path);
	return rates;
}

/* Names and words as the product makes them; files that are right must be used, or nothing is fuzzed. */
static void begin(void)
{
	static const char rates[] =
	    "{\"rates\": {\"disk_chunk_depth_gbps\": [[4096, 1, 0.1]], \"link_gbps\": 0, \"link_latency_ns\": 0,"
	    " \"compute_tokens_ns_between\": [[1, 1e5, 1e4]], \"block_bytes\": 100000, \"context_ns_decode\": 1,"
	    " \"context_ns_prefill\": 1, \"head_outputs_ns\": [[1, 1e5]]}}";
	struct hr_plan_options o = options(), plain = {.cpu_isa = o.cpu_isa};
	struct hr_profile      profile = {.slots = 2,
	                                  .read_depth = 2,
	                                  .n_threads = 1,
	                                  .chunk_bytes = 4096,
	                                  .reader = "pread",
	                                  .date = "2026-11-21"};
	struct hr_error        err = {0};
	struct hr_plan        *plan = NULL;
	char                   path[sizeof fuzz_directory + 64], device[200];
	bool                   profile_used = false;
	snprintf(path, sizeof path, "%s/tiny.gguf", fuzz_directory);
	if (hr_synth(path, "tiny-llama", "q4_0", 1, NULL, NULL, &err) || hr_model_open(&model, path, &err) ||
	    hr_plan_new(&plan, model, &o, &err)) {
		fprintf(stderr, "%s\n", err.message);
		abort();
	}
	snprintf(device, sizeof device, "cpu %s", hr_plan_info(plan)->device_name);
	hr_plan_free(plan);
	uint64_t key = hr__model_key(model);
	hr__machine_key(rates_machine, sizeof rates_machine, model, &o, device);
	hr__machine_key(profile_machine, sizeof profile_machine, model, &plain, "cpu");
	snprintf(rates_name, sizeof rates_name, "rates-%016" PRIx64 ".json",
	         XXH64(rates_machine, strlen(rates_machine), key));
	snprintf(profile_name, sizeof profile_name, "profile-%016" PRIx64 ".json", key);
	bool rates_used = plan_with(rates_name, rates_machine, rates, sizeof rates - 1, NULL);
	o.cache_dir = fuzz_directory;
	if (!hr__profile_store(&profile, model, &o, &err))
		make_plan(&o, &profile_used);
	snprintf(path, sizeof path, "%s/%s", fuzz_directory, profile_name);
	if (unlink(path))
		profile_used = false;
	if (!rates_used || !profile_used) {
		fprintf(stderr, "the cache's files are not called %s and %s any more\n", rates_name, profile_name);
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct hr_plan_options o = options();
	if (fuzz_make_directory())
		begin();
	if (!n)
		return 0;
	int   kind = data[0] % 4;
	char *text = memcpy(malloc(n), data + 1, n - 1);
	text[n - 1] = 0;
	if (kind == 2)
		plan_with(rates_name, rates_machine, text, n - 1, NULL);
	else if (kind == 3)
		plan_with(profile_name, profile_machine, text, n - 1, NULL);
	else {
		*(kind ? &o.assume : &o.device_map) = text;
		make_plan(&o, NULL);
	}
	free(text);
	return 0;
}
