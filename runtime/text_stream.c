/* Holds back what can't be shown yet: the bytes of an unfinished character, and a
 * tail that is the beginning of a stop string. */
#include "runtime/text_stream.h"

#include "base/error.h"
#include "base/mem.h"

int hr__text_init(struct hr_text_stream *t, const struct hr_tokenizer *tokenizer, const char *const *stop,
                  int n_stop)
{
	*t = (struct hr_text_stream){.tokenizer = tokenizer};
	t->stop = hr__calloc((size_t)n_stop, sizeof *t->stop);
	if (!t->stop)
		return HR_ENOMEM;
	for (int i = 0; i < n_stop; i++) {
		if (!stop[i] || !*stop[i])
			continue;
		t->stop[t->n_stop] = strdup(stop[i]);
		if (!t->stop[t->n_stop++])
			return HR_ENOMEM;
	}
	return 0;
}

void hr__text_release(struct hr_text_stream *t)
{
	for (int i = 0; i < t->n_stop; i++)
		free(t->stop[i]);
	free(t->stop);
	free(t->text);
	*t = (struct hr_text_stream){0};
}

static int append(struct hr_text_stream *t, const char *bytes, size_t n)
{
	if (t->length + n > t->capacity) {
		size_t capacity = 2 * (t->length + n) + 64;
		char  *text = realloc(t->text, capacity);
		if (!text)
			return HR_ENOMEM;
		t->text = text;
		t->capacity = capacity;
	}
	memcpy(t->text + t->length, bytes, n);
	t->length += n;
	return 0;
}

/* Bytes that the character beginning with `c` has; 1 for what begins none. */
static size_t character_bytes(unsigned char c)
{
	return c >= 0xf0 && c < 0xf8 ? 4 : c >= 0xe0 ? (c < 0xf0 ? 3 : 1) : c >= 0xc2 ? 2 : 1;
}

/* `n` less the bytes of an unfinished character at the end of text[0..n). */
static size_t whole_characters(const char *text, size_t n)
{
	for (size_t back = 1; back <= 3 && back <= n; back++) {
		unsigned char c = (unsigned char)text[n - back];
		if ((c & 0xc0) != 0x80)
			return character_bytes(c) > back ? n - back : n;
	}
	return n;
}

/* Cut the text at a stop string, if there is one. */
static bool cut_at_stop(struct hr_text_stream *t, size_t from)
{
	size_t best = SIZE_MAX;
	for (int i = 0; i < t->n_stop; i++) {
		size_t n = strlen(t->stop[i]);
		size_t begin = from > n ? from - n : 0;
		if (t->length < n)
			continue;
		char *at = memmem(t->text + begin, t->length - begin, t->stop[i], n);
		if (at && (size_t)(at - t->text) < best)
			best = (size_t)(at - t->text);
	}
	if (best == SIZE_MAX)
		return false;
	t->length = best;
	return true;
}

/* Bytes at the end of the text that may be the beginning of a stop string. */
static size_t held_back(const struct hr_text_stream *t)
{
	size_t most = 0;
	for (int i = 0; i < t->n_stop; i++) {
		size_t n = strlen(t->stop[i]);
		for (size_t k = n - 1 < t->length ? n - 1 : t->length; k > most; k--)
			if (!memcmp(t->text + t->length - k, t->stop[i], k)) {
				most = k;
				break;
			}
	}
	return most;
}

int hr__text_add(struct hr_text_stream *t, int32_t token)
{
	if (!t->tokenizer)
		return 0;
	char    small[256];
	int64_t n = hr_tokenizer_token_bytes(t->tokenizer, token, false, small, sizeof small);
	if (n < 0)
		return (int)n;
	size_t from = t->length;
	int    rc;
	if ((size_t)n <= sizeof small) {
		rc = append(t, small, (size_t)n);
	} else {
		char *large = malloc((size_t)n);
		if (!large)
			return HR_ENOMEM;
		hr_tokenizer_token_bytes(t->tokenizer, token, false, large, (size_t)n);
		rc = append(t, large, (size_t)n);
		free(large);
	}
	if (rc)
		return rc;
	t->stopped = cut_at_stop(t, from);
	size_t shown = t->stopped ? t->length : t->length - held_back(t);
	shown = whole_characters(t->text, shown);
	if (shown > t->ready)
		t->ready = shown;
	return 0;
}

int hr__text_finish(struct hr_text_stream *t)
{
	if (!t->length)
		return 0;
	size_t whole = whole_characters(t->text, t->length);
	int    rc = 0;
	if (whole < t->length) {
		t->length = whole;
		rc = append(t, "\xef\xbf\xbd", 3);
	}
	t->ready = t->length;
	return rc;
}

size_t hr__text_read(struct hr_text_stream *t, char *out, size_t capacity)
{
	size_t n = t->ready - t->read;
	if (!n || !capacity)
		return 0;
	if (n > capacity)
		n = whole_characters(t->text + t->read, capacity);
	memcpy(out, t->text + t->read, n);
	t->read += n;
	return n;
}
