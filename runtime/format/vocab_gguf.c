/* The tokenizer in GGUF metadata (tokenizer.ggml.*) as a struct hr_vocab.
 *
 * "gpt2" is byte-level BPE, "llama" SentencePiece-style, "t5" Unigram, "bert" WordPiece (whose
 * pieces are spelled the other way round: those that begin a word are marked, with U+2581). What a file
 * leaves out takes the value that llama.cpp gives it, since that is what its writers tested against: SPM adds
 * BOS and a space, of the BPE kinds only those named below add BOS or take whole words before merging. The
 * tokens that end a generation are EOS, the ones that keys name, and the turn-ending ones by their text. */
#include "runtime/format/assemble.h"
#include "runtime/format/vocab_own.h"

#include "base/error.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>

#define KEY(name) "tokenizer.ggml." name

/* Pre-tokenizers whose vocabularies hold whole words that merges do not reach. */
static const struct {
	const char *pre;
	bool        add_bos;
} whole_words[] = {
    {"llama3", true},  {"llama-v3", true}, {"llama-bpe", true}, {"falcon3", true}, {"falcon-h1", true},
    {"pixtral", true}, {"midm-2.0", true}, {"lfm2", true},      {"tekken", true},  {"youtu", false},
};

static const char *const end_texts[] = {
    "<|eot_id|>",    "<|eom_id|>",    "<|im_end|>",      "<|end|>",
    "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<EOT>",
};

static const struct {
	const char            *name;
	enum hr_tokenizer_kind kind;
} models[] = {
    {"gpt2", HR_TOKENIZER_BPE},
    {"llama", HR_TOKENIZER_SPM},
    {"bert", HR_TOKENIZER_WORDPIECE},
    {"t5", HR_TOKENIZER_UNIGRAM},
};

struct reader {
	const struct hr_gguf *g;
	struct hr_vocab      *v;
	struct hr_error      *err;
};

static int fail_memory(const struct reader *r)
{
	return hr__fail(r->err, HR_ENOMEM, "%s: there is no memory for the tokenizer.", r->g->path);
}

/* Copy an array of strings; every length was checked against the file when it was read. */
static int copy_strings(const struct reader *r, const struct hr_gguf_kv *kv, struct hr_string **out,
                        int32_t *n)
{
	if (kv->n > 1 << 24)
		return hr__fail(r->err, HR_EFORMAT, "%s: %s has %" PRIu64 " entries, which is absurdly many.",
		                r->g->path, kv->key, kv->n);
	*out = hr__calloc((size_t)kv->n, sizeof **out);
	if (!*out)
		return fail_memory(r);
	const uint8_t *at = kv->data;
	for (*n = 0; *n < (int32_t)kv->n; ++*n) {
		struct hr_string *s = &(*out)[*n];
		uint64_t          length;
		memcpy(&length, at, sizeof length);
		at += sizeof length;
		s->text = malloc((size_t)length + 1);
		if (!s->text)
			return fail_memory(r);
		memcpy(s->text, at, (size_t)length);
		s->text[length] = 0;
		s->length = (size_t)length;
		at += length;
	}
	return 0;
}

/* The array `key` of n_tokens elements; 0: absent. */
static int get_per_token(const struct reader *r, const char *key, enum hr_gguf_type elem,
                         const struct hr_gguf_kv **out)
{
	int rc = hr_gguf_get_array(r->g, key, elem, out, r->err);
	if (rc > 0 && (*out)->n != (uint64_t)r->v->n_tokens)
		return hr__fail(r->err, HR_EFORMAT,
		                "%s: %s has %" PRIu64 " entries for %d tokens; the header is damaged.", r->g->path,
		                key, (*out)->n, r->v->n_tokens);
	return rc;
}

static int read_tokens(const struct reader *r)
{
	const struct hr_gguf_kv *kv;
	int                      rc = hr_gguf_get_array(r->g, KEY("tokens"), HR_GGUF_STRING, &kv, r->err);
	if (rc == 0 || (rc > 0 && kv->n == 0))
		return hr__fail(r->err, HR_EFORMAT,
		                "%s: the tokenizer has no " KEY("tokens") "; the file is incomplete.", r->g->path);
	return rc < 0 ? rc : copy_strings(r, kv, &r->v->tokens, &r->v->n_tokens);
}

