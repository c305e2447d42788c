/* The steps of normalising that a Unigram tokenizer lists, in order, each from one buffer
 * into the next: a table of characters, Unicode's normal forms, accents, case, whitespace
 * at the ends, and replacements by pattern.
 *
 * What the table does to a grapheme (a letter and its marks) is what the `tokenizers`
 * library does, odd as it is: a grapheme of less than six bytes is looked up as a whole,
 * and whatever it merely begins with in the table replaces all of it. Only where that finds
 * nothing, or the grapheme is longer, each of its characters is looked up alone. */
#include "runtime/tokenizer/internal.h"

#include "base/error.h"
#include "base/mem.h"

#include <utf8proc.h>

struct hr__normalizer {
	int32_t n;
	struct step {
		const struct hr_normal_step *what;
		struct hr__charsmap          map;
		pcre2_code                  *code; /* HR_NORMAL_REPLACE */
	} steps[];
};

struct buffer {
	char  *bytes;
	size_t length, capacity;
};

static int append(struct buffer *b, const char *text, size_t length)
{
	int rc = hr__reserve((void **)&b->bytes, &b->capacity, b->length + length + 1, 1);
	if (!rc && length)
		memcpy(b->bytes + b->length, text, length);
	b->length += rc ? 0 : length;
	return rc;
}

static size_t char_at(const char *text, size_t length, uint32_t *c)
{
	size_t n = hr__utf8_decode(text, length, c);
	return n ? n : 1;
}

/* ---- The steps ---- */

static int map_grapheme(const struct hr__charsmap *map, struct buffer *out, const char *text, size_t length)
{
	struct hr_string becomes;
	uint32_t         c;
	int              rc = 0;
	if (length < 6 && hr__charsmap_find(map, text, length, false, &becomes))
		return append(out, becomes.text, becomes.length);
	for (size_t i = 0, n; i < length && !rc; i += n) {
		n = char_at(text + i, length - i, &c);
		rc = hr__charsmap_find(map, text + i, n, false, &becomes) ? append(out, becomes.text, becomes.length)
		                                                          : append(out, text + i, n);
	}
	return rc;
}

static int map_graphemes(const struct step *s, struct buffer *out, const char *text, size_t length)
{
	size_t           start = 0, at = 0;
	uint32_t         c, before = 0;
	utf8proc_int32_t state = 0;
	int              rc = 0;
	for (size_t n; at < length && !rc; at += n, before = c) {
		n = char_at(text + at, length - at, &c);
		if (at && utf8proc_grapheme_break_stateful((utf8proc_int32_t)before, (utf8proc_int32_t)c, &state)) {
			rc = map_grapheme(&s->map, out, text + start, at - start);
			start = at;
		}
	}
	return rc || start == length ? rc : map_grapheme(&s->map, out, text + start, length - start);
}

static int map_longest(const struct step *s, struct buffer *out, const char *text, size_t length)
{
	int rc = 0;
	for (size_t i = 0, n; i < length && !rc; i += n) {
		struct hr_string becomes;
		uint32_t         c;
		n = hr__charsmap_find(&s->map, text + i, length - i, true, &becomes);
		if (n)
			rc = append(out, becomes.text, becomes.length);
		else
			rc = append(out, text + i, n = char_at(text + i, length - i, &c));
	}
	return rc;
}

static int to_normal_form(utf8proc_option_t options, struct buffer *out, const char *text, size_t length)
{
	utf8proc_uint8_t *normal;
	utf8proc_ssize_t  n = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length, &normal,
	                                   UTF8PROC_STABLE | options);
	if (n < 0)
		return HR_ENOMEM;
	out->bytes = (char *)normal;
	out->length = (size_t)n;
	return 0;
}

static int strip_accents(struct buffer *out, const char *text, size_t length)
{
	int rc = 0;
	for (size_t i = 0, n; i < length && !rc; i += n) {
		uint32_t c;
		n = char_at(text + i, length - i, &c);
		utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
		if (category != UTF8PROC_CATEGORY_MN && category != UTF8PROC_CATEGORY_MC &&
		    category != UTF8PROC_CATEGORY_ME)
			rc = append(out, text + i, n);
	}
	return rc;
}

static int lower(struct buffer *out, const char *text, size_t length)
{
	int rc = hr__reserve((void **)&out->bytes, &out->capacity, 2 * length + 1, 1);
	out->length = rc ? 0 : hr__utf8_lower(out->bytes, text, length);
	return rc;
}

static int strip(bool left, struct buffer *out, const char *text, size_t length)
{
	uint32_t c;
	size_t   start = 0, end = left ? length : 0;
	for (size_t i = 0, n; i < length; i += n) {
		n = char_at(text + i, length - i, &c);
		bool space = hr__utf8_is_space(c);
		if (left && !space) {
			break;
		} else if (left) {
			start = i + n;
		} else if (!space) {
			end = i + n;
		}
	}
	return append(out, text + start, end - start);
}

