/* The tokenizer as others see it: one encode call walks the text through the
 * pipeline of internal.h, with scratch memory of its own, over tables that nobody
 * changes. What a kind does with a stretch of plain text is in bpe.c, spm.c, unigram.c and
 * wordpiece.c. */
#include "runtime/tokenizer/internal.h"

#include "base/error.h"
#include "base/mem.h"

#define MAX_TEXT_BYTES (1u << 29) /* symbols are counted in 32 bits */

int hr_tokenizer_new(struct hr_tokenizer **out, struct hr_vocab *vocab, struct hr_error *err)
{
	struct hr_tokenizer *t = hr__calloc(1, sizeof *t);
	if (!t) {
		hr_vocab_release(vocab);
		return hr__fail(err, HR_ENOMEM, "Out of memory while building the tokenizer.");
	}
	t->vocab = *vocab;
	memset(vocab, 0, sizeof *vocab);
	int rc = hr__tokenizer_build(t, err);
	if (rc) {
		hr_tokenizer_free(t);
		return rc;
	}
	*out = t;
	return 0;
}

void hr_tokenizer_free(struct hr_tokenizer *t)
{
	if (!t)
		return;
	hr_vocab_release(&t->vocab);
	hr__pretokenizer_free(t->pre);
	free(t->raw);
	free(t->arena);
	free(t->pieces.slots);
	free(t->merges.slots);
	free(t->ranks);
	free(t->added[0].nodes);
	free(t->added[1].nodes);
	hr__normalizer_free(t->normalizer);
	free(t->unigram.nodes);
	free(t);
}

const struct hr_vocab *hr_tokenizer_vocab(const struct hr_tokenizer *t) { return &t->vocab; }

int hr__reserve(void **array, size_t *capacity, size_t need, size_t element_bytes)
{
	if (need <= *capacity)
		return 0;
	size_t   n = need > 64 ? need + need / 2 : 64;
	uint64_t bytes;
	void    *grown = n >= need && hr__mul_u64(n, element_bytes, &bytes) ? realloc(*array, bytes) : NULL;
	if (!grown)
		return HR_ENOMEM;
	*array = grown;
	*capacity = n;
	return 0;
}

int hr__push_id(struct hr__work *w, int32_t id)
{
	int rc = hr__reserve((void **)&w->ids, &w->ids_capacity, w->n_ids + 1, sizeof *w->ids);
	if (!rc)
		w->ids[w->n_ids++] = id;
	return rc;
}

int hr__normalize(const struct hr_tokenizer *t, char **out, size_t *out_length, const char *text,
                  size_t length)
{
	*out = NULL;
	if (t->vocab.kind == HR_TOKENIZER_BPE)
		return t->vocab.nfc ? hr__utf8_nfc(out, out_length, text, length) : 0;
	if (t->vocab.kind == HR_TOKENIZER_WORDPIECE)
		return hr__wordpiece_normalize(t, out, out_length, text, length);
	if (t->vocab.kind == HR_TOKENIZER_UNIGRAM)
		return hr__normalizer_run(t->normalizer, out, out_length, text, length);
	if (t->vocab.metaspace)
		return 0;
	*out = malloc(length + 1);
	if (!*out)
		return HR_ENOMEM;
	*out_length = hr__spm_space(*out, text, length, t->vocab.add_space_prefix);
	return 0;
}

/* Text between the tokens that were looked for first. */
static int encode_stretch(const struct hr_tokenizer *t, struct hr__work *w, const char *text, size_t length,
                          bool at_start, bool special)
{
	struct hr__added_iter it;
	struct hr__span       span;
	char                 *normal;
	int                   rc = hr__normalize(t, &normal, &length, text, length);
	if (rc)
		return rc;
	text = normal ? normal : text;
	hr__added_begin(&it, t, &t->added[1], text, length, special);
	while (!rc && hr__added_next(&it, &span)) {
		const char *part = text + span.start;
		size_t      n = span.end - span.start;
		if (span.id >= 0)
			rc = hr__push_id(w, span.id);
		else if (t->vocab.kind == HR_TOKENIZER_BPE)
			rc = hr__bpe_encode(t, w, part, n);
		else if (t->vocab.kind == HR_TOKENIZER_WORDPIECE)
			rc = hr__wordpiece_encode(t, w, part, n);
		else
			rc = hr__spm_encode(t, w, part, n, at_start && span.start == 0);
	}
	free(normal);
	return rc;
}