static int read_scores(const struct reader *r)
{
	const struct hr_gguf_kv *kv;
	int                      rc = get_per_token(r, KEY("scores"), HR_GGUF_F32, &kv);
	if (rc <= 0)
		return rc;
	r->v->scores = hr__calloc((size_t)kv->n, sizeof *r->v->scores);
	if (!r->v->scores)
		return fail_memory(r);
	for (uint64_t i = 0; i < kv->n; i++) {
		float score;
		memcpy(&score, kv->data + i * sizeof score, sizeof score);
		r->v->scores[i] = (double)score;
	}
	return 0;
}

static int read_types(const struct reader *r)
{
	const struct hr_gguf_kv *kv;
	int                      rc = get_per_token(r, KEY("token_type"), HR_GGUF_I32, &kv);
	if (rc <= 0)
		return rc;
	r->v->types = malloc((size_t)kv->n + 1);
	if (!r->v->types)
		return fail_memory(r);
	for (uint64_t i = 0; i < kv->n; i++) {
		int32_t type;
		memcpy(&type, kv->data + i * sizeof type, sizeof type);
		if (type < 0 || type > HR_TOKEN_BYTE)
			return hr__fail(r->err, HR_EFORMAT,
			                "%s: token %" PRIu64 " has the type %d, 1 to %d are possible.", r->g->path, i,
			                type, HR_TOKEN_BYTE);
		r->v->types[i] = type ? (uint8_t)type : HR_TOKEN_NORMAL; /* 0 is "undefined" */
	}
	return 0;
}

static int read_merges(const struct reader *r)
{
	const struct hr_gguf_kv *kv;
	int                      rc = hr_gguf_get_array(r->g, KEY("merges"), HR_GGUF_STRING, &kv, r->err);
	return rc <= 0 ? rc : copy_strings(r, kv, &r->v->merges, &r->v->n_merges);
}

static int copy_text(const struct reader *r, const char *key, char **out)
{
	const char *text;
	int         rc = hr_gguf_get_string(r->g, key, &text, r->err);
	if (rc <= 0)
		return rc;
	*out = strdup(text);
	return *out ? 0 : fail_memory(r);
}

/* A token id; writers spell "none" as -1, in whatever integer type. */
static int read_id(const struct reader *r, const char *key, int32_t *out)
{
	const struct hr_gguf_kv *kv = hr_gguf_find(r->g, key);
	if (kv && kv->type == HR_GGUF_I32 && memcmp(kv->data, "\xff\xff\xff\xff", 4) == 0) {
		*out = -1;
		return 0;
	}
	uint64_t id;
	int      rc = hr_gguf_get_u64(r->g, key, &id, r->err);
	if (rc <= 0)
		return rc;
	if (id != UINT32_MAX && id >= (uint64_t)r->v->n_tokens)
		return hr__fail(r->err, HR_EFORMAT, "%s: %s is %" PRIu64 ", but there are only %d tokens.",
		                r->g->path, key, id, r->v->n_tokens);
	*out = id == UINT32_MAX ? -1 : (int32_t)id;
	return 0;
}

static int read_ids(const struct reader *r, int32_t *eot, int32_t *eom)
{
	struct hr_vocab *v = r->v;
	const struct {
		const char *key;
		int32_t    *id;
	} ids[] = {
	    {KEY("bos_token_id"), &v->bos},     {KEY("eos_token_id"), &v->eos},
	    {KEY("unknown_token_id"), &v->unk}, {KEY("padding_token_id"), &v->pad},
	    {KEY("eot_token_id"), eot},         {KEY("eom_token_id"), eom},
	};
	for (size_t i = 0; i < HR_COUNT_OF(ids); i++) {
		int rc = read_id(r, ids[i].key, ids[i].id);
		if (rc)
			return rc;
	}
	return 0;
}

