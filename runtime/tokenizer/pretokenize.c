/* Cutting text into pre-tokens with the regular expressions that each model was
 * trained with (PCRE2, with its JIT where the machine has one).
 *
 * Patterns are applied in order: the first cuts the text into its matches and what
 * lies between them, the next cuts each of those, seeing nothing beyond it. They
 * are written for Oniguruma, whose reading differs from PCRE2's in three points,
 * which translate() settles: \s is Unicode's White_Space (PCRE2 has U+180E too),
 * $ and ^ match at every line, and a [ or && inside a class has a meaning that
 * PCRE2 lacks, so such a pattern is refused. Matching is bounded: a pattern that
 * needs unreasonably many steps is an error, never an endless loop. */
#include "runtime/tokenizer/internal.h"

#include "base/error.h"
#include "base/mem.h"

#include <stdio.h>

#define MAX_PATTERNS 8

/* ---- The patterns that GGUF knows by name ---- */

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define OTHERS       "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define UPPER        "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER        "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define BEFORE_WORD  "[^\\r\\n\\p{L}\\p{N}]?"
#define OTHERS_SLASH "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define GPT2         "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define LLAMA3       CONTRACTIONS "|" BEFORE_WORD "\\p{L}+|\\p{N}{1,3}" OTHERS
#define QWEN2        CONTRACTIONS "|" BEFORE_WORD "\\p{L}+|\\p{N}" OTHERS
#define TEKKEN       BEFORE_WORD UPPER "*" LOWER "+|" BEFORE_WORD UPPER "+" LOWER "*|\\p{N}" OTHERS_SLASH
#define GPT4O                                                                                                \
	BEFORE_WORD UPPER "*" LOWER "+" CONTRACTIONS "?|" BEFORE_WORD UPPER "+" LOWER "*" CONTRACTIONS           \
	                  "?|\\p{N}{1,3}" OTHERS_SLASH
#define HAN "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"

/* The cased letters that DeepSeek spells out. */
static const char deepseek_word[] =
    "\\s?["
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}\\x{1c4}-\\x{293}"
    "\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-"
    "\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-"
    "\\x{556}\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-"
    "\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}\\x{1f18}-"
    "\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}\\x{1f5d}"
    "\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}\\x{1fc6}-"
    "\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-"
    "\\x{1ffc}\\x{2102}\\x{2107}\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}"
    "\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}"
    "\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}\\x{2cf2}"
    "\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}\\x{a771}-\\x{a787}\\x{a78b}-"
    "\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-"
    "\\x{ff5a}\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}"
    "\\x{10cc0}-\\x{10cf2}\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"
    "]+";

const char hr__pattern_gpt2[] = GPT2;

