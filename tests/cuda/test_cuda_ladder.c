/* A card that is too small or half taken: sessions open with less, say so with the
 * reason and the numbers, give the same bits, and leave nothing behind; and the
 * error says what was wanted, what is free, who holds the rest and what fits. */
#include "base/error.h"
#include "kernels/device/host_memory.h"
#include "runtime/ladder.h"
#include "tests/cuda/cuda_testing.h"
#include "tests/model_run.h"

#define MODEL  "tests/golden/models/llama3-f16.gguf"
#define TOTAL  (32 * MIB)
#define MARGIN (TOTAL / 16)
#define LEFT   (MARGIN / 2 + MARGIN / 32) /* by the ladder */

static struct hr_model *model;
static char             notices[16][1200];

static void keep_notice(void *user, const char *sentence)
{
	(void)user;
	assert_true(n_notices < 16);
	snprintf(notices[n_notices++], sizeof notices[0], "%s", sentence);
}

/* How many notices say `part`. */
static int n_saying(const char *part)
{
	int n = 0;
	for (int i = 0; i < n_notices; i++)
		n += strstr(notices[i], part) != NULL;
	return n;
}

static void expect_part(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("\"%s\" does not say \"%s\"", text, part);
}

/* A small card to itself, for each test and in it. */
static int begin_small_card(void **state)
{
	struct cuda_on_cpu_machine m;
	cuda_on_cpu_machine_init(&m);
	m.memory_bytes = TOTAL;
	int rc = begin_machine(state);
	return rc ? rc : cuda_on_cpu_reset(&m);
}

static struct hr_plan_options small_options(const char *device)
{
	struct hr_plan_options o;
	hr_plan_options_init(&o);
	o.device = device;
	o.n_ctx = 64;
	o.n_batch = 32;
	o.slots = 2;
	o.on_notice = keep_notice;
	return o;
}

/* Run a prompt and return the hash of its logits. */
static uint64_t run(const struct hr_plan_options *o, struct hr_plan_info *plan)
{
	static const int32_t    ids[] = {1, 17, 42, 5, 23, 99, 7, 11, 3};
	const struct run_prompt prompt = {ids, 9, 6};
	struct run_result       result = {0};
	int                     rc = run_prompts(&result, model, o, &prompt, 1, NULL, NULL);
	assert_int_equal(rc, 0);
	*plan = result.plan;
	return result.hash[0];
}

/* Bytes that a plan takes on the device. */
static uint64_t need_of(const struct hr_plan_info *plan)
{
	return plan->device_bytes + plan->kv_bytes + plan->activation_bytes;
}

/* What the model takes all resident, and its hash on a card that is all its own. */
static uint64_t reference(const struct hr_plan_options *o, struct hr_plan_info *plan)
{
	uint64_t hash = run(o, plan);
	assert_int_equal(n_notices, 0);
	assert_int_equal(plan->slots, 0);
	return hash;
}

/* What another process holds so that so much can be had, or too little for all layers. */
static size_t all_but(uint64_t bytes) { return TOTAL - LEFT - (bytes + 4095) / 4096 * 4096; }
static size_t almost_all(const struct hr_plan_info *whole) { return all_but(need_of(whole) - (100 << 10)); }

static void test_window_shrinks_beside_another_process(void **state)
{
	(void)state;
	struct hr_plan_options o = small_options("cuda");
	struct hr_plan_info    whole, part;
	uint64_t               hash = reference(&o, &whole);
	cuda_on_cpu_hold(almost_all(&whole));
	o.device_memory_bytes = need_of(&whole) + MIB;
	assert_true(run(&o, &part) == hash);
	assert_true(part.resident_layers < whole.resident_layers);
	assert_true(part.slots >= 2);
	assert_int_equal(n_notices, 1);
	expect_part(notices[0], "layers stay on the device instead of 3");
	expect_part(notices[0], "The plan needs");
	expect_part(notices[0], "hog (pid 4242) holds");
}

static void test_automatic_budget_names_the_others(void **state)
{
	(void)state;
	struct hr_plan_options o = small_options("auto");
	struct hr_plan_info    whole, part;
	uint64_t               hash = reference(&o, &whole);
	cuda_on_cpu_hold(almost_all(&whole) - MARGIN + LEFT); /* which a plan leaves by itself */
	assert_true(run(&o, &part) == hash);
	assert_true(part.resident_layers < whole.resident_layers);
	assert_int_equal(n_saying("hog (pid 4242) holds"), 1);
	assert_int_equal(n_notices, 1);
}

