/* The exactness matrix on a real model: SmolLM2-135M-Instruct in Q4_1 with a Q8_0
 * embedding that is its head too. scripts/fetch-models puts it where this test looks;
 * without it the test is skipped. HR_TEST_QUICK=1: fewer combinations; HR_TEST_THOROUGH=1: more, and a
 * prompt of 300 tokens with 64 generated ones. */
#include "exactness.h"

#include <unistd.h>

#define MODEL       "models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define N_CTX       384
#define LONG_PROMPT 300

static void is_exact(void **state)
{
	(void)state;
	static const char *const texts[] = {
	    "The headrace brings the water from the reservoir to the wheel, at just the rate at which",
	    "Once upon a time, in a village at the foot of the mountains, there lived an old clockmaker who",
	    "def quicksort(values):\n    ",
	    "2, 3, 5, 7, 11, 13,",
	    "Dear Sir or Madam,",
	};
	static const int  n_new[] = {8, 3, 5, 1, 6};
	int32_t           ids[5][LONG_PROMPT];
	struct run_prompt prompts[5];
	struct hr_model  *model;
	struct hr_error   err = {0};
	if (hr_model_open(&model, MODEL, &err))
		fail_msg("%s", err.message);
	for (int i = 0; i < 5; i++) {
		int64_t n = hr_model_tokenize(model, texts[i], strlen(texts[i]), true, false, ids[i], 64, &err);
		if (n <= 0 || n > 64)
			fail_msg("%s", err.message);
		prompts[i] = (struct run_prompt){ids[i], (size_t)n, n_new[i]};
	}
	if (exact_scale() == EXACT_THOROUGH) {
		for (size_t i = prompts[0].n_ids; i < LONG_PROMPT; i++) /* the others again and again */
			ids[0][i] = ids[i % 4 + 1][i % prompts[i % 4 + 1].n_ids];
		prompts[0] = (struct run_prompt){ids[0], LONG_PROMPT, 64};
	}
	struct run_result      together = {0}, alone = {0};
	struct hr_plan_options o = exact_options(model, NULL, 5, N_CTX);
	assert_int_equal(run_prompts(&together, model, &o, prompts, 5, NULL, NULL), 0);
	o = exact_options(model, NULL, 1, N_CTX);
	assert_int_equal(run_prompts(&alone, model, &o, prompts, 1, NULL, NULL), 0);
	assert_true(alone.hash[0] == together.hash[0]);
	static const int n_singly[] = {4, 32, 32}, n_together[] = {2, 8, 32};
	int              n = n_singly[exact_scale()];
	int              streamed = exact_check(model, prompts, 1, N_CTX, together.hash, n);
	streamed += exact_check(model, prompts, 5, N_CTX, together.hash, n_together[exact_scale()]);
	assert_true(streamed >= n / 2);
	assert_true(exact_n_cut > 0);
	hr_model_close(model);
}

int main(void)
{
	if (access(MODEL, R_OK)) {
		printf("skipped: there is no " MODEL "; scripts/fetch-models gets it.\n");
		return RUN_SKIP;
	}
	const struct CMUnitTest tests[] = {cmocka_unit_test(is_exact)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
