/* Streamed logits equal resident ones bit for bit, for every family and weight type.
 *
 * hr_synth writes a small model of each; a prompt of 300 tokens and 64 generated
 * ones are run with everything resident, then in the combinations of exactness.h,
 * alone and together with four other sequences. Two more equalities come from the
 * same runs: a sequence alone against the same one in a batch, and passes of 512,
 * 64 and 7 tokens against each other.
 *
 * HR_TEST_QUICK=1 in the environment: one model of each family, short texts and few combinations;
 * HR_TEST_THOROUGH=1: as many combinations with one sequence as with five. */
#include "exactness.h"

#define N_PROMPTS 5

static struct run_prompt prompts[N_PROMPTS] = {
    {exact_ids, 300, 64},    {exact_ids + 7, 129, 16}, {exact_ids + 3, 1, 24},
    {exact_ids + 50, 64, 3}, {exact_ids + 11, 33, 8},
};

/* The first prompt in passes of fewer tokens than the 512 of `want`. */
static void passes_agree(uint64_t want)
{
	static const int sizes[] = {64, 7};
	for (int i = 0; i < 2; i++) {
		struct run_result      r = {0};
		struct hr_plan_options o = exact_options(exact_model, NULL, 1, EXACT_IDS);
		o.n_batch = sizes[i];
		assert_int_equal(run_prompts(&r, exact_model, &o, prompts, 1, NULL, NULL), 0);
		assert_int_equal(r.plan.n_batch, sizes[i]);
		if (r.hash[0] != want)
			fail_msg("passes of %d tokens give other logits than passes of 512", sizes[i]);
	}
}

static void is_exact(void **state)
{
	(void)state;
	static const int       n_together[] = {5, 14, 32}, n_singly[] = {1, 4, 32};
	int                    n = n_together[exact_scale()], n_alone = n_singly[exact_scale()];
	struct run_result      together = {0}, alone = {0};
	struct hr_plan_options o = exact_options(exact_model, NULL, N_PROMPTS, EXACT_IDS);
	assert_int_equal(run_prompts(&together, exact_model, &o, prompts, N_PROMPTS, NULL, NULL), 0);
	assert_false(together.streamed);
	for (int s = 0; s < N_PROMPTS; s++) {
		o = exact_options(exact_model, NULL, 1, EXACT_IDS);
		assert_int_equal(run_prompts(&alone, exact_model, &o, &prompts[s], 1, NULL, NULL), 0);
		if (alone.hash[0] != together.hash[s])
			fail_msg("prompt %d has other logits alone than in a batch of %d", s + 1, N_PROMPTS);
		if (s == 0)
			passes_agree(alone.hash[0]);
		for (int other = 0; other < s; other++) /* a hash that never changes would prove nothing */
			assert_true(together.hash[other] != together.hash[s]);
	}
	int streamed = exact_check(exact_model, prompts, 1, EXACT_IDS, together.hash, n_alone);
	streamed += exact_check(exact_model, prompts, N_PROMPTS, EXACT_IDS, together.hash, n);
	assert_true(streamed >= (n + n_alone) / 2);
}

int main(void)
{
	static const char *const families[] = {"tiny-llama", "tiny-mistral", "tiny-qwen2"};
	static const char *const types[] = {"q4_0", "f32", "f16", "bf16", "q8_0", "q4_1", "q4_k", "q6_k"};
	static struct exact_kind kinds[24];
	static char              names[24][32];
	static struct CMUnitTest tests[24];
	size_t                   n = 0;
	for (size_t i = 0; i < 24; i++) {
		if (exact_scale() == EXACT_QUICK && i % 11) /* q4_0, bf16, q4_k */
			continue;
		kinds[n] = (struct exact_kind){families[i / 8], types[i % 8]};
		snprintf(names[n], sizeof names[n], "%s %s", kinds[n].like, kinds[n].type);
		tests[n] = (struct CMUnitTest){names[n], is_exact, exact_open_model, exact_close_model, &kinds[n]};
		n++;
	}
	if (exact_scale() == EXACT_QUICK) {
		prompts[0] = (struct run_prompt){exact_ids, 70, 8};
		prompts[1].n_ids = 40;
	}
	int failed = exact_run("exactness", tests, n);
	printf("%d combinations kept a part of streamed layers, of %d sizes; %d had the rest in pieces.\n",
	       exact_n_cut, exact_n_shares, exact_n_in_pieces);
	if (!failed && (exact_n_shares < 3 || exact_n_in_pieces < 3)) {
		fprintf(stderr, "Too few different parts of streamed layers were kept, or too few in pieces.\n");
		return 1;
	}
	return failed;
}
