/* tokenizer.json as a vocabulary. The file describes a pipeline of parts that can
 * be combined freely; what is read here are the combinations that BPE models of the
 * llama, mistral and qwen lines, WordPiece models and Unigram models use. Any other part is refused by name:
 * a tokenizer that is nearly right is wrong. The vocabulary's inner consistency is checked later, by
 * hr_tokenizer_new(). */
#include "runtime/tokenizer/internal.h"

#include "base/error.h"
#include "base/mem.h"
#include "runtime/tokenizer/vocab_hf.h"

#include <math.h>
#include <stdio.h>

#define MAX_HOLES 65536 /* ids without a token */

int hr__reading_fail(const struct hr__reading *r, int code, const char *what)
{
	return hr__fail(r->err, code, "%s/tokenizer.json: %s", r->directory, what);
}

int hr__reading_fail_part(const struct hr__reading *r, const char *stage, const json_t *part,
                          const char *supported)
{
	const char *type = json_string_value(json_object_get(part, "type"));
	return hr__fail(
	    r->err, HR_EUNSUPPORTED,
	    "%s/tokenizer.json: the %s \"%.60s\" (with its options) is not supported; supported are %s.",
	    r->directory, stage, type ? type : "without a type", supported);
}

static bool is_empty_text(const json_t *v) { return !v || json_is_null(v) || !json_string_length(v); }

int hr__reading_copy(struct hr_string *out, const char *text, size_t length)
{
	out->text = malloc(length + 1);
	if (!out->text)
		return HR_ENOMEM;
	memcpy(out->text, text, length);
	out->text[length] = 0;
	out->length = length;
	return 0;
}

/* Each byte that could mean something is escaped. */
int hr__reading_copy_literal(struct hr_string *out, const char *text, size_t length)
{
	char  *escaped = malloc(length * 2 + 1);
	size_t n = 0;
	if (!escaped)
		return HR_ENOMEM;
	for (size_t i = 0; i < length; i++) {
		if (strchr("\\^$.|?*+()[]{}", text[i]) && text[i])
			escaped[n++] = '\\';
		escaped[n++] = text[i];
	}
	escaped[n] = 0;
	*out = (struct hr_string){escaped, n};
	return 0;
}

int hr__reading_list_parts(const json_t *part, const char *key, const json_t *parts[HR__MAX_PARTS])
{
	if (!part || json_is_null(part))
		return 0;
	if (!hr__json_is_type(part, "Sequence")) {
		parts[0] = part;
		return 1;
	}
	const json_t *list = json_object_get(part, key);
	size_t        n = json_array_size(list);
	for (size_t i = 0; i < n && i < HR__MAX_PARTS; i++)
		parts[i] = json_array_get(list, i);
	return n <= HR__MAX_PARTS ? (int)n : -1;
}

/* ---- The pipeline ---- */

/* Accents go where letters become small, unless the file says otherwise. */
static void read_bert_normalizer(struct hr__reading *r, const json_t *part)
{
	r->bert_normalizer = true;
	r->v->clean_text = hr__json_is_true_or(part, "clean_text", true);
	r->v->split_ideographs = hr__json_is_true_or(part, "handle_chinese_chars", true);
	r->v->lowercase = hr__json_is_true_or(part, "lowercase", true);
	r->v->strip_accents = hr__json_is_true_or(part, "strip_accents", r->v->lowercase);
}

static int read_normalizer(struct hr__reading *r, const json_t *root)
{
	static const char supported[] =
	    "NFC, Prepend and Replace (a space by U+2581), BertNormalizer, and Sequences of them";
	const json_t *parts[HR__MAX_PARTS], *whole = json_object_get(root, "normalizer");
	int           n = hr__reading_list_parts(whole, "normalizers", parts);
	if (n < 0)
		return hr__reading_fail_part(r, "normalizer", whole, supported);
	if (r->unigram)
		return hr__read_unigram_normalizer(r, root);
	for (int i = 0; i < n; i++) {
		const json_t *pattern = json_object_get(json_object_get(parts[i], "pattern"), "String");
		if (hr__json_is_type(parts[i], "BertNormalizer") && n == 1)
			read_bert_normalizer(r, parts[i]);
		else if (hr__json_is_type(parts[i], "NFC"))
			r->v->nfc = true;
		else if (hr__json_is_type(parts[i], "Prepend") && !r->replaces &&
		         hr__json_is_text(json_object_get(parts[i], "prepend"), HR_META_SPACE))
			r->prepends = true;
		else if (hr__json_is_type(parts[i], "Replace") && hr__json_is_text(pattern, " ") &&
		         hr__json_is_text(json_object_get(parts[i], "content"), HR_META_SPACE))
			r->replaces = true;
		else
			return hr__reading_fail_part(r, "normalizer", parts[i], supported);
	}
	return 0;
}