static int encode_text(const struct hr_tokenizer *t, struct hr__work *w, const char *text, size_t length,
                       bool special)
{
	struct hr__added_iter it;
	struct hr__span       span;
	int                   rc = 0;
	hr__added_begin(&it, t, &t->added[0], text, length, special);
	while (!rc && hr__added_next(&it, &span))
		rc = span.id >= 0
		         ? hr__push_id(w, span.id)
		         : encode_stretch(t, w, text + span.start, span.end - span.start, span.start == 0, special);
	return rc;
}

int64_t hr_tokenizer_encode(const struct hr_tokenizer *t, const char *text, size_t length, bool add,
                            bool special, int32_t *ids, size_t capacity, struct hr_error *err)
{
	struct hr__work w = {.err = err};
	char           *repaired = NULL;
	int             rc = 0;
	if (length > MAX_TEXT_BYTES)
		return hr__fail(err, HR_EINVAL, "The text has %zu bytes; at most %u are tokenized at a time.", length,
		                MAX_TEXT_BYTES);
	if (!hr__utf8_is_valid(text, length)) {
		repaired = hr__utf8_repair(text, length, &length);
		if (!repaired)
			rc = HR_ENOMEM;
		text = repaired;
	}
	if (!rc && add && t->vocab.add_bos)
		rc = hr__push_id(&w, t->vocab.bos);
	if (!rc)
		rc = encode_text(t, &w, text, length, special);
	if (!rc && add && t->vocab.add_eos)
		rc = hr__push_id(&w, t->vocab.eos);
	if (!rc && w.n_ids && capacity)
		memcpy(ids, w.ids, (w.n_ids < capacity ? w.n_ids : capacity) * sizeof *ids);
	if (rc == HR_ENOMEM)
		hr__fail(err, rc, "Out of memory while tokenizing %zu bytes of text.", length);
	pcre2_match_data_free(w.match);
	free(w.ids);
	free(w.symbols);
	free(w.heap);
	free(w.best);
	free(w.spaced);
	free(repaired);
	return rc ? rc : (int64_t)w.n_ids;
}

int64_t hr_tokenizer_token_bytes(const struct hr_tokenizer *t, int32_t id, bool special, char *out,
                                 size_t capacity)
{
	if (id < 0 || id >= t->vocab.n_tokens)
		return HR_EINVAL;
	uint8_t type = t->vocab.types ? t->vocab.types[id] : HR_TOKEN_NORMAL;
	if (!special && (type == HR_TOKEN_CONTROL || type == HR_TOKEN_UNKNOWN))
		return 0;
	struct hr_string raw = t->raw[id];
	if (t->vocab.kind == HR_TOKENIZER_WORDPIECE) {
		bool inside = raw.length > 2 && !memcmp(raw.text, "##", 2);
		raw.text += inside ? 2 : 0;
		raw.length -= inside ? 2 : 0;
		if (!inside) { /* a word begins */
			if (capacity) {
				*out++ = ' ';
				memcpy(out, raw.text, raw.length < capacity - 1 ? raw.length : capacity - 1);
			}
			return (int64_t)raw.length + 1;
		}
	}
	if (capacity)
		memcpy(out, raw.text, raw.length < capacity ? raw.length : capacity);
	return (int64_t)raw.length;
}

bool hr_tokenizer_strips_first_space(const struct hr_tokenizer *t)
{
	bool pieces = t->vocab.kind == HR_TOKENIZER_SPM || t->vocab.kind == HR_TOKENIZER_UNIGRAM;
	return (pieces && t->vocab.add_space_prefix) || t->vocab.kind == HR_TOKENIZER_WORDPIECE;
}

const char *hr_tokenizer_kind_name(enum hr_tokenizer_kind kind)
{
	static const char *const names[] = {"bpe", "spm", "wordpiece", "unigram"};
	return names[kind];
}

bool hr_tokenizer_is_eog(const struct hr_tokenizer *t, int32_t id)
{
	bool is_eog = id >= 0 && id == t->vocab.eos;
	for (int32_t i = 0; i < t->vocab.n_eog; i++)
		is_eog |= t->vocab.eog[i] == id;
	return is_eog;
}