/* A match that is empty, or that the pattern takes too long to find, is none. */
static int replace(const struct step *s, struct buffer *out, const char *text, size_t length)
{
	pcre2_match_data *match = pcre2_match_data_create(1, NULL);
	size_t            at = 0, done = 0;
	int               rc = match ? 0 : HR_ENOMEM;
	while (!rc && at < length &&
	       pcre2_match(s->code, (PCRE2_SPTR)text, length, at, PCRE2_NO_UTF_CHECK, match, NULL) >= 0) {
		const PCRE2_SIZE *o = pcre2_get_ovector_pointer(match);
		uint32_t          c;
		if (o[1] <= o[0] || o[0] < done) {
			at = o[0] >= at && o[0] < length ? o[0] : at;
			at += char_at(text + at, length - at, &c);
			continue;
		}
		rc = append(out, text + done, o[0] - done);
		rc = rc ? rc : append(out, s->what->with.text, s->what->with.length);
		at = done = o[1];
	}
	pcre2_match_data_free(match);
	return rc ? rc : append(out, text + done, length - done);
}

static int prepend(const struct step *s, struct buffer *out, const char *text, size_t length)
{
	int rc = length ? append(out, s->what->text.text, s->what->text.length) : 0;
	return rc ? rc : append(out, text, length);
}

static int run_step(const struct step *s, struct buffer *out, const char *text, size_t length)
{
	switch (s->what->kind) {
	case HR_NORMAL_CHARSMAP:
		return map_graphemes(s, out, text, length);
	case HR_NORMAL_CHARSMAP_LONGEST:
		return map_longest(s, out, text, length);
	case HR_NORMAL_NFC:
		return to_normal_form(UTF8PROC_COMPOSE, out, text, length);
	case HR_NORMAL_NFD:
		return to_normal_form(UTF8PROC_DECOMPOSE, out, text, length);
	case HR_NORMAL_NFKC:
		return to_normal_form(UTF8PROC_COMPOSE | UTF8PROC_COMPAT, out, text, length);
	case HR_NORMAL_NFKD:
		return to_normal_form(UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, out, text, length);
	case HR_NORMAL_STRIP_ACCENTS:
		return strip_accents(out, text, length);
	case HR_NORMAL_LOWERCASE:
		return lower(out, text, length);
	case HR_NORMAL_STRIP_LEFT:
		return strip(true, out, text, length);
	case HR_NORMAL_STRIP_RIGHT:
		return strip(false, out, text, length);
	case HR_NORMAL_REPLACE:
		return replace(s, out, text, length);
	case HR_NORMAL_PREPEND:
		return prepend(s, out, text, length);
	}
	return HR_EINTERNAL;
}

int hr__normalizer_run(const struct hr__normalizer *normalizer, char **out, size_t *out_length,
                       const char *text, size_t length)
{
	struct buffer from = {0};
	for (int32_t i = 0; i < normalizer->n; i++) {
		struct buffer to = {0};
		int           rc = run_step(&normalizer->steps[i], &to, text, length);
		if (!rc && !to.bytes)
			rc = append(&to, "", 0);
		free(from.bytes);
		if (rc) {
			free(to.bytes);
			return rc;
		}
		from = to;
		text = from.bytes;
		length = from.length;
	}
	*out = from.bytes;
	*out_length = length;
	return 0;
}

int hr__normalizer_new(struct hr__normalizer **out, const struct hr_vocab *vocab, struct hr_error *err)
{
	struct hr__normalizer *n = hr__calloc(1, sizeof *n + (size_t)vocab->n_steps * sizeof *n->steps);
	int rc = n ? 0 : hr__fail(err, HR_ENOMEM, "Out of memory while building the normalizer.");
	for (int32_t i = 0; i < vocab->n_steps && !rc; i++) {
		struct step *s = &n->steps[n->n++];
		s->what = &vocab->steps[i];
		if (s->what->kind == HR_NORMAL_REPLACE)
			rc = hr__pattern_compile(&s->code, s->what->text.text, s->what->text.length, err);
		else if (s->what->kind <= HR_NORMAL_CHARSMAP_LONGEST)
			rc = hr__charsmap_init(&s->map, &s->what->text, err);
	}
	if (rc)
		hr__normalizer_free(n);
	else
		*out = n;
	return rc;
}

void hr__normalizer_free(struct hr__normalizer *normalizer)
{
	for (int32_t i = 0; normalizer && i < normalizer->n; i++)
		pcre2_code_free(normalizer->steps[i].code);
	free(normalizer);
}
