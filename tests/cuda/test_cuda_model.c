/* Whole models on the CUDA device, whose kernels, copies and guards run here on the
 * CPU: streamed logits are those of a resident run, bit for bit, for the windows,
 * slots, chunks, depths and tiers of exactness.h, while copies are slow and work is
 * late at random; and resident logits are close to the CPU's.
 *
 * HR_TEST_QUICK=1: fewer models and combinations; HR_TEST_THOROUGH=1: all. */
#include "tests/cuda/cuda_testing.h"
#include "tests/exactness.h"

#include <math.h>

#define N_PROMPTS 3
#define N_CTX     96
#define MAX_VOCAB 512

static char             directory[200];
static int32_t          ids[N_CTX];
static struct hr_model *model;

/* A prompt for the kernels of many tokens, two for those of few. */
static const struct run_prompt prompts[N_PROMPTS] = {{ids, 37, 6}, {ids + 7, 5, 9}, {ids + 3, 1, 4}};

struct kind {
	const char *like, *type;
};

static int open_model(void **state)
{
	const struct kind *k = *state;
	struct hr_error    err = {0};
	char               path[260];
	alarm(300);
	if (cuda_on_cpu_reset(NULL))
		return -1;
	snprintf(path, sizeof path, "%s/%s-%s.gguf", directory, k->like, k->type);
	int rc = hr_synth(path, k->like, k->type, 1, NULL, NULL, &err);
	if (!rc)
		rc = hr_model_open(&model, path, &err);
	if (rc)
		fprintf(stderr, "%s\n", err.message);
	else
		for (int i = 0, n = hr_model_info(model)->n_vocab; i < N_CTX; i++)
			ids[i] = (i * 7919 + i * i * 31 + 5) % n;
	unlink(path); /* the model holds it open */
	return rc;
}

static int close_model(void **state)
{
	hr_model_close(model);
	model = NULL;
	return end_machine(state);
}

static void make_machine(double gb_per_s, int jitter_us)
{
	struct cuda_on_cpu_machine m;
	cuda_on_cpu_machine_init(&m);
	m.memory_bytes = 64 * MIB;
	m.copy_gb_per_s = gb_per_s;
	m.jitter_us = jitter_us;
	assert_int_equal(cuda_on_cpu_reset(&m), 0);
}

/* ---- Near the CPU's -------------------------------------------------------------- */

static float logits[2][N_CTX][MAX_VOCAB]; /* of the CPU and of the GPU, by position */

static void keep_logits(void *user, uint64_t id, int position, const float *values, int n_vocab)
{
	float(*to)[MAX_VOCAB] = user;
	(void)id;
	assert_in_range(position, 0, N_CTX - 1);
	assert_in_range(n_vocab, 1, MAX_VOCAB);
	memcpy(to[position], values, (size_t)n_vocab * sizeof *values);
}

static void test_near_cpu(void **state)
{
	static const char *const devices[] = {"cpu", "cuda"};
	(void)state;
	memset(logits, 0, sizeof logits);
	make_machine(0, 0);
	for (int i = 0; i < 2; i++) {
		struct run_result r = {0};
		exact_device = devices[i];
		struct hr_plan_options o = exact_options(model, NULL, 1, N_CTX);
		struct run_prompt      prompt = {ids, 37, 1};
		assert_int_equal(run_prompts(&r, model, &o, &prompt, 1, keep_logits, logits[i]), 0);
		assert_false(r.streamed);
	}
	for (int p = 0; p < 37; p++) {
		double error = 0, size = 0;
		for (int v = 0; v < MAX_VOCAB; v++) {
			double d = (double)logits[1][p][v] - logits[0][p][v];
			error += d * d;
			size += (double)logits[0][p][v] * logits[0][p][v];
		}
		assert_true(size > 0);
		if (!(sqrt(error / size) < 0.03))
			fail_msg("the logits at position %d are off by %.4f of their size", p, sqrt(error / size));
	}
}

/* ---- Exact ----------------------------------------------------------------------- */

static void test_streamed_is_resident(void **state)
{
	(void)state;
	static const int  counts[] = {2, 6, 30};
	int               n = counts[exact_scale()];
	struct run_result resident = {0};
	exact_device = "cuda";
	make_machine(0, 0);
	struct hr_plan_options o = exact_options(model, NULL, N_PROMPTS, N_CTX);
	assert_int_equal(run_prompts(&resident, model, &o, prompts, N_PROMPTS, NULL, NULL), 0);
	assert_false(resident.streamed);
	assert_true(resident.hash[0] != resident.hash[1]);
	make_machine(1, 50);
	assert_true(exact_check(model, prompts, N_PROMPTS, N_CTX, resident.hash, n) >= n / 2);
	assert_string_equal(cuda_on_cpu_misuse(), "");
}

/* ---- A card that fails ------------------------------------------------------------ */

