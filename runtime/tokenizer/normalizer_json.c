/* The normalizer of a Unigram tokenizer.json as a list of steps. SentencePiece's table stands
 * there in base64. */
#include "runtime/tokenizer/vocab_hf.h"

#include "base/error.h"
#include "base/mem.h"

static int value_of(char c)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char       *at = c ? strchr(alphabet, c) : NULL;
	return at ? (int)(at - alphabet) : -1;
}

/* HR_EFORMAT: not base64. */
static int decode_base64(struct hr_string *out, const char *text, size_t length)
{
	out->text = malloc(length / 4 * 3 + 1);
	if (!out->text)
		return HR_ENOMEM;
	out->length = 0;
	if (length % 4)
		return HR_EFORMAT;
	for (size_t i = 0; i < length; i += 4) {
		size_t   n = i + 4 < length || text[i + 3] != '=' ? 4 : text[i + 2] != '=' ? 3 : 2;
		uint32_t bits = 0;
		for (size_t k = 0; k < 4; k++) {
			int value = k < n ? value_of(text[i + k]) : 0;
			if (value < 0)
				return HR_EFORMAT;
			bits = bits << 6 | (uint32_t)value;
		}
		for (size_t k = 0; k + 1 < n; k++)
			out->text[out->length++] = (char)(bits >> (16 - 8 * k));
	}
	return 0;
}

static struct hr_normal_step *add_step(struct hr__reading *r, int kind)
{
	struct hr_normal_step *s = &r->v->steps[r->v->n_steps++];
	s->kind = kind;
	return s;
}

static int add_charsmap(struct hr__reading *r, const json_t *part, const char *supported)
{
	const json_t *map = json_object_get(part, "precompiled_charsmap");
	if (!json_is_string(map))
		return hr__reading_fail_part(r, "normalizer", part, supported);
	if (!json_string_length(map))
		return 0;
	int rc = decode_base64(&add_step(r, HR_NORMAL_CHARSMAP)->text, json_string_value(map),
	                       json_string_length(map));
	return rc == HR_EFORMAT ? hr__reading_fail(r, rc, "its \"precompiled_charsmap\" is not base64.") : rc;
}

static int add_replace(struct hr__reading *r, const json_t *part, const char *supported)
{
	const json_t *pattern = json_object_get(part, "pattern"), *content = json_object_get(part, "content");
	const json_t *regex = json_object_get(pattern, "Regex"), *literal = json_object_get(pattern, "String");
	if (!json_is_string(content) || (!json_is_string(regex) && !json_is_string(literal)))
		return hr__reading_fail_part(r, "normalizer", part, supported);
	struct hr_normal_step *s = add_step(r, HR_NORMAL_REPLACE);
	r->replaces |= hr__json_is_text(literal, " ") && hr__json_is_text(content, HR_META_SPACE);
	int rc = hr__reading_copy(&s->with, json_string_value(content), json_string_length(content));
	if (rc)
		return rc;
	return regex
	           ? hr__reading_copy(&s->text, json_string_value(regex), json_string_length(regex))
	           : hr__reading_copy_literal(&s->text, json_string_value(literal), json_string_length(literal));
}

static int read_part(struct hr__reading *r, const json_t *part)
{
	static const char supported[] =
	    "Precompiled, NFC, NFD, NFKC, NFKD, StripAccents, Lowercase, Strip, Replace, "
	    "Prepend, and Sequences of them";
	static const struct {
		const char *type;
		int         kind;
	} plain[] = {{"NFC", HR_NORMAL_NFC},
	             {"NFD", HR_NORMAL_NFD},
	             {"NFKC", HR_NORMAL_NFKC},
	             {"NFKD", HR_NORMAL_NFKD},
	             {"Lowercase", HR_NORMAL_LOWERCASE},
	             {"StripAccents", HR_NORMAL_STRIP_ACCENTS}};
	const json_t *text = json_object_get(part, "prepend");
	for (size_t i = 0; i < HR_COUNT_OF(plain); i++)
		if (hr__json_is_type(part, plain[i].type)) {
			add_step(r, plain[i].kind);
			return 0;
		}
	if (hr__json_is_type(part, "Strip")) {
		if (hr__json_is_true_or(part, "strip_left", true))
			add_step(r, HR_NORMAL_STRIP_LEFT);
		if (hr__json_is_true_or(part, "strip_right", true))
			add_step(r, HR_NORMAL_STRIP_RIGHT);
		return 0;
	}
	if (hr__json_is_type(part, "Prepend") && json_is_string(text))
		return hr__reading_copy(&add_step(r, HR_NORMAL_PREPEND)->text, json_string_value(text),
		                        json_string_length(text));
	if (hr__json_is_type(part, "Precompiled"))
		return add_charsmap(r, part, supported);
	if (hr__json_is_type(part, "Replace"))
		return add_replace(r, part, supported);
	return hr__reading_fail_part(r, "normalizer", part, supported);
}

static int read_parts(struct hr__reading *r, const json_t *whole)
{
	const json_t *parts[HR__MAX_PARTS];
	int           n = hr__reading_list_parts(whole, "normalizers", parts), rc = 0;
	if (n < 0)
		return hr__reading_fail(r, HR_EUNSUPPORTED, "its normalizer has too many parts.");
	for (int i = 0; i < n && !rc; i++)
		rc = read_part(r, parts[i]);
	return rc;
}

int hr__read_unigram_normalizer(struct hr__reading *r, const json_t *root)
{
	r->v->steps = hr__calloc(2 * HR__MAX_PARTS, sizeof *r->v->steps); /* Strip makes two */
	return r->v->steps ? read_parts(r, json_object_get(root, "normalizer")) : HR_ENOMEM;
}
