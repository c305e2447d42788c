/* What the two readers of a Hugging Face directory share. */
#ifndef HR_RUNTIME_VOCAB_HF_H
#define HR_RUNTIME_VOCAB_HF_H

#include "runtime/tokenizer/tokenizer.h"

#include <jansson.h>
#include <string.h>

#define HR_META_SPACE "\xe2\x96\x81" /* U+2581 */

/* A tokenizer.json that is being read. */
struct hr__reading {
	struct hr_vocab *v;
	const char      *directory;
	struct hr_error *err;
	bool             unigram, byte_level, prepends, replaces, bert_normalizer, bert_words; /* parts seen */
};

enum { HR__MAX_PARTS = 16 };

int hr__reading_fail(const struct hr__reading *r, int code, const char *what);
int hr__reading_fail_part(const struct hr__reading *r, const char *stage, const json_t *part,
                          const char *supported);
/* Give *parts the members of a Sequence (under `key`), or the part itself; null has none. -1: too many. */
int hr__reading_list_parts(const json_t *part, const char *key, const json_t *parts[HR__MAX_PARTS]);
int hr__reading_copy(struct hr_string *out, const char *text, size_t length);
/* A literal text as a regular expression; of its memory, HR_ENOMEM. */
int hr__reading_copy_literal(struct hr_string *out, const char *text, size_t length);

/* normalizer_json.c: the normalizer of a Unigram tokenizer. */
int hr__read_unigram_normalizer(struct hr__reading *r, const json_t *root);

/* The pipeline and the vocabulary of a parsed tokenizer.json; what is read stays in *v on failure. */
int hr__vocab_read_tokenizer_json(struct hr_vocab *v, const char *directory, const json_t *root,
                                  struct hr_error *err);

int32_t hr__vocab_find(const struct hr_vocab *v, const char *text, size_t length); /* -1: none */

static inline bool hr__json_is_type(const json_t *part, const char *type)
{
	const char *t = json_string_value(json_object_get(part, "type"));
	return t && !strcmp(t, type);
}

static inline bool hr__json_is_true_or(const json_t *object, const char *key, bool absent)
{
	const json_t *v = json_object_get(object, key);
	return v && !json_is_null(v) ? json_is_true(v) : absent;
}

static inline bool hr__json_is_text(const json_t *v, const char *text)
{
	return json_is_string(v) && json_string_length(v) == strlen(text) && !strcmp(json_string_value(v), text);
}

#endif