static void add_eog(struct hr_vocab *v, int32_t id)
{
	bool known = id < 0 || id == v->eos;
	for (int i = 0; i < v->n_eog; i++)
		known = known || v->eog[i] == id;
	if (!known && v->n_eog < (int32_t)HR_COUNT_OF(v->eog))
		v->eog[v->n_eog++] = id;
}

/* Only control tokens: "<|end|>" may also be ordinary text of a vocabulary. */
static void find_end_texts(struct hr_vocab *v)
{
	for (int32_t id = 0; id < v->n_tokens && v->types; id++)
		for (size_t i = 0; v->types[id] == HR_TOKEN_CONTROL && i < HR_COUNT_OF(end_texts); i++)
			if (strcmp(v->tokens[id].text, end_texts[i]) == 0)
				add_eog(v, id);
}

static void set_defaults(struct hr_vocab *v)
{
	v->bos = v->eos = v->unk = v->pad = -1;
	if (v->kind == HR_TOKENIZER_SPM) {
		v->bos = v->n_tokens > 1 ? 1 : -1;
		v->eos = v->n_tokens > 2 ? 2 : -1;
		v->unk = 0;
		v->add_bos = v->add_space_prefix = true;
	}
	if (v->kind == HR_TOKENIZER_WORDPIECE) {
		v->add_bos = v->add_eos = v->use_unk = true;
		v->clean_text = v->split_ideographs = v->lowercase = true;
		v->max_word_chars = 100;
	}
	if (v->kind == HR_TOKENIZER_UNIGRAM) {
		v->add_eos = v->metaspace = v->add_space_prefix = true;
		v->unk = 2;
	}
	if (v->kind == HR_TOKENIZER_BPE && v->pre && strcmp(v->pre, "roberta-bpe") == 0)
		v->add_bos = v->add_eos = true;
	for (size_t i = 0; v->pre && i < HR_COUNT_OF(whole_words); i++)
		if (strcmp(v->pre, whole_words[i].pre) == 0) {
			v->ignore_merges = true;
			v->add_bos = whole_words[i].add_bos;
		}
}

/* U+2581 in front of a word's first piece becomes nothing, nothing in front of the others ##. */
static int respell_wordpieces(const struct reader *r)
{
	for (int32_t i = 0; i < r->v->n_tokens; i++) {
		struct hr_string *s = &r->v->tokens[i];
		if (r->v->types && r->v->types[i] != HR_TOKEN_NORMAL)
			continue;
		if (s->length >= 3 && memcmp(s->text, "\xe2\x96\x81", 3) == 0) {
			s->length -= 3;
			memmove(s->text, s->text + 3, s->length + 1);
			continue;
		}
		char *text;
		if (asprintf(&text, "##%s", s->text) < 0)
			return fail_memory(r);
		free(s->text);
		*s = (struct hr_string){text, strlen(text)};
	}
	return 0;
}

/* SentencePiece's normalising: its table, and spaces at the ends and in rows left out. */
static int read_steps(const struct reader *r)
{
	static const char *const patterns[][2] = {{"^ +| +$", ""}, {" {2,}", " "}};
	const struct hr_gguf_kv *map = hr_gguf_find(r->g, KEY("precompiled_charsmap"));
	struct hr_vocab         *v = r->v;
	bool                     collapse = false;
	int                      rc = hr_gguf_get_bool(r->g, KEY("remove_extra_whitespaces"), &collapse, r->err);
	if (rc < 0)
		return rc;
	v->steps = hr__calloc(3, sizeof *v->steps);
	if (!v->steps)
		return fail_memory(r);
	if (map && map->type == HR_GGUF_ARRAY && map->data_bytes == map->n && map->n) {
		struct hr_normal_step *s = &v->steps[v->n_steps++];
		*s = (struct hr_normal_step){.kind = HR_NORMAL_CHARSMAP_LONGEST,
		                             .text = {malloc(map->data_bytes), map->data_bytes}};
		if (!s->text.text)
			return fail_memory(r);
		memcpy(s->text.text, map->data, map->data_bytes);
	}
	for (int i = 0; i < 2 && collapse; i++) {
		struct hr_normal_step *s = &v->steps[v->n_steps++];
		*s = (struct hr_normal_step){.kind = HR_NORMAL_REPLACE,
		                             .text = {strdup(patterns[i][0]), strlen(patterns[i][0])},
		                             .with = {strdup(patterns[i][1]), strlen(patterns[i][1])}};
		if (!s->text.text || !s->with.text)
			return fail_memory(r);
	}
	return 0;
}

