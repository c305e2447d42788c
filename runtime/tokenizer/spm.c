/* SentencePiece's text: spaces belong to the pieces, in front of a word. Its BPE (Llama 2,
 * Mistral, TinyLlama) merges characters into pieces over the whole stretch of text at once; its
 * other model is in unigram.c.
 *
 * No piece of the BPE vocabularies has a space behind another character. So no
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

static int encode_word(const struct hr_tokenizer *t, struct hr__work *w, const char *text, size_t length)
{
	if (t->vocab.kind == HR_TOKENIZER_UNIGRAM)
		return hr__unigram_encode(t, w, text, length);
	int32_t whole = t->vocab.ignore_merges && length <= t->longest_piece
	                    ? hr__text_map_find(&t->pieces, t->raw, text, length)
	                    : -1;
	return whole >= 0 ? hr__push_id(w, whole) : hr__merge(t, w, text, length);
}

static int encode_words(const struct hr_tokenizer *t, struct hr__work *w, const char *text, size_t length,
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
		rc = encode_word(t, w, text + start, end - start);
	}
	return rc;
}

int hr__spm_encode(const struct hr_tokenizer *t, struct hr__work *w, const char *text, size_t length,
                   bool at_start)
{
	size_t   word = 0; /* where the word at hand begins */
	uint32_t c;
	int      rc = 0;
	if (!t->vocab.split_whitespace)
		return encode_words(t, w, text, length, at_start);
	for (size_t i = 0, step; i < length && !rc; i += step) {
		step = hr__utf8_decode(text + i, length - i, &c);
		if (!hr__utf8_is_space(c))
			continue;
		if (word < i)
			rc = encode_words(t, w, text + word, i - word, at_start && word == 0);
		word = i + step;
	}
	return rc || word == length ? rc : encode_words(t, w, text + word, length - word, at_start && word == 0);
}