/* A session with a bit of everything; returns the first error. */
static int run_session(struct hr_error *err)
{
	struct hr_session     *session;
	struct hr_plan_options o;
	hr_plan_options_init(&o);
	o.device = "cuda";
	o.n_ctx = N_CTX;
	o.resident_layers = 1;
	o.host_memory_bytes = 1 << 20;
	int rc = hr_session_open(&session, model, &o, err);
	if (rc)
		return rc;
	struct hr_request request;
	uint64_t          id;
	hr_request_init(&request);
	request.ids = ids;
	request.n_ids = 37;
	request.max_new_tokens = 4;
	request.ignore_eos = true;
	assert_int_equal(hr_session_submit(session, &request, &id, err), 0);
	while ((rc = hr_session_step(session, err)) > 0)
		;
	hr_session_close(session);
	return rc;
}

/* Nothing may crash, hang or stay behind, whatever fails and when; and it is told. */
static void expect_told(int rc, const struct hr_error *err)
{
	if (rc)
		assert_true(err->message[0]);
	assert_int_equal(cuda_on_cpu_n_live(), 0);
	assert_string_equal(cuda_on_cpu_misuse(), "");
}

static void test_failing_work(void **state)
{
	(void)state;
	struct hr_error err = {0};
	make_machine(0, 0);
	assert_int_equal(run_session(&err), 0);
	int n_work = cuda_on_cpu_n_work(), step = exact_scale() == EXACT_QUICK ? 1 : 8;
	assert_true(n_work > 100);
	for (int n = 1; n <= n_work; n += 1 + n / step) {
		err.message[0] = 0;
		make_machine(0, 0);
		cuda_on_cpu_fail_work(n, cudaErrorIllegalAddress);
		int rc = run_session(&err);
		expect_told(rc, &err);
		/* What was fetched ahead for a pass that never came may fail unseen. */
		assert_true(rc == HR_EDEVICE || n > n_work * 3 / 4);
	}
}

static void test_failing_calls(void **state)
{
	(void)state;
	struct hr_error err = {0};
	make_machine(0, 0);
	assert_int_equal(run_session(&err), 0);
	int n_calls = cuda_on_cpu_n_calls(), step = exact_scale() == EXACT_QUICK ? 1 : 8;
	for (int n = 1; n <= n_calls; n += 1 + n / step) {
		err.message[0] = 0;
		make_machine(0, 0);
		cuda_on_cpu_fail(NULL, n, n % 2 ? cudaErrorUnknown : cudaErrorLaunchFailure);
		expect_told(run_session(&err), &err);
	}
}

/* A build without CUDA kernels has no device of that name. */
static bool has_cuda(const char *any_model)
{
	struct hr_error        err = {0};
	struct hr_plan_options o;
	struct hr_plan        *plan = NULL;
	struct hr_model       *m = NULL;
	hr_plan_options_init(&o);
	o.device = "cuda";
	int rc = hr_synth(any_model, "tiny-llama", "q4_0", 1, NULL, NULL, &err);
	if (!rc)
		rc = hr_model_open(&m, any_model, &err);
	if (!rc)
		rc = hr_plan_new(&plan, m, &o, &err);
	hr_plan_free(plan);
	hr_model_close(m);
	unlink(any_model);
	return rc != HR_EUNSUPPORTED;
}

int main(void)
{
	static const struct kind kinds[] = {
	    {"tiny-llama", "q4_0"}, {"tiny-mistral", "f16"}, {"tiny-qwen2", "q8_0"},
	    {"tiny-llama", "bf16"}, {"tiny-qwen2", "q4_1"},  {"tiny-mistral", "f32"},
	};
	static char              names[14][64];
	static struct CMUnitTest tests[14];
	size_t                   n = 0, n_kinds = exact_scale() == EXACT_QUICK ? 1 : 6;
	for (size_t i = 0; i < n_kinds; i++) {
		snprintf(names[n], sizeof names[n], "%s %s near the CPU's", kinds[i].like, kinds[i].type);
		tests[n] = (struct CMUnitTest){names[n], test_near_cpu, open_model, close_model, (void *)&kinds[i]};
		n++;
		snprintf(names[n], sizeof names[n], "%s %s streamed", kinds[i].like, kinds[i].type);
		tests[n] = (struct CMUnitTest){names[n], test_streamed_is_resident, open_model, close_model,
		                               (void *)&kinds[i]};
		n++;
	}
	tests[n++] =
	    (struct CMUnitTest){"failing work", test_failing_work, open_model, close_model, (void *)kinds};
	tests[n++] =
	    (struct CMUnitTest){"failing calls", test_failing_calls, open_model, close_model, (void *)kinds};
	const char *temporary = getenv("TMPDIR");
	snprintf(directory, sizeof directory, "%s/headrace-cuda-XXXXXX", temporary ? temporary : "/var/tmp");
	if (!mkdtemp(directory)) {
		perror(directory);
		return 1;
	}
	char path[260];
	snprintf(path, sizeof path, "%s/any.gguf", directory);
	if (!has_cuda(path)) {
		rmdir(directory);
		return RUN_SKIP;
	}
	int failed = _cmocka_run_group_tests("models", tests, n, NULL, NULL);
	rmdir(directory);
	return failed;
}
