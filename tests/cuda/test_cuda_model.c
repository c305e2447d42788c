/* Whole models on the CUDA device, whose kernels, copies and guards run here on the
 * CPU: streamed logits are those of a resident run, bit for bit, for the windows,
 * slots, chunks, depths and tiers of exactness.h, while copies are slow and work is
 * late at random; and resident logits are close to the CPU's.
 *
 * HR_TEST_QUICK=1: fewer models and combinations; HR_TEST_THOROUGH=1: all. An argument
 * chooses tests: test_cuda_model "tiny-qwen2*". */
#include "tests/cuda/cuda_testing.h"
#include "tests/exactness.h"

#include <math.h>

#define N_PROMPTS 5
#define N_CTX     96
#define MAX_VOCAB 512

static const struct exact_kind kinds[] = {
    {"tiny-mistral", "f16"}, {"tiny-llama", "q4_0"}, {"tiny-qwen2", "q8_0"},
    {"tiny-llama", "bf16"},  {"tiny-qwen2", "q4_1"}, {"tiny-mistral", "f32"},
};

/* Together too many tokens for the kernels of few, and for those of quantised weights. */
static const struct run_prompt prompts[N_PROMPTS] = {
    {exact_ids, 25, 3},     {exact_ids + 7, 5, 4},  {exact_ids + 3, 1, 3},
    {exact_ids + 50, 9, 1}, {exact_ids + 11, 2, 2},
};

static int open_model(void **state)
{
	alarm(exact_scale() == EXACT_THOROUGH ? 1800 : 300);
	return cuda_on_cpu_reset(NULL) ? -1 : exact_open_model(state);
}

static int close_model(void **state) { return exact_close_model(state), end_machine(state); }

