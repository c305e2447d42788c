/* Every tokenizer of tests/golden/tokenizer gives exactly the ids that the library
 * it imitates gave, on every record of the corpus (scripts/make-tokenizer-goldens). */
#include "runtime/tokenizer/tokenizer.h"
#include "tests/tokenizer_golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void check(const char *kind, const char *ids, bool add, bool special, bool round_trip)
{
	struct hr_tokenizer *t = golden_open(kind);
	assert_int_equal(golden_count_mismatches(t, ids, add, special), 0);
	if (round_trip)
		assert_int_equal(golden_count_broken_round_trips(t), 0);
	hr_tokenizer_free(t);
}

static void test_gpt2(void **state)
{
	(void)state;
	check("gpt2", "gpt2", true, true, true);
}

static void test_llama3(void **state)
{
	(void)state;
	check("llama3", "llama3", true, true, true);
	check("llama3", "llama3-plain", false, false, true);
}

static void test_qwen2(void **state)
{
	(void)state;
	check("qwen2", "qwen2", true, true, false); /* NFC: no round trip */
	check("qwen2", "qwen2-plain", false, false, false);
}

static void test_smollm(void **state)
{
	(void)state;
	check("smollm", "smollm", true, true, false); /* lacks the bytes its training text lacked */
}

static void test_tekken(void **state)
{
	(void)state;
	check("tekken", "tekken", true, true, true);
}

static void test_llama2(void **state)
{
	(void)state;
	check("llama2", "llama2", true, true, false);
	check("llama2-normalized", "llama2-normalized", true, true, false);
}

static void test_metaspace(void **state)
{
	(void)state;
	check("metaspace-first", "metaspace-first", true, true, false);
	check("metaspace-split", "metaspace-split", true, true, false);
}

static void test_sentencepiece(void **state)
{
	(void)state;
	check("sentencepiece", "sentencepiece", false, false, false);
}

static void test_wordpiece(void **state)
{
	(void)state;
	check("bert", "bert", true, true, false);
	check("bert-accents", "bert-accents", true, true, false);
}

static void test_unigram(void **state)
{
	(void)state;
	check("xlm-roberta", "xlm-roberta", true, true, false);
	check("t5", "t5", true, true, false);
	check("albert", "albert", true, true, false);
}

/* The same pieces as SentencePiece itself reads them: its table by the longest match, and no whitespace but
 * spaces. It sums scores in 32 bits, so that of two equal ways (a row of dots) it may take the other. */
static void test_unigram_of_sentencepiece(void **state)
{
	(void)state;
	struct hr_vocab      v = {0};
	struct hr_tokenizer *t = NULL;
	struct hr_error      err = {0};
	assert_int_equal(hr_vocab_read_hf(&v, GOLDEN_DIR "xlm-roberta", &err), 0);
	assert_int_equal(v.steps[0].kind, HR_NORMAL_CHARSMAP);
	assert_int_equal(v.steps[1].kind, HR_NORMAL_STRIP_RIGHT);
	v.steps[0].kind = HR_NORMAL_CHARSMAP_LONGEST;
	v.steps[1] = (struct hr_normal_step){.kind = HR_NORMAL_REPLACE, .text = {strdup(" +$"), 3}};
	v.types[v.n_tokens - 2] = v.types[v.n_tokens - 1] = HR_TOKEN_UNUSED; /* added to it later */
	assert_int_equal(hr_tokenizer_new(&t, &v, &err), 0);
	assert_in_range(golden_count_mismatches(t, "xlm-roberta-sentencepiece", false, false), 0, 40);
	hr_tokenizer_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_gpt2),
	    cmocka_unit_test(test_llama3),
	    cmocka_unit_test(test_qwen2),
	    cmocka_unit_test(test_smollm),
	    cmocka_unit_test(test_tekken),
	    cmocka_unit_test(test_llama2),
	    cmocka_unit_test(test_metaspace),
	    cmocka_unit_test(test_sentencepiece),
	    cmocka_unit_test(test_wordpiece),
	    cmocka_unit_test(test_unigram),
	    cmocka_unit_test(test_unigram_of_sentencepiece),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