/* Another process takes memory just before the n-th allocation of the session. */
static void test_memory_taken_after_planning(void **state)
{
	(void)state;
	struct hr_plan_options o = small_options("cuda");
	struct hr_plan_info    whole, part;
	uint64_t               hash = reference(&o, &whole);
	int                    n, n_shrunk = 0;
	for (n = 1; n < 10; n++) {
		assert_int_equal(begin_small_card(state), 0);
		cuda_on_cpu_hold_later("cudaMalloc", n, almost_all(&whole));
		assert_true(run(&o, &part) == hash);
		assert_int_equal(cuda_on_cpu_n_live(), 0);
		assert_int_equal(n_notices, part.slots ? 1 : 0);
		n_shrunk += part.slots != 0;
	}
	assert_true(n_shrunk > 0 && n_shrunk < 9);
}

static void test_each_allocation_is_refused_once(void **state)
{
	(void)state;
	struct hr_plan_options o = small_options("cuda");
	struct hr_plan_info    whole, part;
	uint64_t               hash = reference(&o, &whole);
	int                    n = 0;
	do {
		assert_int_equal(begin_small_card(state), 0);
		cuda_on_cpu_fail("cudaMalloc", ++n, cudaErrorMemoryAllocation);
		assert_true(run(&o, &part) == hash);
		assert_int_equal(cuda_on_cpu_n_live(), 0);
	} while (n_notices == 1 && n < 20);
	assert_int_equal(n_notices, 0);
	assert_in_range(n, 4, 19); /* residents, cache, activations */
}

/* With "auto" the CPU does what the GPU can't; once layers are being loaded it is an
 * error. Nothing stays behind either way. */
static void test_each_call_fails(void **state)
{
	(void)state;
	struct hr_plan_options o = small_options("auto");
	const cudaError_t      errors[] = {cudaErrorMemoryAllocation, cudaErrorLaunchFailure};
	int                    n_opened = 0;
	for (int i = 0; i < 2; i++) {
		for (int n = 1; n < 300; n += 1 + n / 12) {
			struct hr_session *session = NULL;
			struct hr_error    err = {0};
			assert_int_equal(begin_small_card(state), 0);
			cuda_on_cpu_fail(NULL, n, errors[i]);
			int rc = hr_session_open(&session, model, &o, &err);
			if (rc)
				assert_int_equal(rc, HR_EDEVICE);
			assert_true(rc == 0 || err.message[0]);
			n_opened += rc == 0;
			hr_session_close(session);
			assert_int_equal(cuda_on_cpu_n_live(), 0);
		}
	}
	assert_true(n_opened > 40);
}

static void test_passes_and_cache_shrink(void **state)
{
	(void)state;
	struct hr_plan_options o = small_options("cuda");
	struct hr_plan_info    small, part;
	o.n_ctx = 256;
	reference(&o, &small);
	o.n_ctx = 0;
	o.n_batch = 512;
	o.n_seqs = 3;
	cuda_on_cpu_hold(all_but(need_of(&small) + small.slot_bytes));
	run(&o, &part);
	assert_int_equal(n_saying("tokens at most instead of 512"), 1);
	assert_int_equal(n_saying("sequences are computed at the same time instead of 3"), part.n_seqs < 3);
	assert_int_equal(n_saying("The context is"), part.n_ctx < 512);
	assert_int_equal(part.n_batch, 32);
	assert_true(part.n_seqs < 3);
}

static void test_context_that_was_asked_for_stays(void **state)
{
	(void)state;
	struct hr_plan_options o = small_options("cuda");
	struct hr_plan_info    small;
	struct hr_session     *session;
	struct hr_error        err = {0};
	o.n_ctx = 32;
	o.slots = HR_AUTO;
	reference(&o, &small);
	o.n_ctx = 4096; /* its cache alone is larger than all that */
	cuda_on_cpu_hold(all_but(need_of(&small)));
	assert_int_equal(hr_session_open(&session, model, &o, &err), HR_EBUDGET);
	expect_part(err.message, "smallest budget that works");
	expect_part(err.message, "What fits now: --device cpu");
	assert_int_equal(n_notices, 0);
}

static void test_auto_ends_on_the_cpu(void **state)
{
	(void)state;
	struct hr_plan_options o = small_options("auto"), cpu = small_options("cpu");
	struct hr_plan_info    plan;
	uint64_t               hash = run(&cpu, &plan);
	assert_int_equal(n_notices, 0);
	cuda_on_cpu_hold(TOTAL - MIB / 4);
	assert_true(run(&o, &plan) == hash);
	assert_int_equal(n_notices, 1);
	expect_part(notices[0], "The CPU is used: ");
	expect_part(notices[0], "hog (pid 4242) holds 31.8 MiB");
}