static int add_pattern(struct hr__reading *r, const char *text, size_t length)
{
	return hr__reading_copy(&r->v->patterns[r->v->n_patterns++], text, length);
}

static int read_split(struct hr__reading *r, const json_t *part, const char *supported)
{
	const json_t *pattern = json_object_get(part, "pattern"), *behavior = json_object_get(part, "behavior");
	const json_t *regex = json_object_get(pattern, "Regex"), *literal = json_object_get(pattern, "String");
	/* "Removed" with "invert" keeps the matches and drops what lies between them,
	 * which for the patterns in use is nothing. */
	bool keeps = hr__json_is_text(behavior, "Isolated") ||
	             (hr__json_is_text(behavior, "Removed") && hr__json_is_true_or(part, "invert", false));
	if (!keeps || (!json_is_string(regex) && !json_is_string(literal)))
		return hr__reading_fail_part(r, "pre-tokenizer", part, supported);
	return regex ? add_pattern(r, json_string_value(regex), json_string_length(regex))
	             : hr__reading_copy_literal(&r->v->patterns[r->v->n_patterns++], json_string_value(literal),
	                                        json_string_length(literal));
}

static int read_metaspace(struct hr__reading *r, const json_t *part, const char *supported)
{
	const json_t *scheme = json_object_get(part, "prepend_scheme");
	bool          prefix = hr__json_is_true_or(part, "add_prefix_space", true);
	if (!hr__json_is_text(json_object_get(part, "replacement"), HR_META_SPACE))
		return hr__reading_fail_part(r, "pre-tokenizer", part, supported);
	r->v->metaspace = true;
	r->v->prefix_first_only = hr__json_is_text(scheme, "first");
	r->v->add_space_prefix = json_is_string(scheme) ? !hr__json_is_text(scheme, "never") : prefix;
	r->v->split_at_spaces = hr__json_is_true_or(part, "split", true);
	return 0;
}

static int read_pre_tokenizer(struct hr__reading *r, const json_t *root)
{
	static const char supported[] =
	    "Split (isolated), Digits, ByteLevel (last, without a prefix space), "
	    "Metaspace (for Unigram behind WhitespaceSplit too) or BertPreTokenizer (alone), and "
	    "Sequences of them";
	const json_t *parts[HR__MAX_PARTS], *whole = json_object_get(root, "pre_tokenizer");
	int           n = hr__reading_list_parts(whole, "pretokenizers", parts), rc = 0;
	if (n < 0)
		return hr__reading_fail_part(r, "pre-tokenizer", whole, supported);
	r->v->patterns = hr__calloc(HR__MAX_PARTS, sizeof *r->v->patterns);
	if (!r->v->patterns)
		return HR_ENOMEM;
	for (int i = 0; i < n && !rc; i++) {
		if (hr__json_is_type(parts[i], "Split")) {
			rc = read_split(r, parts[i], supported);
		} else if (hr__json_is_type(parts[i], "Digits")) {
			rc = hr__json_is_true_or(parts[i], "individual_digits", false) ? add_pattern(r, "\\p{N}", 5)
			                                                               : add_pattern(r, "\\p{N}+", 6);
		} else if (hr__json_is_type(parts[i], "ByteLevel") && i == n - 1 &&
		           !hr__json_is_true_or(parts[i], "add_prefix_space", true)) {
			r->byte_level = true;
			if (hr__json_is_true_or(parts[i], "use_regex", true))
				rc = add_pattern(r, hr__pattern_gpt2, strlen(hr__pattern_gpt2));
		} else if (hr__json_is_type(parts[i], "BertPreTokenizer") && n == 1) {
			r->bert_words = true;
		} else if (hr__json_is_type(parts[i], "WhitespaceSplit") && r->unigram && i == 0) {
			r->v->split_whitespace = true;
		} else if (hr__json_is_type(parts[i], "Metaspace") && i == n - 1 && n == 1 + r->v->split_whitespace) {
			rc = read_metaspace(r, parts[i], supported);
		} else {
			rc = hr__reading_fail_part(r, "pre-tokenizer", parts[i], supported);
		}
	}
	return rc;
}