static const struct named {
	const char *names; /* separated by spaces, first the usual one */
	bool        nfc, ignore_merges;
	const char *patterns[MAX_PATTERNS];
} named[] = {
    {"gpt-2 roberta-bpe phi-2 olmo jais mpt exaone4", false, false, {GPT2}},
    {"llama-bpe llama3 llama-v3 falcon3 lfm2", false, true, {LLAMA3}},
    {"smaug-bpe dbrx", false, false, {LLAMA3}},
    {"smollm starcoder refact command-r codeshell exaone minerva-7b", false, false, {"\\p{N}", GPT2}},
    {"qwen2 deepseek-r1-qwen megrez", true, false, {QWEN2}},
    {"tekken", false, true, {TEKKEN}},
    {"gpt-4o llama4", false, false, {GPT4O}},
    {"deepseek-llm",
     false,
     false,
     {"[\\r\\n]", deepseek_word,
      "\\s?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+", "\\s+$",
      HAN, "\\p{N}"}},
    {"deepseek-coder", false, false, {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", HAN, "\\p{N}"}},
    {"falcon", false, false, {"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]"}},
    {"default", false, false, {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
};

static bool has_name(const char *names, const char *name)
{
	size_t n = strlen(name);
	for (const char *p = names; (p = strstr(p, name)); p += n)
		if ((p == names || p[-1] == ' ') && (p[n] == ' ' || !p[n]))
			return n > 0;
	return false;
}

static const struct named *find_named(const char *name)
{
	for (size_t i = 0; i < HR_COUNT_OF(named); i++)
		if (has_name(named[i].names, name))
			return &named[i];
	return NULL;
}

static bool cuts_alike(const struct named *row, const struct hr_vocab *v)
{
	bool alike =
	    v->n_patterns <= MAX_PATTERNS && (v->n_patterns == MAX_PATTERNS || !row->patterns[v->n_patterns]);
	for (int32_t i = 0; i < v->n_patterns && alike; i++)
		alike = row->patterns[i] && strlen(row->patterns[i]) == v->patterns[i].length &&
		        !memcmp(row->patterns[i], v->patterns[i].text, v->patterns[i].length);
	return alike;
}

static int differences(const struct named *row, const struct hr_vocab *v)
{
	return 2 * (row->ignore_merges != v->ignore_merges) + (row->nfc != v->nfc);
}

bool hr__pretokenizer_name(const struct hr_vocab *v, char name[32], bool *exact)
{
	const struct named *found = NULL;
	if (v->pre) {
		snprintf(name, 32, "%s", v->pre);
		return *exact = true;
	}
	for (size_t i = 0; i < HR_COUNT_OF(named); i++)
		if (cuts_alike(&named[i], v) && (!found || differences(&named[i], v) < differences(found, v)))
			found = &named[i];
	if (!found)
		return false;
	snprintf(name, 32, "%.*s", (int)strcspn(found->names, " "), found->names);
	*exact = differences(found, v) == 0;
	return true;
}

static int fail_unknown(const char *name, struct hr_error *err)
{
	char   list[600];
	size_t n = 0;
	for (size_t i = 0; i < HR_COUNT_OF(named) && n < sizeof list; i++)
		n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? " " : "", named[i].names);
	if (!name)
		return hr__fail(
		    err, HR_EUNSUPPORTED,
		    "The tokenizer does not name its pre-tokenizer (tokenizer.ggml.pre), which decides how text "
		    "is cut: convert the model again; supported are: %s.",
		    list);
	return hr__fail(err, HR_EUNSUPPORTED,
	                "The tokenizer wants the pre-tokenizer \"%.60s\"; supported are: %s.", name, list);
}

/* ---- Compiling ---- */

struct hr__pretokenizer {
	pcre2_code *codes[MAX_PATTERNS];
	int         n;
};

/* Oniguruma's spelling -> PCRE2's. out has room for 128 bytes per byte. */
static int translate(char *out, size_t *n_out, const char *pattern, size_t length)
{
	static const char white[] =
	    "\\x{09}-\\x{0d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}"
	    "\\x{202f}\\x{205f}\\x{3000}";
	size_t n = 0;
	bool   in_class = false;
	for (size_t i = 0; i < length; i++) {
		char c = pattern[i], next = i + 1 < length ? pattern[i + 1] : 0;
		if (c == '\\' && i + 1 < length) {
			i++;
			if (next == 's' || (next == 'S' && !in_class))
				n += (size_t)sprintf(out + n,
				                     in_class      ? "%s%s"
				                     : next == 's' ? "[%s%s]"
				                                   : "[^%s%s]",
				                     white, "");
			else
				n += (size_t)sprintf(out + n, "\\%c", next);
			continue;
		}
		if (in_class && ((c == '[' && next != ':') || (c == '&' && next == '&')))
			return HR_EUNSUPPORTED;
		if (in_class && c == '[') { /* [:alpha:] */
			while (i < length && pattern[i] != ']')
				out[n++] = pattern[i++];
			c = ']';
		} else if (c == '[') {
			in_class = true;
			out[n++] = c;
			if (next == '^') {
				out[n++] = '^';
				i++;
			}
			if (i + 1 < length && pattern[i + 1] == ']') {
				out[n++] = '\\';
				out[n++] = ']';
				i++;
			}
			continue;
		} else if (c == ']') {
			in_class = false;
		}
		out[n++] = c;
	}
	*n_out = n;
	return 0;
}

int hr__pattern_compile(pcre2_code **out, const char *pattern, size_t length, struct hr_error *err)
{
	int                    rc = HR_ENOMEM;
	size_t                 n = 0;
	pcre2_compile_context *context = pcre2_compile_context_create(NULL);
	char                  *text = length <= 65536 ? malloc(length * 160 + 1) : NULL;
	if (length > 65536) {
		rc = hr__fail(err, HR_EUNSUPPORTED,
		              "A pattern of the tokenizer has %zu bytes; at most 65536 are read.", length);
		goto done;
	}
	if (!context || !text)
		goto done;
	if (translate(text, &n, pattern, length)) {
		rc = hr__fail(err, HR_EUNSUPPORTED,
		              "The tokenizer's pattern \"%.200s\" nests character classes, which is not supported.",
		              pattern);
		goto done;
	}
	int        code;
	PCRE2_SIZE at;
	pcre2_set_newline(context, PCRE2_NEWLINE_LF);
	*out =
	    pcre2_compile((PCRE2_SPTR)text, n, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
	                  &code, &at, context);
	rc = 0;
	if (*out) {
		pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE); /* without a JIT the interpreter does the same, slower */
	} else {
		char reason[120] = "";
		pcre2_get_error_message(code, (PCRE2_UCHAR *)reason, sizeof reason);
		rc = hr__fail(err, HR_EUNSUPPORTED, "The tokenizer's pattern \"%.200s\" is not understood: %s.",
		              pattern, reason);
	}
done:
	pcre2_compile_context_free(context);
	free(text);
	return rc == HR_ENOMEM ? hr__fail(err, rc, "Out of memory while compiling a pattern of the tokenizer.")
	                       : rc;
}

static int add_pattern(struct hr__pretokenizer *pre, const char *pattern, size_t length, struct hr_error *err)
{
	if (pre->n == MAX_PATTERNS)
		return hr__fail(err, HR_EUNSUPPORTED,
		                "The pre-tokenizer has more than %d patterns, the most supported.", MAX_PATTERNS);
	int rc = hr__pattern_compile(&pre->codes[pre->n], pattern, length, err);
	pre->n += rc == 0;
	return rc;
}

int hr__pretokenizer_new(struct hr__pretokenizer **out, struct hr_vocab *vocab, struct hr_error *err)
{
	struct hr__pretokenizer *pre = hr__calloc(1, sizeof *pre);
	if (!pre)
		return hr__fail(err, HR_ENOMEM, "Out of memory while building the pre-tokenizer.");
	int rc = 0;
	if (vocab->patterns) {
		for (int32_t i = 0; i < vocab->n_patterns && !rc; i++)
			rc = add_pattern(pre, vocab->patterns[i].text, vocab->patterns[i].length, err);
	} else {
		const struct named *row = vocab->pre ? find_named(vocab->pre) : NULL;
		if (!row)
			rc = fail_unknown(vocab->pre, err);
		for (int i = 0; row && i < MAX_PATTERNS && row->patterns[i] && !rc; i++)
			rc = add_pattern(pre, row->patterns[i], strlen(row->patterns[i]), err);
		vocab->nfc = vocab->nfc || (row && row->nfc);
		vocab->ignore_merges = vocab->ignore_merges || (row && row->ignore_merges);
	}
	if (rc) {
		hr__pretokenizer_free(pre);
		return rc;
	}
	*out = pre;
	return 0;
}

void hr__pretokenizer_free(struct hr__pretokenizer *pre)
{
	for (int i = 0; pre && i < pre->n; i++)
		pcre2_code_free(pre->codes[i]);
	free(pre);
}

/* ---- Cutting ---- */

struct cut {
	const struct hr__pretokenizer *pre;
	const struct hr_tokenizer     *t;
	struct hr__work               *w;
	pcre2_match_context           *context;
	hr__piece_fn                   piece;
};

/* Find the next match at or behind `at`. 1: found, 0: none, else an error. */
static int next_match(const struct cut *c, int k, const char *text, size_t length, size_t at, size_t *start,
                      size_t *end)
{
	int rc = pcre2_match(c->pre->codes[k], (PCRE2_SPTR)text, length, at, PCRE2_NO_UTF_CHECK, c->w->match,
	                     c->context);
	if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
		rc = pcre2_match(c->pre->codes[k], (PCRE2_SPTR)text, length, at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
		                 c->w->match, c->context);
	if (rc == PCRE2_ERROR_NOMATCH)
		return 0;
	if (rc < 0) {
		char reason[120] = "";
		pcre2_get_error_message(rc, (PCRE2_UCHAR *)reason, sizeof reason);
		return hr__fail(c->w->err, rc == PCRE2_ERROR_NOMEMORY ? HR_ENOMEM : HR_EUNSUPPORTED,
		                "Pattern %d of the tokenizer's pre-tokenizer gave up on this text: %s.", k + 1,
		                reason);
	}
	const PCRE2_SIZE *o = pcre2_get_ovector_pointer(c->w->match);
	*start = o[0];
	*end = o[1];
	return *start <= *end && *start >= at
	           ? 1
	           : hr__fail(c->w->err, HR_EUNSUPPORTED,
	                      "Pattern %d of the tokenizer's pre-tokenizer moves backwards in the text (\\K).",
	                      k + 1);
}

static size_t char_length(const char *text, size_t length)
{
	uint32_t c;
	size_t   n = length ? hr__utf8_decode(text, length, &c) : 1;
	return n ? n : 1;
}

/* Cut with pattern k and hand the parts to pattern k + 1; at most MAX_PATTERNS deep.
 * An empty match cuts too, but never right behind the match before it. */
static int cut(const struct cut *c, int k, const char *text, size_t length)
{
	if (length == 0)
		return 0;
	if (k == c->pre->n)
		return c->piece(c->t, c->w, text, length);
	size_t at = 0, done = 0, start = 0, end = 0;
	bool   any = false;
	int    rc = 0, found;
	while (at <= length && (found = next_match(c, k, text, length, at, &start, &end)) != 0) {
		if (found < 0)
			return found;
		if (start == end && any && end == done) {
			at = end + char_length(text + end, length - end);
			continue;
		}
		rc = cut(c, k + 1, text + done, start - done);
		if (!rc)
			rc = cut(c, k + 1, text + start, end - start);
		if (rc)
			return rc;
		at = done = end;
		any = true;
	}
	return cut(c, k + 1, text + done, length - done);
}

int hr__pretokenizer_split(const struct hr__pretokenizer *pre, const struct hr_tokenizer *t,
                           struct hr__work *w, const char *text, size_t length, hr__piece_fn piece)
{
	struct cut c = {.pre = pre, .t = t, .w = w, .piece = piece};
	int        rc = HR_ENOMEM;
	if (!w->match)
		w->match = pcre2_match_data_create(1, NULL);
	c.context = pcre2_match_context_create(NULL);
	if (!w->match || !c.context)
		goto done;
	/* Honest patterns walk over a run of spaces a few times; these limits are for the others. */
	size_t steps = 10000000 + 16 * length;
	pcre2_set_match_limit(c.context, steps > UINT32_MAX ? UINT32_MAX : (uint32_t)steps);
	pcre2_set_heap_limit(c.context, 256 * 1024); /* KiB */
	rc = cut(&c, 0, text, length);
done:
	pcre2_match_context_free(c.context);
	return rc == HR_ENOMEM ? hr__fail(w->err, rc, "Out of memory while tokenizing.") : rc;
}
