/* Fuzzes encoding: arbitrary bytes through small tokenizers of every kind. The first byte picks
 * the tokenizer, the second `add` and `special`; the rest is text. Ids are in range, asking for the
 * count alone gives the same count, and where nothing is normalised away the text comes back. */
#include "runtime/tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { N_NAMED = 8, N_SPM = 4, N_TOKENIZERS = N_NAMED + N_SPM };

static const char *const named[N_NAMED] = {"gpt-2",  "llama-bpe",    "qwen2",          "smollm",
                                           "tekken", "deepseek-llm", "deepseek-coder", "default"};

/* Pieces in the alphabet of bytes; a space in each marks where it merges. */
static const char *const merges[] = {
    "t h",    "th e", "\xc4\xa0 t", "\xc4\xa0 the",      "\xc4\xa0 \xc4\xa0", "a a", "aa aa",
    "aaaa a", "1 2",  "12 3",       "\xc3\x83 \xc2\xa9", "\xc4\x8a \xc4\x8a", "' s", "\xc4\xa0 a"};
static const char *const pieces[] = {"\xe2\x96\x81",
                                     "t",
                                     "h",
                                     "e",
                                     "a",
                                     "s",
                                     "th",
                                     "the",
                                     "\xe2\x96\x81the",
                                     "aa",
                                     "aaaa",
                                     "\xe2\x96\x81\xe2\x96\x81",
                                     "\xc3\xa9",
                                     "\xe2\x96\x81t",
                                     "he",
                                     "e\xe2\x96\x81"};
static const char *const piece_merges[] = {"t h",
                                           "h e",
                                           "th e",
                                           "\xe2\x96\x81 t",
                                           "a a",
                                           "aa aa",
                                           "\xe2\x96\x81 \xe2\x96\x81",
                                           "\xe2\x96\x81 the",
                                           "e \xe2\x96\x81"};
static const char *const controls[] = {"<s>", "</s>", "<|im_start|>", "<|im_end|>", "<mask>", "aab"};

#define COUNT(a) (int)(sizeof(a) / sizeof *(a))

static void add_token(struct hr_vocab *v, const char *text, size_t length, enum hr_token_type type,
                      float score)
{
	v->tokens[v->n_tokens].text = memcpy(malloc(length + 1), text, length);
	v->tokens[v->n_tokens].length = length;
	v->types[v->n_tokens] = (uint8_t)type;
	if (v->scores)
		v->scores[v->n_tokens] = score;
	v->n_tokens++;
}

static void add_merges(struct hr_vocab *v, const char *const *list, int n)
{
	v->merges = calloc((size_t)n, sizeof *v->merges);
	for (; v->n_merges < n; v->n_merges++) {
		v->merges[v->n_merges].text = strdup(list[v->n_merges]);
		v->merges[v->n_merges].length = strlen(list[v->n_merges]);
	}
}

static void add_controls(struct hr_vocab *v)
{
	v->bos = v->n_tokens;
	v->eos = v->bos + 1;
	v->add_bos = v->add_eos = true;
	for (int i = 0; i < COUNT(controls); i++)
		add_token(v, controls[i], strlen(controls[i]), i < 5 ? HR_TOKEN_CONTROL : HR_TOKEN_USER_DEFINED, 0);
	v->added = calloc(400, 1);
	v->added[v->bos + 4] = HR_ADDED_LSTRIP | HR_ADDED_RSTRIP;
	v->added[v->bos + 5] = HR_ADDED_SINGLE_WORD | HR_ADDED_NORMALIZED;
}

static void add_bytes(struct hr_vocab *v)
{
	int next = 0x100;
	for (int b = 0; b < 256; b++) {
		bool own = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b != 0xad);
		int  c = own ? b : next++;
		char text[2] = {(char)(0xc0 | c >> 6), (char)(0x80 | (c & 0x3f))};
		if (c < 0x80)
			text[0] = (char)c;
		add_token(v, text, c < 0x80 ? 1 : 2, HR_TOKEN_NORMAL, 0);
	}
}

static void fill_bpe(struct hr_vocab *v, const char *pre)
{
	add_bytes(v);
	add_merges(v, merges, COUNT(merges));
	v->pre = strdup(pre);
	for (int i = 0; i < COUNT(merges); i++) {
		char        joined[16];
		const char *space = strchr(merges[i], ' ');
		snprintf(joined, sizeof joined, "%.*s%s", (int)(space - merges[i]), merges[i], space + 1);
		add_token(v, joined, strlen(joined), HR_TOKEN_NORMAL, 0);
	}
}