static int settle_kind(struct hr__reading *r)
{
	struct hr_vocab *v = r->v;
	if (r->unigram && !r->byte_level && !r->bert_words && !v->n_patterns && (r->replaces || v->metaspace)) {
		v->kind = HR_TOKENIZER_UNIGRAM;
		return 0;
	}
	if (r->unigram)
		return hr__reading_fail(
		    r, HR_EUNSUPPORTED,
		    "Unigram is supported where spaces become U+2581, by Metaspace or Replace, and "
		    "nothing else cuts the text.");
	if (r->bert_words && !r->prepends && !r->replaces && !v->nfc) {
		v->kind = HR_TOKENIZER_WORDPIECE;
		return 0;
	}
	if (r->bert_normalizer || r->bert_words)
		return hr__reading_fail(r, HR_EUNSUPPORTED,
		                        "its normalizer and pre-tokenizer are not both those of BERT.");
	v->kind = r->byte_level ? HR_TOKENIZER_BPE : HR_TOKENIZER_SPM;
	if (r->byte_level && !r->prepends && !r->replaces)
		return 0;
	if (r->byte_level || v->nfc || v->n_patterns || (!r->replaces && !v->metaspace))
		return hr__reading_fail(
		    r, HR_EUNSUPPORTED,
		    "its normalizer and pre-tokenizer are neither those of byte-level BPE (ByteLevel) nor those of "
		    "SentencePiece (U+2581 for spaces).");
	if (r->prepends && v->metaspace)
		return hr__reading_fail(r, HR_EUNSUPPORTED,
		                        "it puts a space in front of text twice (Prepend and Metaspace).");
	v->add_space_prefix = v->add_space_prefix || r->prepends;
	return 0;
}

/* ---- The model ---- */

int32_t hr__vocab_find(const struct hr_vocab *v, const char *text, size_t length)
{
	for (int32_t i = 0; text && length && i < v->n_tokens; i++)
		if (v->tokens[i].length == length && !memcmp(v->tokens[i].text, text, length))
			return i;
	return -1;
}

static int set_token(struct hr__reading *r, const char *text, size_t length, const json_t *id,
                     bool may_be_there)
{
	json_int_t i = json_is_integer(id) ? json_integer_value(id) : -1;
	if (i < 0 || i >= r->v->n_tokens)
		return hr__fail(r->err, HR_EFORMAT, "%s/tokenizer.json: the token \"%.60s\" has no usable id (%lld).",
		                r->directory, text, (long long)i);
	struct hr_string *s = &r->v->tokens[i];
	if (s->text && may_be_there && s->length == length && !memcmp(s->text, text, length))
		return 0;
	if (s->text)
		return hr__fail(r->err, HR_EFORMAT,
		                "%s/tokenizer.json: the id %lld belongs to both \"%.60s\" and \"%.60s\".",
		                r->directory, (long long)i, s->text, text);
	return hr__reading_copy(s, text, length);
}

/* One more than the largest id. */
static int count_tokens(struct hr__reading *r, const json_t *vocab, const json_t *added)
{
	size_t      n = json_object_size(vocab) + json_array_size(vocab) + json_array_size(added), i;
	json_int_t  largest = (json_int_t)json_array_size(vocab) - 1;
	const char *key;
	json_t     *value;
	json_object_foreach((json_t *)vocab, key, value)
	{
		if (json_integer_value(value) > largest)
			largest = json_integer_value(value);
	}
	json_array_foreach(added, i, value)
	{
		if (json_integer_value(json_object_get(value, "id")) > largest)
			largest = json_integer_value(json_object_get(value, "id"));
	}
	if (n == 0 || largest < 0)
		return hr__reading_fail(r, HR_EFORMAT, "its vocabulary is empty.");
	if (largest >= INT32_MAX || (size_t)largest >= n + MAX_HOLES)
		return hr__fail(r->err, HR_EFORMAT, "%s/tokenizer.json: the id %lld is out of range for %zu tokens.",
		                r->directory, (long long)largest, n);
	r->v->n_tokens = (int32_t)largest + 1;
	return 0;
}

