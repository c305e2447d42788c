/* What the two readers of a Hugging Face directory share. */
#ifndef HR_RUNTIME_VOCAB_HF_H
#define HR_RUNTIME_VOCAB_HF_H

#include "runtime/tokenizer/tokenizer.h"

#include <jansson.h>
#include <string.h>

/* The pipeline and the vocabulary of a parsed tokenizer.json; what is read stays in *v on failure. */
int hr__vocab_read_tokenizer_json(struct hr_vocab *v, const char *directory, const json_t *root,
                                  struct hr_error *err);

int32_t hr__vocab_find(const struct hr_vocab *v, const char *text, size_t length); /* -1: none */

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