/* What the CPU is short of, it does with less of, as if it had been asked for by name. */
static void test_the_cpu_takes_steps_of_its_own(void **state)
{
	(void)state;
	struct hr_plan_options o = small_options("cpu");
	struct hr_plan        *plan;
	struct hr_error        err = {0};
	struct hr__host_memory ram;
	hr__host_memory_read(&ram);
	assert_int_equal(hr_plan_new(&plan, model, &o, &err), 0);
	uint64_t token_bytes = hr_plan_info(plan)->kv_bytes / 64;
	hr_plan_free(plan);
	uint64_t n_ctx = ram.free_bytes / 10 * 4 / token_bytes;
	o = small_options("auto");
	o.n_ctx = n_ctx < 2000000000 ? (int)n_ctx : 2000000000;
	o.n_batch = 0;                                                                /* 512 */
	o.n_seqs = (int)(ram.free_bytes / 10 * 16 / token_bytes / (uint64_t)o.n_ctx); /* 4 */
	cuda_on_cpu_hold(TOTAL - MIB / 4);
	if (hr_plan_new(&plan, model, &o, &err))
		fail_msg("%s", err.message);
	const struct hr_plan_info *info = hr_plan_info(plan);
	assert_string_equal(info->device, "cpu");
	assert_int_equal(info->n_ctx, o.n_ctx);
	assert_true(info->n_seqs < o.n_seqs);
	assert_int_equal(info->n_batch, 32);
	assert_int_equal(n_notices, 3);
	expect_part(notices[0], "The CPU is used: ");
	expect_part(notices[1], "A pass takes 32 tokens at most instead of 512: Of ");
	expect_part(notices[2], "computed at the same time instead of 4: Of ");
	expect_part(notices[2], "MiB of RAM that can be had, the KV cache of 4 x ");
	hr_plan_free(plan);
}

static void test_cublas_is_not_installed(void **state)
{
	(void)state;
	struct cuda_on_cpu_machine m;
	struct hr_plan_options     o = small_options("auto");
	struct hr_plan_info        plan;
	struct hr_session         *session;
	struct hr_error            err = {0};
	cuda_on_cpu_machine_init(&m);
	m.no_cublas = true;
	cuda_on_cpu_reset(&m);
	run(&o, &plan);
	assert_int_equal(n_notices, 1);
	expect_part(notices[0], "The CPU is used: cuBLAS can't be loaded (libcublas.so.99 was not found)");
	o.device = "cuda";
	assert_int_equal(hr_session_open(&session, model, &o, &err), HR_EUNSUPPORTED);
	expect_part(err.message, "LD_LIBRARY_PATH, or use --device cpu.");
}

static void test_device_by_name_ends_with_an_error(void **state)
{
	(void)state;
	struct hr_plan_options o = small_options("cuda");
	struct hr_session     *session;
	struct hr_error        err = {0};
	cuda_on_cpu_hold(TOTAL - MIB / 4);
	assert_true(hr_session_open(&session, model, &o, &err) < 0);
	expect_part(err.message, "has 0.2 of 32.0 MiB free; hog (pid 4242) holds 31.8 MiB");
	expect_part(err.message, "What fits now: --device cpu");
	assert_int_equal(n_notices, 0);
}

/* --no-fallback stops before the first step; the flags that it names work. */
static void test_no_fallback_names_what_fits(void **state)
{
	(void)state;
	struct hr_plan_options o = small_options("auto");
	struct hr_plan_info    whole, part;
	struct hr_session     *session;
	struct hr_error        err = {0};
	unsigned long long     kib = 0;
	uint64_t               hash = reference(&o, &whole);
	cuda_on_cpu_hold(almost_all(&whole));
	o.device_memory_bytes = need_of(&whole);
	o.no_fallback = true;
	assert_int_equal(hr_session_open(&session, model, &o, &err), HR_EDEVMEM);
	expect_part(err.message, "The plan needs");
	expect_part(err.message, "hog (pid 4242) holds");
	const char *flags = strstr(err.message, "What fits now: --device-memory ");
	assert_non_null(flags);
	assert_int_equal(sscanf(flags, "What fits now: --device-memory %lluKiB", &kib), 1);
	assert_int_equal(n_notices, 0);
	o.device_memory_bytes = kib * 1024;
	assert_true(run(&o, &part) == hash);
	assert_int_equal(n_notices, 0);
}

