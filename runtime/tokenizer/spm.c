/* SentencePiece-style BPE (Llama 2, Mistral, TinyLlama): characters are merged
 * into pieces that may begin with a space, over the whole stretch of text at once.
 *
 * No piece of these vocabularies has a space behind another character. So no
 * merge can cross the place between a character and the space that follows it, and
 * the text may be cut there without changing a single id: that keeps the lists
 * short. A vocabulary that does have such pieces is not cut. */
#include "runtime/tokenizer/internal.h"

#include <string.h>

static const char meta_space[] = "\xe2\x96\x81"; /* U+2581 */

size_t hr__spm_space(char *out, const char *text, size_t length, bool prefix)
{
	size_t n = 0;
	if (prefix && length)
		out[n++] = ' ';
	for (size_t i = 0; i < length;) {
		bool meta = length - i >= 3 && !memcmp(text + i, meta_space, 3);
		out[n++] = meta ? ' ' : text[i];
		i += meta ? 3 : 1;
	}
	return n;
}

static size_t word_end(const struct hr_tokenizer *t, const char *text, size_t start, size_t length)
{
	if (!t->words_apart && !t->vocab.split_at_spaces)
		return length;
	size_t end = start + 1;
	while (end < length && !(text[end] == ' ' && (t->vocab.split_at_spaces || text[end - 1] != ' ')))
		end++;
	return end;
}

int hr__spm_encode(const struct hr_tokenizer *t, struct hr__work *w, const char *text, size_t length,
                   bool at_start)
{
	const struct hr_vocab *v = &t->vocab;
	int                    rc = 0;
	if (v->metaspace) {
		bool begins = text[0] == ' ' || (length >= 3 && !memcmp(text, meta_space, 3));
		rc = hr__reserve((void **)&w->spaced, &w->spaced_capacity, length + 1, 1);
		if (rc)
			return rc;
		length = hr__spm_space(w->spaced, text, length,
		                       v->add_space_prefix && !begins && (at_start || !v->prefix_first_only));
		text = w->spaced;
	}
	for (size_t start = 0, end; start < length && !rc; start = end) {
		end = word_end(t, text, start, length);
		int32_t whole = v->ignore_merges && end - start <= t->longest_piece
		                    ? hr__text_map_find(&t->pieces, t->raw, text + start, end - start)
		                    : -1;
		rc = whole >= 0 ? hr__push_id(w, whole) : hr__merge(t, w, text + start, end - start);
	}
	return rc;
}
