/* Texts for timing an encoder, of a chosen number of tokens each: words of its vocabulary that
 * are one token apiece, in pseudo-random order. What a pass takes does not depend on which. */
#include "cli/bench.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_WORDS = 32, TRIES = 4096, WORD_BYTES = 24, EIGHT = 8 };

struct words {
	char word[MOST_WORDS][WORD_BYTES];
	int  n;
};

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13, *x ^= *x >> 7, *x ^= *x << 17;
	return *x;
}

static int64_t count_tokens(const struct hr_model *model, const char *text, bool whole)
{
	int32_t none;
	return hr_model_tokenize(model, text, strlen(text), whole, true, &none, 0, NULL);
}

/* A word is as many tokens as it stands there. */
static bool is_one_token(const struct hr_model *model, const char *word)
{
	char text[EIGHT * (WORD_BYTES + 1)] = "";
	for (int i = 0; i < EIGHT; i++) {
		strcat(text, i ? " " : "");
		strcat(text, word);
	}
	return count_tokens(model, text, false) == EIGHT;
}

static void find_words(struct words *words, const struct hr_model *model)
{
	uint64_t x = 88172645463325252u;
	int      n_vocab = hr_model_info(model)->n_vocab;
	for (int i = 0; i < TRIES && words->n < MOST_WORDS; i++) {
		char   *word = words->word[words->n];
		int32_t id = (int32_t)(next_random(&x) % (uint64_t)n_vocab);
		int64_t length = hr_model_detokenize(model, &id, 1, false, word, WORD_BYTES, NULL);
		if (length < 1 || length >= WORD_BYTES)
			continue;
		bool letters = strspn(word, "abcdefghijklmnopqrstuvwxyz") == (size_t)length;
		words->n += letters && is_one_token(model, word);
	}
}

__attribute__((format(printf, 3, 4))) static int fail(struct hr_error *err, int code, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	vsnprintf(err->message, sizeof err->message, fmt, args);
	va_end(args);
	return err->code = code;
}

int hr_bench_make_texts(struct hr_bench_texts *texts, const struct hr_model *model, int n_texts, int n_tokens,
                        struct hr_error *err)
{
	struct words words = {0};
	uint64_t     x = 1181783497276652981u;
	size_t       room = (size_t)n_tokens * WORD_BYTES + 1;
	int          inside = n_tokens - (int)count_tokens(model, "", true); /* what stands around a text */
	*texts = (struct hr_bench_texts){.items = calloc((size_t)n_texts, sizeof *texts->items),
	                                 .content = calloc((size_t)n_texts, room)};
	find_words(&words, model);
	if (!texts->items || !texts->content)
		return fail(err, HR_ENOMEM, "There is no memory for %d texts.", n_texts);
	if (!words.n)
		return fail(err, HR_EUNSUPPORTED,
		            "%s: no word of its vocabulary is one token, so texts of %d tokens cannot be made up.",
		            hr_model_info(model)->path, n_tokens);
	for (int i = 0; i < n_texts; i++) {
		char *text = texts->content + (size_t)i * room, *end = text;
		for (int k = 0; k < inside; k++) {
			end = stpcpy(end, k ? " " : "");
			end = stpcpy(end, words.word[next_random(&x) % (uint64_t)words.n]);
		}
		texts->items[i] = (struct hr_text){.text = text, .length = (size_t)(end - text)};
	}
	return 0;
}

void hr_bench_release_texts(struct hr_bench_texts *texts)
{
	free(texts->items);
	free(texts->content);
}