static void make_machine(double gb_per_s, int jitter_us)
{
	struct cuda_on_cpu_machine m;
	cuda_on_cpu_machine_init(&m);
	m.memory_bytes = 64 * MIB;
	m.copy_gb_per_s = gb_per_s;
	m.jitter_us = jitter_us;
	m.profiler = true; /* whose ranges must all end */
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

static const char *const devices[] = {"cpu", "cuda"};

static void are_near(const float *want, const float *got, int n, const char *what, int which)
{
	double error = 0, size = 0;
	for (int i = 0; i < n; i++) {
		double d = (double)got[i] - want[i];
		error += d * d;
		size += (double)want[i] * want[i];
	}
	assert_true(size > 0);
	if (!(sqrt(error / size) < 0.03))
		fail_msg("%s %d are off by %.4f of their size", what, which, sqrt(error / size));
}

static void test_near_cpu(void **state)
{
	(void)state;
	memset(logits, 0, sizeof logits);
	make_machine(0, 0);
	for (int i = 0; i < 2; i++) {
		struct run_result r = {0};
		exact_device = devices[i];
		struct hr_plan_options o = exact_options(exact_model, NULL, 1, N_CTX);
		struct run_prompt      prompt = {exact_ids, 37, 1};
		assert_int_equal(run_prompts(&r, exact_model, &o, &prompt, 1, keep_logits, logits[i]), 0);
		assert_false(r.streamed);
	}
	assert_true(cuda_on_cpu_n_ranges("pass") > 0);
	for (int p = 0; p < 37; p++)
		are_near(logits[0][p], logits[1][p], MAX_VOCAB, "the logits at position", p);
}

/* A prompt in three passes, of which two want no logits and one the last. */
static void test_last_near_cpu(void **state)
{
	(void)state;
	memset(logits, 0, sizeof logits);
	make_machine(0, 0);
	for (int i = 0; i < 2; i++) {
		struct hr_error    err = {0};
		struct hr_session *session;
		struct hr_request  r;
		uint64_t           id;
		exact_device = devices[i];
		struct hr_plan_options o = exact_options(exact_model, NULL, 1, N_CTX);
		o.n_batch = 16;
		assert_int_equal(hr_session_open(&session, exact_model, &o, &err), 0);
		hr_request_init(&r);
		r.ids = exact_ids;
		r.n_ids = 37;
		r.max_new_tokens = 1;
		r.on_logits = keep_logits;
		r.user = logits[i];
		assert_int_equal(hr_session_submit(session, &r, &id, &err), 0);
		while (hr_session_step(session, &err) > 0)
			;
		hr_session_close(session);
	}
	are_near(logits[0][36], logits[1][36], MAX_VOCAB, "the logits at position", 36);
}

/* Of an encoder's last layer the first tokens are wanted, or all. */
static void test_encoder_near_cpu(void **state)
{
	enum { MAX_LABELS = 16, MAX_EMBD = 64 };
	static float         classes[2][3 * MAX_LABELS], embeddings[2][3 * MAX_EMBD];
	const struct hr_text texts[] = {{.text = "a film", .length = 6},
	                                {.text = "with windows and a house", .length = 24},
	                                {.text = "the", .length = 3}};
	struct hr_error      err = {0};
	struct hr_model     *model;
	(void)state;
	make_machine(0, 0);
	assert_int_equal(hr_model_open(&model, "tests/golden/encoders/bert", &err), 0);
	const struct hr_model_info *m = hr_model_info(model);
	assert_in_range(m->n_labels, 1, MAX_LABELS);
	assert_in_range(m->n_embd, 1, MAX_EMBD);
	for (int i = 0; i < 2; i++) {
		struct hr_session     *session;
		struct hr_plan_options o;
		hr_plan_options_init(&o);
		o.device = devices[i];
		assert_int_equal(hr_session_open(&session, model, &o, &err), 0);
		assert_int_equal(hr_session_classify(session, texts, 3, classes[i], NULL, NULL, NULL, &err), 0);
		assert_int_equal(hr_session_embed(session, texts, 3, embeddings[i], NULL, NULL, &err), 0);
		hr_session_close(session);
	}
	for (int t = 0; t < 3; t++) {
		are_near(classes[0] + t * m->n_labels, classes[1] + t * m->n_labels, m->n_labels, "classes of text",
		         t);
		are_near(embeddings[0] + t * m->n_embd, embeddings[1] + t * m->n_embd, m->n_embd,
		         "the embedding of text", t);
	}
	hr_model_close(model);
}

/* ---- Exact ----------------------------------------------------------------------- */

/* Logits of `n` prompts in so many combinations. */
static void streamed_is_resident(int n, int n_combinations)
{
	if (!n_combinations)
		return;
	struct run_result      resident = {0};
	struct hr_plan_options o = exact_options(exact_model, NULL, n, N_CTX);
	make_machine(0, 0);
	assert_int_equal(run_prompts(&resident, exact_model, &o, prompts, n, NULL, NULL), 0);
	assert_false(resident.streamed);
	for (int s = 1; s < n; s++)
		assert_true(resident.hash[s] != resident.hash[0]);
	make_machine(1, 50);
	int streamed = exact_check(exact_model, prompts, n, N_CTX, resident.hash, n_combinations);
	assert_true(streamed >= n_combinations / 2);
	assert_string_equal(cuda_on_cpu_misuse(), "");
}

/* The first model has most of the matrix; the others show what depends on types and families. */
static void test_streamed_is_resident(void **state)
{
	static const int together[2][3] = {{2, 32, 32}, {0, 2, 32}}, alone[2][3] = {{1, 8, 32}, {0, 0, 32}};
	bool             other = *state != &kinds[0];
	exact_device = "cuda";
	streamed_is_resident(N_PROMPTS, together[other][exact_scale()]);
	streamed_is_resident(1, alone[other][exact_scale()]);
}

/* ---- Sampling from the largest logits alone ---------------------------------------- */

enum { N_NEW = 12 };

/* Two sequences under `sampling`; what they said, and how many bytes came back from the card. */
static uint64_t sample(const struct hr_sampling *sampling, bool hash_logits, int32_t said[2][N_NEW])
{
	struct hr_error        err = {0};
	struct hr_session     *session;
	struct hr_plan_options o = exact_options(exact_model, NULL, 2, N_CTX);
	uint64_t               id[2];
	make_machine(0, 0);
	assert_int_equal(hr_session_open(&session, exact_model, &o, &err), 0);
	for (int i = 0; i < 2; i++) {
		struct hr_request r;
		hr_request_init(&r);
		r.ids = exact_ids + i;
		r.n_ids = 5;
		r.max_new_tokens = N_NEW;
		r.ignore_eos = true;
		r.sampling = *sampling;
		r.hash_logits = hash_logits;
		assert_int_equal(hr_session_submit(session, &r, &id[i], &err), 0);
	}
	while (hr_session_step(session, &err) > 0)
		;
	for (int i = 0; i < 2; i++)
		assert_int_equal(hr_session_tokens(session, id[i], said[i], N_NEW), N_NEW);
	uint64_t bytes = cuda_on_cpu_bytes_to_host();
	hr_session_close(session);
	return bytes;
}

static void test_few_bytes_come_back(void **state)
{
	(void)state;
	static const struct {
		struct hr_sampling is;
		uint64_t           bytes; /* a token */
	} samplings[] = {
	    {{.top_p = 1, .repeat_penalty = 1}, 8},
	    {{.temperature = 1.5f, .top_k = 40, .top_p = 0.95f, .repeat_penalty = 1, .seed = 3}, 40 * 8},
	    {{.temperature = 2, .top_k = 64, .top_p = 1, .min_p = 0.01f, .repeat_penalty = 1, .seed = 4}, 64 * 8},
	    {{.temperature = 1, .top_p = 1, .repeat_penalty = 1, .seed = 5}, 0}, /* these need all logits */
	    {{.temperature = 1, .top_k = 65, .top_p = 1, .repeat_penalty = 1, .seed = 5}, 0},
	    {{.top_p = 1, .repeat_penalty = 1.1f, .repeat_last_n = 64}, 0},
	};
	uint64_t whole = (uint64_t)hr_model_info(exact_model)->n_vocab * sizeof(float);
	exact_device = "cuda";
	for (size_t i = 0; i < sizeof samplings / sizeof *samplings; i++) {
		if (exact_scale() == EXACT_QUICK && i % 3 != 1)
			continue;
		int32_t  all[2][N_NEW], few[2][N_NEW];
		uint64_t bytes = samplings[i].bytes ? samplings[i].bytes : whole;
		assert_int_equal(sample(&samplings[i].is, true, all), 2 * N_NEW * whole);
		assert_int_equal(sample(&samplings[i].is, false, few), 2 * N_NEW * bytes);
		assert_memory_equal(all, few, sizeof all);
	}
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
	int rc = hr_session_open(&session, exact_model, &o, err);
	if (rc)
		return rc;
	struct hr_request request;
	uint64_t          id;
	hr_request_init(&request);
	request.ids = exact_ids;
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

int main(int argc, char **argv)
{
	static char              names[12][64];
	static struct CMUnitTest tests[17];
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
	tests[n++] = (struct CMUnitTest){"last logits near the CPU's", test_last_near_cpu, open_model,
	                                 close_model, (void *)kinds};
	tests[n++] =
	    (struct CMUnitTest){"encoder near the CPU's", test_encoder_near_cpu, NULL, end_machine, NULL};
	tests[n++] = (struct CMUnitTest){"few bytes come back", test_few_bytes_come_back, open_model, close_model,
	                                 (void *)kinds};
	tests[n++] =
	    (struct CMUnitTest){"failing work", test_failing_work, open_model, close_model, (void *)kinds};
	tests[n++] =
	    (struct CMUnitTest){"failing calls", test_failing_calls, open_model, close_model, (void *)kinds};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	int failed = exact_run("models", tests, n);
	printf("%d combinations streamed blocks in pieces.\n", exact_n_in_pieces);
	if (!failed && argc == 1 && exact_n_in_pieces < 1) {
		fprintf(stderr, "No combination streamed blocks in pieces.\n");
		return 1;
	}
	return failed;
}
