/* Streamed logits equal resident ones bit for bit, for every family and weight type.
 *
 * hr_synth writes a small model of each; a prompt of 300 tokens and 64 generated
 * ones are run with everything resident, then in the combinations of exactness.h,
 * alone and together with four other sequences. Two more equalities come from the
 * same runs: a sequence alone against the same one in a batch, and passes of 512,
 * 64 and 7 tokens against each other.
 *
 * HR_TEST_QUICK=1 in the environment: fewer models and combinations; HR_TEST_THOROUGH=1: as many
 * combinations with one sequence as with five. */
#include "exactness.h"

#include <unistd.h>

#define N_PROMPTS 5
#define N_CTX     400

static char             directory[200];
static int32_t          ids[N_CTX];
static struct hr_model *model;

static const struct run_prompt prompts[N_PROMPTS] = {
    {ids, 300, 64}, {ids + 7, 129, 16}, {ids + 3, 1, 24}, {ids + 50, 64, 3}, {ids + 11, 33, 8},
};

struct kind {
	const char *like, *type;
};

static int open_model(void **state)
{
	const struct kind *k = *state;
	struct hr_error    err = {0};
	char               path[260];
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
	(void)state;
	hr_model_close(model);
	model = NULL;
	return 0;
}

/* The first prompt in passes of fewer tokens than the 512 of `want`. */
static void passes_agree(uint64_t want)
{
	static const int sizes[] = {64, 7};
	for (int i = 0; i < 2; i++) {
		struct run_result      r = {0};
		struct hr_plan_options o = exact_options(model, NULL, 1, N_CTX);
		o.n_batch = sizes[i];
		assert_int_equal(run_prompts(&r, model, &o, prompts, 1, NULL, NULL), 0);
		assert_int_equal(r.plan.n_batch, sizes[i]);
		if (r.hash[0] != want)
			fail_msg("passes of %d tokens give other logits than passes of 512", sizes[i]);
	}
}

static void is_exact(void **state)
{
	(void)state;
	static const int       n_together[] = {3, 12, 32}, n_singly[] = {1, 4, 32};
	int                    n = n_together[exact_scale()], n_alone = n_singly[exact_scale()];
	struct run_result      together = {0}, alone = {0};
	struct hr_plan_options o = exact_options(model, NULL, N_PROMPTS, N_CTX);
	assert_int_equal(run_prompts(&together, model, &o, prompts, N_PROMPTS, NULL, NULL), 0);
	assert_false(together.streamed);
	for (int s = 0; s < N_PROMPTS; s++) {
		o = exact_options(model, NULL, 1, N_CTX);
		assert_int_equal(run_prompts(&alone, model, &o, &prompts[s], 1, NULL, NULL), 0);
		if (alone.hash[0] != together.hash[s])
			fail_msg("prompt %d has other logits alone than in a batch of %d", s + 1, N_PROMPTS);
		if (s == 0)
			passes_agree(alone.hash[0]);
		for (int other = 0; other < s; other++) /* a hash that never changes would prove nothing */
			assert_true(together.hash[other] != together.hash[s]);
	}
	int streamed = exact_check(model, prompts, 1, N_CTX, together.hash, n_alone);
	streamed += exact_check(model, prompts, N_PROMPTS, N_CTX, together.hash, n);
	assert_true(streamed >= (n + n_alone) / 2);
}

int main(void)
{
	static const char *const families[] = {"tiny-llama", "tiny-mistral", "tiny-qwen2"};
	static const char *const types[] = {"q4_0", "f32", "f16", "bf16", "q8_0", "q4_1", "q4_k", "q6_k"};
	static struct kind       kinds[24];
	static char              names[24][32];
	static struct CMUnitTest tests[24];
	size_t                   n = 0;
	for (size_t i = 0; i < 24; i++) {
		if (exact_scale() == EXACT_QUICK &&
		    i / 8 != i % 3) /* two or three types of each family, all in all */
			continue;
		kinds[n] = (struct kind){families[i / 8], types[i % 8]};
		snprintf(names[n], sizeof names[n], "%s %s", kinds[n].like, kinds[n].type);
		tests[n] = (struct CMUnitTest){names[n], is_exact, open_model, close_model, &kinds[n]};
		n++;
	}
	const char *temporary = getenv("TMPDIR");
	snprintf(directory, sizeof directory, "%s/headrace-exactness-XXXXXX", temporary ? temporary : "/var/tmp");
	if (!mkdtemp(directory)) {
		perror(directory);
		return 1;
	}
	int failed = _cmocka_run_group_tests("exactness", tests, n, NULL, NULL);
	rmdir(directory);
	return failed;
}