static int read_added(struct hr__reading *r, const json_t *added)
{
	static const struct {
		const char *key;
		uint8_t     flag;
	} flags[] = {{"lstrip", HR_ADDED_LSTRIP},
	             {"rstrip", HR_ADDED_RSTRIP},
	             {"single_word", HR_ADDED_SINGLE_WORD},
	             {"normalized", HR_ADDED_NORMALIZED}};
	size_t  i;
	json_t *token;
	json_array_foreach(added, i, token)
	{
		const json_t *content = json_object_get(token, "content"), *id = json_object_get(token, "id");
		if (!json_is_string(content))
			return hr__reading_fail(r, HR_EFORMAT, "an added token has no content.");
		int rc = set_token(r, json_string_value(content), json_string_length(content), id, true);
		if (rc)
			return rc;
		json_int_t k = json_integer_value(id);
		bool       special = hr__json_is_true_or(token, "special", false);
		r->v->types[k] = special ? HR_TOKEN_CONTROL : HR_TOKEN_USER_DEFINED;
		for (size_t f = 0; f < HR_COUNT_OF(flags); f++)
			if (hr__json_is_true_or(token, flags[f].key, flags[f].flag == HR_ADDED_NORMALIZED && !special))
				r->v->added[k] |= flags[f].flag;
	}
	return 0;
}

/* A score as the `tokenizers` library reads it: the digits as one number, scaled by a power of ten, which may
 * miss the nearest double by a last bit. That bit decides where pieces tie, as in a row of dashes. */
static double read_score(const json_t *number)
{
	char     text[40];
	double   exact = json_number_value(number), scale = 1;
	uint64_t digits = 0;
	for (int n = 0; n < 17; n++) { /* the shortest spelling that means it: what the library writes */
		snprintf(text, sizeof text, "%.*e", n, exact);
		if (strtod(text, NULL) == exact)
			break;
	}
	const char *e = strchr(text, 'e');
	int         exponent = e ? atoi(e + 1) : 0;
	bool        fraction = false;
	for (const char *c = text; e && c < e; c++) {
		fraction |= *c == '.';
		if (*c < '0' || *c > '9')
			continue;
		digits = digits * 10 + (uint64_t)(*c - '0');
		exponent -= fraction;
	}
	if (!e || exponent < -22 || exponent > 0)
		return exact;
	while (exponent++ < 0)
		scale *= 10;
	return copysign((double)digits / scale, exact);
}

/* Unigram's vocabulary: [["piece", score], ...], by ids. */
static int read_scored_pieces(struct hr__reading *r, const json_t *vocab)
{
	size_t  i;
	json_t *piece;
	r->v->scores = hr__calloc((size_t)r->v->n_tokens, sizeof *r->v->scores);
	if (!r->v->scores)
		return HR_ENOMEM;
	for (int32_t k = 0; k < r->v->n_tokens; k++)
		r->v->scores[k] = NAN; /* added tokens are no pieces */
	json_array_foreach(vocab, i, piece)
	{
		const json_t *text = json_array_get(piece, 0), *score = json_array_get(piece, 1);
		if (!json_is_string(text) || !json_is_number(score))
			return hr__fail(r->err, HR_EFORMAT, "%s/tokenizer.json: piece %zu is not a text and a score.",
			                r->directory, i);
		r->v->scores[i] = read_score(score);
		int rc = hr__reading_copy(&r->v->tokens[i], json_string_value(text), json_string_length(text));
		if (rc)
			return rc;
	}
	return 0;
}