static void test_no_fallback_holds_a_wish(void **state)
{
	(void)state;
	struct hr_plan_options o = small_options("cpu");
	struct hr_plan        *plan;
	struct hr_error        err = {0};
	o.resident_layers = 3;
	o.device_memory_bytes = hr_model_info(model)->weight_bytes * 4 / 5;
	assert_int_equal(hr_plan_new(&plan, model, &o, &err), 0);
	hr_plan_free(plan);
	o.no_fallback = true;
	assert_int_equal(hr_plan_new(&plan, model, &o, &err), HR_EBUDGET);
	expect_part(err.message, "3 resident layers were asked for");
}

static void test_without_nvml_the_sum_is_told(void **state)
{
	(void)state;
	struct cuda_on_cpu_machine m;
	struct hr_plan_options     o = small_options("cuda");
	struct hr_session         *session;
	struct hr_error            err = {0};
	cuda_on_cpu_machine_init(&m);
	m.memory_bytes = TOTAL;
	m.no_nvml = true;
	cuda_on_cpu_reset(&m);
	cuda_on_cpu_hold(TOTAL - MIB / 4);
	assert_true(hr_session_open(&session, model, &o, &err) < 0);
	expect_part(err.message, "31.8 MiB are held by the driver and other processes");
}

/* ---- The host's memory: a plan whose layers in RAM are refused ------------------ */

struct refusal {
	struct hr_plan *plan;
	uint64_t        most;
	int             n_taken, n_given_back;
};

static int refuse_host(void *user, struct hr_error *err)
{
	struct refusal *r = user;
	r->n_taken++;
	return r->plan->placement.host_bytes > r->most ? hr__fail(err, HR_ENOMEM, "No RAM is left.") : 0;
}

static void count_back(void *user) { ((struct refusal *)user)->n_given_back++; }

static void test_layers_leave_ram_for_the_drive(void **state)
{
	(void)state;
	struct hr_plan_options o = small_options("cuda");
	struct refusal         r = {0};
	struct hr_backend      backend = {0};
	struct hr_ladder       l = {model, &o, refuse_host, count_back, &r, &backend, &r.plan, NULL};
	o.window_layers = 2;
	o.chunk_bytes = 4096;
	assert_int_equal(hr__ladder_climb(&l, NULL), HR_ENOMEM); /* staging is refused, too */
	assert_null(r.plan);
	assert_int_equal(r.n_given_back, r.n_taken);
	hr__backend_close(&backend);
	r = (struct refusal){.most = 64 << 10};
	assert_int_equal(hr__ladder_climb(&l, NULL), 0);
	assert_int_equal(r.plan->placement.n_host, 0);
	assert_int_equal(r.n_given_back, r.n_taken - 1);
	assert_int_equal(n_notices, 1);
	expect_part(notices[0], "0 layers are kept in RAM instead of");
	expect_part(notices[0], "No RAM is left.");
	hr_plan_free(r.plan);
	hr__backend_close(&backend);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin_small_card, end_machine)
	    TEST(test_window_shrinks_beside_another_process),
	    TEST(test_automatic_budget_names_the_others),
	    TEST(test_memory_taken_after_planning),
	    TEST(test_each_allocation_is_refused_once),
	    TEST(test_each_call_fails),
	    TEST(test_passes_and_cache_shrink),
	    TEST(test_context_that_was_asked_for_stays),
	    TEST(test_auto_ends_on_the_cpu),
	    TEST(test_the_cpu_takes_steps_of_its_own),
	    TEST(test_cublas_is_not_installed),
	    TEST(test_device_by_name_ends_with_an_error),
	    TEST(test_no_fallback_names_what_fits),
	    TEST(test_no_fallback_holds_a_wish),
	    TEST(test_without_nvml_the_sum_is_told),
	    TEST(test_layers_leave_ram_for_the_drive),
	};
	struct hr_error    err = {0};
	struct hr_session *session = NULL;
	if (hr_model_open(&model, MODEL, &err)) {
		fprintf(stderr, "%s\n", err.message);
		return 1;
	}
	struct hr_plan_options o = small_options("cuda");
	int                    rc = hr_session_open(&session, model, &o, &err);
	hr_session_close(session);
	if (rc == HR_EUNSUPPORTED) /* no kernels yet */
		fprintf(stderr, "skipped: %s\n", err.message);
	rc = rc == HR_EUNSUPPORTED ? RUN_SKIP : cmocka_run_group_tests(tests, NULL, NULL);
	hr_model_close(model);
	return rc;
}
