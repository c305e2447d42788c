/* A vocabulary's memory: the formats fill a struct hr_vocab, whoever holds it
 * last gives it back here. A zeroed one can be released. */
#include "runtime/tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>

static void free_strings(struct hr_string *strings, int32_t n)
{
	for (int32_t i = 0; strings && i < n; i++)
		free(strings[i].text);
	free(strings);
}

void hr_vocab_release(struct hr_vocab *vocab)
{
	if (!vocab)
		return;
	free_strings(vocab->tokens, vocab->n_tokens);
	free_strings(vocab->merges, vocab->n_merges);
	free_strings(vocab->patterns, vocab->n_patterns);
	for (int32_t i = 0; vocab->steps && i < vocab->n_steps; i++) {
		free(vocab->steps[i].text.text);
		free(vocab->steps[i].with.text);
	}
	free(vocab->steps);
	free(vocab->scores);
	free(vocab->types);
	free(vocab->added);
	free(vocab->pre);
	free(vocab->chat_template);
	memset(vocab, 0, sizeof *vocab);
}