static int read_tokens(struct hr__reading *r, const json_t *model, const json_t *root)
{
	struct hr_vocab *v = r->v;
	const json_t    *vocab = json_object_get(model, "vocab"), *added = json_object_get(root, "added_tokens");
	const char      *key;
	json_t          *id;
	int              rc = count_tokens(r, vocab, added);
	if (rc)
		return rc;
	v->tokens = hr__calloc((size_t)v->n_tokens, sizeof *v->tokens);
	v->types = malloc((size_t)v->n_tokens);
	v->added = hr__calloc((size_t)v->n_tokens, 1);
	if (!v->tokens || !v->types || !v->added)
		return HR_ENOMEM;
	memset(v->types, HR_TOKEN_NORMAL, (size_t)v->n_tokens);
	json_object_foreach((json_t *)vocab, key, id)
	{
		rc = rc ? rc : set_token(r, key, strlen(key), id, false);
	}
	rc = rc || !r->unigram ? rc : read_scored_pieces(r, vocab);
	rc = rc ? rc : read_added(r, added);
	for (int32_t i = 0; i < v->n_tokens && !rc; i++) {
		struct hr_string *s = &v->tokens[i];
		if (!s->text) { /* a hole in the numbering */
			v->types[i] = HR_TOKEN_UNUSED;
			rc = hr__reading_copy(s, "", 0);
		} else if (v->byte_fallback && v->types[i] == HR_TOKEN_NORMAL && s->length == 6 &&
		           !memcmp(s->text, "<0x", 3) && s->text[5] == '>' &&
		           strspn(s->text + 3, "0123456789ABCDEF") == 2) {
			v->types[i] = HR_TOKEN_BYTE;
		}
	}
	return rc;
}

/* Merges are "left right", or since 2024 ["left", "right"]. */
static int read_merge(struct hr_string *out, const json_t *m)
{
	const json_t *a = json_array_get(m, 0), *b = json_array_get(m, 1);
	const char   *left = json_string_value(a), *right = json_string_value(b);
	size_t        n_left = json_string_length(a), n_right = json_string_length(b);
	if (json_is_string(m))
		return hr__reading_copy(out, json_string_value(m), json_string_length(m));
	if (json_array_size(m) != 2 || !n_left || !n_right || memchr(left, ' ', n_left) ||
	    memchr(right, ' ', n_right))
		return HR_EFORMAT;
	out->text = malloc(n_left + n_right + 2);
	if (!out->text)
		return HR_ENOMEM;
	out->length = n_left + 1 + n_right;
	memcpy(out->text, left, n_left);
	out->text[n_left] = ' ';
	memcpy(out->text + n_left + 1, right, n_right + 1);
	return 0;
}

static int read_merges(struct hr__reading *r, const json_t *model)
{
	const json_t *merges = json_object_get(model, "merges");
	size_t        n = json_array_size(merges), i;
	json_t       *m;
	if (!json_is_array(merges) || n >= INT32_MAX)
		return hr__reading_fail(r, HR_EFORMAT, "its model has no list of merges.");
	r->v->merges = hr__calloc(n, sizeof *r->v->merges);
	if (!r->v->merges)
		return HR_ENOMEM;
	r->v->n_merges = (int32_t)n;
	json_array_foreach(merges, i, m)
	{
		int rc = read_merge(&r->v->merges[i], m);
		if (rc == HR_EFORMAT)
			return hr__fail(r->err, HR_EFORMAT,
			                "%s/tokenizer.json: merge %zu is not two pieces without spaces.", r->directory,
			                i);
		if (rc)
			return rc;
	}
	return 0;
}

static int find_unknown(struct hr__reading *r, const json_t *unk)
{
	if (!r->v->use_unk)
		return 0;
	r->v->unk = hr__vocab_find(r->v, json_string_value(unk), json_string_length(unk));
	if (r->v->unk < 0)
		return hr__fail(r->err, HR_EFORMAT,
		                "%s/tokenizer.json: the unknown token \"%.60s\" is not in the vocabulary.",
		                r->directory, json_string_value(unk));
	return 0;
}

