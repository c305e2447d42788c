/* What an encoder's tokenizer.json says and no key of GGUF does, under keys of our own: how BERT's normaliser
 * treats text, or the steps of Unigram's, how two texts go together, how tokens that are split off first are
 * looked for. Other programs pass over them and take what most models have. One table serves writing and
 * reading. */
#include "runtime/format/vocab_own.h"

#include "base/error.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>

#define OWN_ADDED      "headrace.tokenizer.added"
#define OWN_STEPS      "headrace.tokenizer.steps"
#define OWN_STEP_TEXTS "headrace.tokenizer.step_texts" /* [2 * steps]: text, with */

enum { MAX_STEPS = 64 };

static const struct {
	const char *key;
	size_t      field;
	bool        is_bool; /* else int32_t */
} own[] = {
    {"headrace.tokenizer.clean_text", offsetof(struct hr_vocab, clean_text), true},
    {"headrace.tokenizer.split_ideographs", offsetof(struct hr_vocab, split_ideographs), true},
    {"headrace.tokenizer.strip_accents", offsetof(struct hr_vocab, strip_accents), true},
    {"headrace.tokenizer.max_word_chars", offsetof(struct hr_vocab, max_word_chars), false},
    {"headrace.tokenizer.pair_separators", offsetof(struct hr_vocab, pair_separators), false},
    {"headrace.tokenizer.use_unknown", offsetof(struct hr_vocab, use_unk), true},
    {"headrace.tokenizer.fuse_unknown", offsetof(struct hr_vocab, fuse_unk), true},
    {"headrace.tokenizer.byte_fallback", offsetof(struct hr_vocab, byte_fallback), true},
    {"headrace.tokenizer.metaspace", offsetof(struct hr_vocab, metaspace), true},
    {"headrace.tokenizer.prefix_first_only", offsetof(struct hr_vocab, prefix_first_only), true},
    {"headrace.tokenizer.split_at_spaces", offsetof(struct hr_vocab, split_at_spaces), true},
    {"headrace.tokenizer.split_whitespace", offsetof(struct hr_vocab, split_whitespace), true},
    {"headrace.tokenizer.pair_types", offsetof(struct hr_vocab, pair_types), true},
};

static void write_steps(struct hr_gguf_writer *w, const struct hr_vocab *v)
{
	hr_gguf_write_array(w, OWN_STEPS, HR_GGUF_U8, (uint64_t)v->n_steps);
	for (int32_t i = 0; i < v->n_steps; i++)
		hr_gguf_write_array_bytes(w, &(uint8_t){(uint8_t)v->steps[i].kind}, 1);
	hr_gguf_write_array(w, OWN_STEP_TEXTS, HR_GGUF_STRING, 2 * (uint64_t)v->n_steps);
	for (int32_t i = 0; i < v->n_steps; i++) {
		hr_gguf_write_array_string(w, v->steps[i].text.text, v->steps[i].text.length);
		hr_gguf_write_array_string(w, v->steps[i].with.text, v->steps[i].with.length);
	}
}

void hr__vocab_own_write(struct hr_gguf_writer *w, const struct hr_vocab *v, int32_t n_tokens)
{
	for (size_t i = 0; i < HR_COUNT_OF(own); i++) {
		const void *field = (const char *)v + own[i].field;
		if (own[i].is_bool)
			hr_gguf_write_bool(w, own[i].key, *(const bool *)field);
		else
			hr_gguf_write_u32(w, own[i].key, (uint32_t) * (const int32_t *)field);
	}
	if (v->kind == HR_TOKENIZER_UNIGRAM)
		write_steps(w, v);
	if (!v->added)
		return;
	hr_gguf_write_array(w, OWN_ADDED, HR_GGUF_U8, (uint64_t)n_tokens);
	for (int32_t i = 0; i < n_tokens; i++)
		hr_gguf_write_array_bytes(w, i < v->n_tokens ? &v->added[i] : &(uint8_t){0}, 1);
}