/* How two texts go together: BERT's way, or RoBERTa's. */
static int read_pairs(const struct reader *r)
{
	struct hr_vocab *v = r->v;
	int32_t          n_types = 0;
	int              rc = hr_gguf_get_i32(r->g, KEY("token_type_count"), &n_types, r->err);
	if (rc <= 0 || !v->add_bos || !v->add_eos)
		return rc < 0 ? rc : 0;
	v->pair_separators = v->kind == HR_TOKENIZER_WORDPIECE ? 1 : 2;
	v->pair_types = n_types > 1;
	return 0;
}

static int read_vocab(const struct reader *r)
{
	struct hr_vocab *v = r->v;
	int32_t          eot = -1, eom = -1;
	int              rc = read_tokens(r);
	if (!rc)
		rc = read_scores(r);
	if (!rc)
		rc = read_types(r);
	if (!rc)
		rc = read_merges(r);
	if (!rc)
		rc = copy_text(r, KEY("pre"), &v->pre);
	if (!rc)
		rc = copy_text(r, "tokenizer.chat_template", &v->chat_template);
	if (rc)
		return rc;
	set_defaults(v);
	rc = read_ids(r, &eot, &eom);
	if (rc)
		return rc;
	rc = hr_gguf_get_bool(r->g, KEY("add_bos_token"), &v->add_bos, r->err);
	if (rc >= 0)
		rc = hr_gguf_get_bool(r->g, KEY("add_eos_token"), &v->add_eos, r->err);
	if (rc >= 0)
		rc = hr_gguf_get_bool(r->g, KEY("add_space_prefix"), &v->add_space_prefix, r->err);
	if (rc >= 0)
		rc = hr_gguf_get_bool(r->g, KEY("normalizer.lowercase"), &v->lowercase, r->err);
	if (rc >= 0)
		rc = read_pairs(r);
	if (!rc && v->kind == HR_TOKENIZER_WORDPIECE)
		rc = respell_wordpieces(r);
	if (!rc && v->kind == HR_TOKENIZER_UNIGRAM && !hr__vocab_own_has_steps(r->g))
		rc = read_steps(r);
	if (rc < 0)
		return rc;
	v->strip_accents = v->lowercase;
	rc = hr__vocab_own_read(v, r->g, r->err);
	if (rc < 0)
		return rc;
	add_eog(v, eot);
	add_eog(v, eom);
	find_end_texts(v);
	return 0;
}

int hr__vocab_read_gguf(struct hr_vocab *out, const struct hr_gguf *g, struct hr_error *err)
{
	const char *model;
	int         rc = hr_gguf_get_string(g, KEY("model"), &model, err);
	if (rc <= 0)
		return rc;
	if (strcmp(model, "none") == 0 || strcmp(model, "no_vocab") == 0)
		return 0;
	struct hr_vocab v = {0};
	char            list[64] = "";
	size_t          k = 0, used = 0;
	for (size_t i = 0; i < HR_COUNT_OF(models); i++)
		used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", models[i].name);
	while (k < HR_COUNT_OF(models) && strcmp(models[k].name, model) != 0)
		k++;
	if (k == HR_COUNT_OF(models))
		return hr__fail(err, HR_EUNSUPPORTED,
		                "%s: the tokenizer model '%s' is not supported; supported are %s.", g->path, model,
		                list);
	v.kind = models[k].kind;
	struct reader r = {.g = g, .v = &v, .err = err};
	rc = read_vocab(&r);
	if (rc)
		hr_vocab_release(&v);
	else
		*out = v;
	return rc ? rc : 1;
}
