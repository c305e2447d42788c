/* Text that can be shown: whole characters, nothing that may begin a stop string. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "runtime/text_stream.h"

/* A tokenizer of SentencePiece's byte tokens: token 3 + b is byte b. */
static struct hr_tokenizer *bytes_only(void)
{
	struct hr_vocab v = {.kind = HR_TOKENIZER_SPM, .n_tokens = 260, .bos = 1, .eos = 2, .unk = 0, .pad = -1};
	struct hr_tokenizer *t = NULL;
	struct hr_error      err = {0};
	v.tokens = hr__calloc(260, sizeof *v.tokens);
	v.types = hr__calloc(260, 1);
	v.scores = hr__calloc(260, sizeof *v.scores);
	const char *special[3] = {"<unk>", "<s>", "</s>"};
	for (int i = 0; i < 260; i++) {
		char text[8] = "\xe2\x96\x81"; /* the last: a space */
		if (i < 259)
			snprintf(text, sizeof text, "<0x%02X>", (i - 3) & 0xff);
		v.tokens[i].text = strdup(i < 3 ? special[i] : text);
		v.tokens[i].length = strlen(v.tokens[i].text);
		v.types[i] = i == 0    ? HR_TOKEN_UNKNOWN
		             : i < 3   ? HR_TOKEN_CONTROL
		             : i < 259 ? HR_TOKEN_BYTE
		                       : HR_TOKEN_NORMAL;
	}
	if (hr_tokenizer_new(&t, &v, &err))
		fail_msg("%s", err.message);
	return t;
}

/* Feed `text` byte by byte; what may be shown after each byte goes to shown[i]. */
static void feed(struct hr_text_stream *t, const char *text, char shown[][16])
{
	for (size_t i = 0; text[i] && !t->stopped; i++) {
		assert_int_equal(hr__text_add(t, 3 + (unsigned char)text[i]), 0);
		size_t n = hr__text_read(t, shown[i], 15);
		shown[i][n] = '\0';
	}
}

static void characters_come_whole(void **state)
{
	struct hr_text_stream t;
	char                  shown[16][16] = {{0}};
	assert_int_equal(hr__text_init(&t, *state, NULL, 0), 0);
	feed(&t, "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80!", shown);
	static const char *const want[11] = {"a", "", "\xc3\xa9",         "", "", "\xe2\x82\xac", "",
	                                     "",  "", "\xf0\x9f\x98\x80", "!"};
	for (int i = 0; i < 11; i++)
		assert_string_equal(shown[i], want[i]);
	hr__text_release(&t);
}

static void a_broken_end_becomes_a_replacement_character(void **state)
{
	struct hr_text_stream t;
	char                  shown[16][16] = {{0}}, rest[16] = "";
	assert_int_equal(hr__text_init(&t, *state, NULL, 0), 0);
	feed(&t, "x\xe2\x82", shown);
	assert_string_equal(shown[0], "x");
	assert_int_equal(hr__text_finish(&t), 0);
	assert_int_equal(hr__text_read(&t, rest, sizeof rest), 3);
	assert_memory_equal(rest, "\xef\xbf\xbd", 3);
	hr__text_release(&t);
}

static void the_beginning_of_a_stop_string_is_held_back(void **state)
{
	struct hr_text_stream t;
	char                  shown[16][16] = {{0}}, rest[16] = "";
	const char *const     stops[] = {"END", "", "ENXY"};
	assert_int_equal(hr__text_init(&t, *state, stops, 3), 0);
	feed(&t, "aENbEND", shown);
	static const char *const want[7] = {"a", "", "", "ENb", "", "", ""};
	for (int i = 0; i < 7; i++)
		assert_string_equal(shown[i], want[i]);
	assert_true(t.stopped);
	assert_int_equal(hr__text_finish(&t), 0);
	assert_int_equal(hr__text_read(&t, rest, sizeof rest), 0);
	assert_int_equal(t.length, 4);
	hr__text_release(&t);
}

static void what_was_held_back_comes_at_the_end(void **state)
{
	struct hr_text_stream t;
	char                  shown[16][16] = {{0}}, rest[16] = "";
	const char *const     stops[] = {"END"};
	assert_int_equal(hr__text_init(&t, *state, stops, 1), 0);
	feed(&t, "aEN", shown);
	assert_int_equal(hr__text_finish(&t), 0);
	assert_int_equal(hr__text_read(&t, rest, sizeof rest), 2);
	assert_memory_equal(rest, "EN", 2);
	hr__text_release(&t);
}

static void small_reads_do_not_split_characters(void **state)
{
	struct hr_text_stream t;
	char                  piece[8];
	assert_int_equal(hr__text_init(&t, *state, NULL, 0), 0);
	for (const char *s = "a\xe2\x82\xac"; *s; s++)
		assert_int_equal(hr__text_add(&t, 3 + (unsigned char)*s), 0);
	assert_int_equal(hr__text_read(&t, piece, 3), 1);
	assert_int_equal(hr__text_read(&t, piece, 2), 0);
	assert_int_equal(hr__text_read(&t, piece, 3), 3);
	hr__text_release(&t);
}

int main(void)
{
	struct hr_tokenizer    *t = bytes_only();
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_prestate(characters_come_whole, t),
	    cmocka_unit_test_prestate(a_broken_end_becomes_a_replacement_character, t),
	    cmocka_unit_test_prestate(the_beginning_of_a_stop_string_is_held_back, t),
	    cmocka_unit_test_prestate(what_was_held_back_comes_at_the_end, t),
	    cmocka_unit_test_prestate(small_reads_do_not_split_characters, t),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	hr_tokenizer_free(t);
	return failed;
}