static int read_wordpiece(struct hr__reading *r, const json_t *model, const json_t *root)
{
	const json_t *prefix = json_object_get(model, "continuing_subword_prefix");
	const json_t *longest = json_object_get(model, "max_input_chars_per_word"),
	             *unk = json_object_get(model, "unk_token");
	json_int_t chars = json_is_integer(longest) ? json_integer_value(longest) : 100;
	if (!hr__json_is_text(prefix, "##"))
		return hr__reading_fail(r, HR_EUNSUPPORTED,
		                        "WordPiece with another prefix than ## inside of words is not supported.");
	if (!json_is_string(unk) || chars < 1 || chars > INT32_MAX)
		return hr__reading_fail(r, HR_EFORMAT,
		                        "its WordPiece model names no unknown token, or no length of a word.");
	r->v->use_unk = true;
	r->v->max_word_chars = (int32_t)chars;
	int rc = read_tokens(r, model, root);
	return rc ? rc : find_unknown(r, unk);
}

static int read_unigram(struct hr__reading *r, const json_t *model, const json_t *root)
{
	const json_t *unk = json_object_get(model, "unk_id");
	if (!json_is_array(json_object_get(model, "vocab")))
		return hr__reading_fail(r, HR_EFORMAT, "its Unigram model has no list of pieces.");
	r->v->byte_fallback = hr__json_is_true_or(model, "byte_fallback", false);
	int rc = read_tokens(r, model, root);
	if (rc)
		return rc;
	json_int_t id = json_is_integer(unk) ? json_integer_value(unk) : -1;
	if (id < 0 || id >= r->v->n_tokens)
		return hr__reading_fail(r, HR_EFORMAT,
		                        "its Unigram model names no unknown token that is in the vocabulary.");
	r->v->unk = (int32_t)id;
	return 0;
}

static int read_model(struct hr__reading *r, const json_t *root)
{
	const json_t *model = json_object_get(root, "model"), *unk = json_object_get(model, "unk_token");
	const json_t *type = json_object_get(model, "type"), *dropout = json_object_get(model, "dropout");
	if (!json_is_object(model))
		return hr__reading_fail(r, HR_EFORMAT, "it has no model.");
	if (r->unigram)
		return read_unigram(r, model, root);
	bool wordpiece = r->v->kind == HR_TOKENIZER_WORDPIECE;
	if (wordpiece ? !hr__json_is_text(type, "WordPiece") : type && !hr__json_is_text(type, "BPE"))
		return hr__fail(
		    r->err, HR_EUNSUPPORTED,
		    "%s/tokenizer.json: the model type \"%.60s\" is not supported; supported are BPE, Unigram, and "
		    "WordPiece where text is split as BERT does.",
		    r->directory, json_is_string(type) ? json_string_value(type) : "?");
	if (wordpiece)
		return read_wordpiece(r, model, root);
	if (!is_empty_text(json_object_get(model, "continuing_subword_prefix")) ||
	    !is_empty_text(json_object_get(model, "end_of_word_suffix")) || json_number_value(dropout) != 0)
		return hr__reading_fail(r, HR_EUNSUPPORTED,
		                        "BPE with subword prefixes, word suffixes or dropout is not supported.");
	r->v->byte_fallback = hr__json_is_true_or(model, "byte_fallback", false);
	r->v->fuse_unk = hr__json_is_true_or(model, "fuse_unk", false);
	r->v->ignore_merges = hr__json_is_true_or(model, "ignore_merges", false);
	r->v->use_unk = json_is_string(unk);
	int rc = read_tokens(r, model, root);
	rc = rc ? rc : read_merges(r, model);
	return rc ? rc : find_unknown(r, unk);
}

/* What a template puts around a text: at most one token on each side. */
static int read_template(struct hr__reading *r, const json_t *template)
{
	static const char supported[] = "ByteLevel, and TemplateProcessing with at most one token on each side";
	const json_t     *single = json_object_get(template, "single");
	bool              behind = false;
	size_t            i;
	json_t           *item;
	json_array_foreach(single, i, item)
	{
		const json_t *name = json_object_get(json_object_get(item, "SpecialToken"), "id");
		if (!json_is_string(name)) {
			behind = true;
			continue;
		}
		const json_t *special =
		    json_object_get(json_object_get(template, "special_tokens"), json_string_value(name));
		const json_t *ids = json_object_get(special, "ids");
		json_int_t    id = json_array_size(ids) == 1 ? json_integer_value(json_array_get(ids, 0)) : -1;
		bool         *add = behind ? &r->v->add_eos : &r->v->add_bos;
		if (id < 0 || id >= r->v->n_tokens || *add)
			return hr__reading_fail_part(r, "post-processor", template, supported);
		*add = true;
		*(behind ? &r->v->eos : &r->v->bos) = (int32_t)id;
	}
	return 0;
}