/* Takes a string out of an array, whose lengths were held against the file when it was read. */
static bool take_string(const uint8_t **at, struct hr_string *out)
{
	uint64_t length;
	memcpy(&length, *at, sizeof length);
	*out = (struct hr_string){malloc((size_t)length + 1), (size_t)length};
	if (!out->text)
		return false;
	memcpy(out->text, *at + sizeof length, (size_t)length);
	out->text[length] = 0;
	*at += sizeof length + length;
	return true;
}

bool hr__vocab_own_has_steps(const struct hr_gguf *g) { return hr_gguf_find(g, OWN_STEPS) != NULL; }

/* With them, scores that stand for none become none again. */
static int read_steps(struct hr_vocab *v, const struct hr_gguf *g, struct hr_error *err)
{
	const struct hr_gguf_kv *kinds, *strings;
	int                      rc = hr_gguf_get_array(g, OWN_STEPS, HR_GGUF_U8, &kinds, err);
	if (rc > 0)
		rc = hr_gguf_get_array(g, OWN_STEP_TEXTS, HR_GGUF_STRING, &strings, err);
	if (rc <= 0)
		return rc;
	if (v->kind != HR_TOKENIZER_UNIGRAM || kinds->n > MAX_STEPS || strings->n != 2 * kinds->n)
		return hr__fail(err, HR_EFORMAT, "%s: %s and %s do not fit together, or to the tokenizer.", g->path,
		                OWN_STEPS, OWN_STEP_TEXTS);
	v->steps = hr__calloc((size_t)kinds->n + 1, sizeof *v->steps);
	const uint8_t *at = strings->data;
	for (uint64_t i = 0; v->steps && i < kinds->n; i++) {
		struct hr_normal_step *s = &v->steps[v->n_steps++];
		if (kinds->data[i] > HR_NORMAL_PREPEND)
			return hr__fail(err, HR_EFORMAT, "%s: %s has a step of the kind %d, which is unknown.", g->path,
			                OWN_STEPS, kinds->data[i]);
		s->kind = kinds->data[i];
		if (!take_string(&at, &s->text) || !take_string(&at, &s->with))
			return hr__fail(err, HR_ENOMEM, "%s: there is no memory for the tokenizer.", g->path);
	}
	for (int32_t i = 0; v->scores && i < v->n_tokens; i++)
		if (v->scores[i] == HR_NO_PIECE)
			v->scores[i] = NAN;
	return v->steps ? 0 : hr__fail(err, HR_ENOMEM, "%s: there is no memory for the tokenizer.", g->path);
}

int hr__vocab_own_read(struct hr_vocab *v, const struct hr_gguf *g, struct hr_error *err)
{
	int rc = 0;
	for (size_t i = 0; i < HR_COUNT_OF(own) && rc >= 0; i++) {
		void *field = (char *)v + own[i].field;
		rc = own[i].is_bool ? hr_gguf_get_bool(g, own[i].key, field, err)
		                    : hr_gguf_get_i32(g, own[i].key, field, err);
	}
	const struct hr_gguf_kv *kv;
	if (rc >= 0)
		rc = read_steps(v, g, err);
	if (rc >= 0)
		rc = hr_gguf_get_array(g, OWN_ADDED, HR_GGUF_U8, &kv, err);
	if (rc <= 0)
		return rc;
	if (kv->n != (uint64_t)v->n_tokens)
		return hr__fail(err, HR_EFORMAT, "%s: %s is not as long as the vocabulary of %d tokens.", g->path,
		                OWN_ADDED, v->n_tokens);
	v->added = malloc((size_t)kv->n + 1);
	if (!v->added)
		return hr__fail(err, HR_ENOMEM, "%s: there is no memory for the tokenizer.", g->path);
	memcpy(v->added, kv->data, (size_t)kv->n);
	return 0;
}