/* 0: by scores; 1: by merges; 2: as Metaspace, first only; 3: unknown instead of bytes. */
static void fill_spm(struct hr_vocab *v, int variant)
{
	v->kind = HR_TOKENIZER_SPM;
	v->add_space_prefix = true;
	v->byte_fallback = variant != 3;
	v->use_unk = v->fuse_unk = variant == 3;
	v->unk = 0;
	v->metaspace = v->prefix_first_only = variant == 2;
	v->split_at_spaces = v->metaspace;
	v->scores = variant == 0 ? calloc(400, sizeof *v->scores) : NULL;
	add_token(v, "<unk>", 5, HR_TOKEN_UNKNOWN, 0);
	for (int b = 0; b < 256; b++) {
		char text[8];
		snprintf(text, sizeof text, "<0x%02X>", b);
		add_token(v, text, 6, HR_TOKEN_BYTE, 0);
	}
	for (int i = 0; i < COUNT(pieces); i++)
		add_token(v, pieces[i], strlen(pieces[i]), HR_TOKEN_NORMAL, (float)-(i % 7));
	if (variant)
		add_merges(v, piece_merges, COUNT(piece_merges));
}

static struct hr_tokenizer *make(int which)
{
	struct hr_vocab      v = {.unk = -1, .pad = -1};
	struct hr_tokenizer *t = NULL;
	struct hr_error      err;
	v.tokens = calloc(400, sizeof *v.tokens);
	v.types = calloc(400, 1);
	if (which < N_NAMED)
		fill_bpe(&v, named[which]);
	else
		fill_spm(&v, which - N_NAMED);
	add_controls(&v);
	if (hr_tokenizer_new(&t, &v, &err)) {
		fprintf(stderr, "tokenizer %d: %s\n", which, err.message);
		abort();
	}
	return t;
}

static bool comes_back(const struct hr_tokenizer *t, const int32_t *ids, int64_t n_ids, const char *text,
                       size_t n)
{
	size_t at = 0, skip = hr_tokenizer_strips_first_space(t);
	for (int64_t i = 0; i < n_ids; i++) {
		char    bytes[64];
		int64_t length = hr_tokenizer_token_bytes(t, ids[i], false, bytes, sizeof bytes);
		if (length < 0 || (size_t)length < skip || at + (size_t)length - skip > n ||
		    memcmp(bytes + skip, text + at, (size_t)length - skip) != 0)
			return false;
		at += (size_t)length - skip;
		skip = 0;
	}
	return at == n;
}

/* Valid UTF-8, or at least free of what is replaced; no U+2581, which is a space to SPM. */
static bool is_plain(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)text[i] >= 0x80)
			return false;
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct hr_tokenizer *tokenizers[N_TOKENIZERS];
	static int32_t              ids[1 << 18];
	if (n < 2)
		return 0;
	int which = data[0] % N_TOKENIZERS;
	if (!tokenizers[which])
		tokenizers[which] = make(which);
	const struct hr_tokenizer *t = tokenizers[which];
	const char                *text = (const char *)data + 2;
	bool                       add = data[1] & 1, special = data[1] & 2;
	struct hr_error            err = {0};
	n -= 2;
	int64_t n_ids = hr_tokenizer_encode(t, text, n, add, special, ids, 1 << 18, &err);
	if (n_ids < 0 ? err.code != n_ids || !err.message[0] : n_ids > (int64_t)n * 3 + 4)
		abort();
	if (hr_tokenizer_encode(t, text, n, add, special, NULL, 0, NULL) != n_ids)
		abort();
	for (int64_t i = 0; i < n_ids; i++)
		if (hr_tokenizer_token_bytes(t, ids[i], true, NULL, 0) < 0)
			abort();
	bool exact = which <= N_NAMED + 1; /* bytes for everything, the space prefix always there */
	if (n && n_ids >= 0 && exact && !special && !add && is_plain(text, n) &&
	    !strstr(named[which % N_NAMED], "qwen") && !memmem(text, n, "aab", 3) &&
	    !comes_back(t, ids, n_ids, text, n))
		abort();
	return 0;
}