/* What a template makes of two texts: BOS a, one or two EOS, b EOS; anything else is left for the caller
 * of a pair to be refused. */
static void read_pair_template(struct hr__reading *r, const json_t *template)
{
	struct hr_vocab *v = r->v;
	int              n_sequences = 0, separators = 0;
	json_int_t       type_of_second = 0;
	size_t           i;
	json_t          *item;
	json_array_foreach(json_object_get(template, "pair"), i, item)
	{
		const json_t *sequence = json_object_get(item, "Sequence");
		if (sequence && ++n_sequences == 2)
			type_of_second = json_integer_value(json_object_get(sequence, "type_id"));
		separators += !sequence && n_sequences == 1;
	}
	if (n_sequences == 2 && v->add_bos && v->add_eos && separators >= 1 && separators <= 2) {
		v->pair_separators = separators;
		v->pair_types = type_of_second == 1;
	}
}

/* BertProcessing and RobertaProcessing name the two tokens: ["[CLS]", 101]. */
static int read_bert_processing(struct hr__reading *r, const json_t *part, int separators)
{
	const json_t *cls_id = json_array_get(json_object_get(part, "cls"), 1);
	const json_t *sep_id = json_array_get(json_object_get(part, "sep"), 1);
	json_int_t    cls = json_is_integer(cls_id) ? json_integer_value(cls_id) : -1;
	json_int_t    sep = json_is_integer(sep_id) ? json_integer_value(sep_id) : -1;
	if (cls < 0 || cls >= r->v->n_tokens || sep < 0 || sep >= r->v->n_tokens)
		return hr__reading_fail(r, HR_EFORMAT,
		                        "its post-processor names tokens that are not in the vocabulary.");
	r->v->bos = (int32_t)cls;
	r->v->eos = (int32_t)sep;
	r->v->add_bos = r->v->add_eos = true;
	r->v->pair_separators = separators;
	r->v->pair_types = separators == 1;
	return 0;
}

static int read_post_processor(struct hr__reading *r, const json_t *root)
{
	static const char supported[] =
	    "ByteLevel, TemplateProcessing, BertProcessing, RobertaProcessing, and Sequences of them";
	const json_t *parts[HR__MAX_PARTS], *whole = json_object_get(root, "post_processor");
	int           n = hr__reading_list_parts(whole, "processors", parts), rc = 0;
	if (n < 0)
		return hr__reading_fail_part(r, "post-processor", whole, supported);
	for (int i = 0; i < n && !rc; i++) {
		if (hr__json_is_type(parts[i], "TemplateProcessing")) {
			rc = read_template(r, parts[i]);
			read_pair_template(r, parts[i]);
		} else if (hr__json_is_type(parts[i], "BertProcessing"))
			rc = read_bert_processing(r, parts[i], 1);
		else if (hr__json_is_type(parts[i], "RobertaProcessing"))
			rc = read_bert_processing(r, parts[i], 2);
		else if (!hr__json_is_type(parts[i], "ByteLevel"))
			rc = hr__reading_fail_part(r, "post-processor", parts[i], supported);
	}
	return rc;
}

int hr__vocab_read_tokenizer_json(struct hr_vocab *v, const char *directory, const json_t *root,
                                  struct hr_error *err)
{
	struct hr__reading r = {.v = v, .directory = directory, .err = err};
	r.unigram = hr__json_is_type(json_object_get(root, "model"), "Unigram");
	int rc = read_normalizer(&r, root);
	rc = rc ? rc : read_pre_tokenizer(&r, root);
	rc = rc ? rc : settle_kind(&r);
	rc = rc ? rc : read_model(&r, root);
	return rc ? rc : read_post_processor(&r, root);
}
