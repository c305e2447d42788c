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

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_gpt2),      cmocka_unit_test(test_llama3),
	    cmocka_unit_test(test_qwen2),     cmocka_unit_test(test_smollm),
	    cmocka_unit_test(test_tekken),    cmocka_unit_test(test_llama2),
	    cmocka_unit_test(test_metaspace), cmocka_unit_test(test_sentencepiece),
	    cmocka_unit_test(test_wordpiece),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
