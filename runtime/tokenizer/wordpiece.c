/* WordPiece, BERT's tokenizer: text is cleaned and perhaps made lower case, cut at
 * whitespace and around punctuation, and each word covered from the left by the longest
 * pieces there are. Pieces inside of a word are spelled with ## in front. A word that
 * can't be covered, or is absurdly long, is one unknown token as a whole.
 *
 * Schuster & Nakajima 2012; the order of the steps is that of BERT's own tokenizer. */
#include "runtime/tokenizer/internal.h"

#include "base/mem.h"

#include <utf8proc.h>

static bool is_control(uint32_t c)
{
	utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
	if (c == '\t' || c == '\n' || c == '\r')
		return false;
	return category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF ||
	       category == UTF8PROC_CATEGORY_CO;
}

static bool is_ideograph(uint32_t c)
{
	return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) ||
	       (c >= 0x2a700 && c <= 0x2b73f) || (c >= 0x2b740 && c <= 0x2b81f) ||
	       (c >= 0x2b920 && c <= 0x2ceaf) || (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

static bool is_punctuation(uint32_t c)
{
	if (c < 0x80)
		return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
	switch (utf8proc_category((utf8proc_int32_t)c)) {
	case UTF8PROC_CATEGORY_PC:
	case UTF8PROC_CATEGORY_PD:
	case UTF8PROC_CATEGORY_PS:
	case UTF8PROC_CATEGORY_PE:
	case UTF8PROC_CATEGORY_PI:
	case UTF8PROC_CATEGORY_PF:
	case UTF8PROC_CATEGORY_PO:
		return true;
	default:
		return false;
	}
}

/* ---- Normalising ---- */

static size_t put(char *out, uint32_t c)
{
	return (size_t)utf8proc_encode_char((utf8proc_int32_t)c, (utf8proc_uint8_t *)out);
}

/* Control characters left out, whitespace made plain, ideographs words of their own; `out` has room for
 * three bytes per byte. */
static size_t clean(const struct hr_vocab *v, char *out, const char *text, size_t length)
{
	size_t   n = 0;
	uint32_t c;
	for (size_t i = 0, step; i < length; i += step) {
		step = hr__utf8_decode(text + i, length - i, &c);
		if (v->clean_text && (c == 0 || c == 0xfffd || is_control(c)))
			continue;
		if (v->clean_text && hr__utf8_is_space(c))
			c = ' ';
		bool apart = v->split_ideographs && is_ideograph(c);
		if (apart)
			out[n++] = ' ';
		n += put(out + n, c);
		if (apart)
			out[n++] = ' ';
	}
	return n;
}

/* In place; what is decomposed here never becomes longer. */
static size_t strip_accents(char *text, size_t length)
{
	size_t   n = 0;
	uint32_t c;
	for (size_t i = 0, step; i < length; i += step) {
		step = hr__utf8_decode(text + i, length - i, &c);
		if (utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_MN)
			continue;
		memmove(text + n, text + i, step);
		n += step;
	}
	return n;
}

int hr__wordpiece_normalize(const struct hr_tokenizer *t, char **out, size_t *out_length, const char *text,
                            size_t length)
{
	const struct hr_vocab *v = &t->vocab;
	char                  *cleaned = malloc(3 * length + 1), *lowered;
	if (!cleaned)
		return HR_ENOMEM;
	size_t n = clean(v, cleaned, text, length);
	if (v->strip_accents) {
		utf8proc_uint8_t *decomposed;
		utf8proc_ssize_t  bytes = utf8proc_map((const utf8proc_uint8_t *)cleaned, (utf8proc_ssize_t)n,
		                                       &decomposed, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE);
		free(cleaned);
		if (bytes < 0)
			return HR_ENOMEM;
		cleaned = (char *)decomposed;
		n = strip_accents(cleaned, (size_t)bytes);
	}
	if (v->lowercase) {
		lowered = malloc(2 * n + 1);
		if (lowered)
			n = hr__utf8_lower(lowered, cleaned, n);
		free(cleaned);
		cleaned = lowered;
		if (!lowered)
			return HR_ENOMEM;
	}
	*out = cleaned;
	*out_length = n;
	return 0;
}

/* ---- Words ---- */

/* The longest piece at text[from ..), `inside` of a word spelled with ## in the two bytes before it. */
static int32_t longest_piece(const struct hr_tokenizer *t, const char *text, size_t length, size_t *taken)
{
	size_t n = length < t->longest_piece ? length : t->longest_piece;
	for (; n > 0; n--) {
		if (n < length && ((unsigned char)text[n] & 0xc0) == 0x80)
			continue; /* inside of a character */
		int32_t id = hr__text_map_find(&t->pieces, t->raw, text, n);
		if (id >= 0) {
			*taken = n;
			return id;
		}
	}
	return -1;
}

static int encode_word(const struct hr_tokenizer *t, struct hr__work *w, const char *text, size_t length)
{
	size_t   n_chars = 0, first_id = w->n_ids;
	uint32_t c;
	for (size_t i = 0; i < length; i += hr__utf8_decode(text + i, length - i, &c))
		n_chars++;
	int rc = hr__reserve((void **)&w->spaced, &w->spaced_capacity, length + 2, 1);
	if (rc)
		return rc;
	char *word = w->spaced + 2; /* the two bytes in front are for ## */
	memcpy(word, text, length);
	bool covered = n_chars <= (size_t)t->vocab.max_word_chars;
	for (size_t at = 0, taken = 0; at < length && covered && !rc;) {
		size_t marks = at ? 2 : 0;
		memcpy(word + at - marks, "##", marks); /* over what is covered already */
		int32_t id = longest_piece(t, word + at - marks, length - at + marks, &taken);
		covered = id >= 0 && taken > marks;
		if (covered)
			rc = hr__push_id(w, id);
		at += taken - marks;
	}
	if (covered || rc)
		return rc;
	w->n_ids = first_id;
	return hr__push_id(w, t->vocab.unk);
}

int hr__wordpiece_encode(const struct hr_tokenizer *t, struct hr__work *w, const char *text, size_t length)
{
	size_t   word = 0; /* where the word at hand begins */
	uint32_t c;
	int      rc = 0;
	for (size_t i = 0, step; i < length && !rc; i += step) {
		step = hr__utf8_decode(text + i, length - i, &c);
		bool mark = is_punctuation(c);
		if (!mark && !hr__utf8_is_space(c))
			continue;
		if (word < i)
			rc = encode_word(t, w, text + word, i - word);
		if (mark && !rc)
			rc = encode_word(t, w, text + i, step);
		word = i + step;
	}
	return word < length && !rc ? encode_word(t, w, text + word, length - word) : rc;
}
