/* The real SmolLM2 vocabulary, read from its GGUF file, gives exactly the ids that
 * the `tokenizers` library gives with it, on every record of the corpus. Skipped where the
 * model is not there (scripts/fetch-models). */
#include "runtime/format/checkpoint.h"
#include "runtime/tokenizer/chat.h"
#include "tests/tokenizer_golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#define MODEL "models/SmolLM2-135M-Instruct.Q4_1.gguf"

static struct hr_tokenizer *tokenizer;

static int open_model(void **state)
{
	(void)state;
	struct hr_checkpoint c = {0};
	struct hr_error      err = {0};
	if (hr_checkpoint_open(&c, MODEL, &err) || !c.has_vocab || hr_tokenizer_new(&tokenizer, &c.vocab, &err))
		golden_fail(MODEL, err.message);
	hr_checkpoint_release(&c);
	return 0;
}

static int close_model(void **state)
{
	(void)state;
	hr_tokenizer_free(tokenizer);
	return 0;
}

static void test_ids(void **state)
{
	(void)state;
	assert_int_equal(golden_count_mismatches(tokenizer, "smollm2", true, true), 0);
}

static void test_special_tokens(void **state)
{
	(void)state;
	const struct hr_vocab *v = hr_tokenizer_vocab(tokenizer);
	char                   text[64];
	assert_int_equal(v->bos, 1);
	assert_false(v->add_bos);
	assert_true(hr_tokenizer_is_eog(tokenizer, 2));  /* <|im_end|> */
	assert_true(hr_tokenizer_is_eog(tokenizer, 0));  /* <|endoftext|> */
	assert_false(hr_tokenizer_is_eog(tokenizer, 1)); /* <|im_start|> */
	assert_int_equal(hr_tokenizer_token_bytes(tokenizer, 1, false, text, sizeof text), 0);
	assert_int_equal(hr_tokenizer_token_bytes(tokenizer, 1, true, text, sizeof text), 12);
	assert_memory_equal(text, "<|im_start|>", 12);
}

static void test_chat(void **state)
{
	(void)state;
	const struct hr_chat_message hello = {"user", "Hello"};
	char                        *text = NULL;
	int32_t                      ids[64];
	assert_int_equal(
	    hr_chat_format(&text, hr_tokenizer_vocab(tokenizer)->chat_template, "", "", &hello, 1, true, NULL),
	    0);
	assert_string_equal(text,
	                    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
	                    "Face<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n");
	assert_int_equal(hr_tokenizer_encode(tokenizer, text, strlen(text), false, true, ids, 64, NULL), 31);
	assert_int_equal(ids[0], 1);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_ids),
	    cmocka_unit_test(test_special_tokens),
	    cmocka_unit_test(test_chat),
	};
	if (access(MODEL, R_OK)) {
		fprintf(stderr, "skipped: %s is not there\n", MODEL);
		return 77;
	}
	return cmocka_run_group_tests(tests, open_model, close_model);
}
