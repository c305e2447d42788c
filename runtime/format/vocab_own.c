/* What an encoder's tokenizer.json says and no key of GGUF does, under keys of our own: how BERT's normaliser
 * treats text, how two texts go together, how tokens that are split off first are looked for. Other programs
 * pass over them and take what most models have. One table serves writing and reading. */
#include "runtime/format/vocab_own.h"

#include "base/error.h"
#include "base/mem.h"

#include <stdlib.h>

#define OWN_ADDED "headrace.tokenizer.added"

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
    {"headrace.tokenizer.pair_types", offsetof(struct hr_vocab, pair_types), true},
};

void hr__vocab_own_write(struct hr_gguf_writer *w, const struct hr_vocab *v, int32_t n_tokens)
{
	for (size_t i = 0; i < HR_COUNT_OF(own); i++) {
		const void *field = (const char *)v + own[i].field;
		if (own[i].is_bool)
			hr_gguf_write_bool(w, own[i].key, *(const bool *)field);
		else
			hr_gguf_write_u32(w, own[i].key, (uint32_t) * (const int32_t *)field);
	}
	if (!v->added)
		return;
	hr_gguf_write_array(w, OWN_ADDED, HR_GGUF_U8, (uint64_t)n_tokens);
	for (int32_t i = 0; i < n_tokens; i++)
		hr_gguf_write_array_bytes(w, i < v->n_tokens ? &v->added[i] : &(uint8_t){0}, 1);
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
