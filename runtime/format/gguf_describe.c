/* A model's description as GGUF metadata, under the keys that llama.cpp's converter writes.
 *
 * What is not said is what a reader assumes. A SentencePiece-style tokenizer is written by
 * scores: where the source has merges instead, a piece's score is minus the place of the first merge that
 * makes it, which gives the same order. Byte-level BPE goes by the name of its pre-tokenizer,
 * of which GGUF knows a fixed list: a tokenizer with other expressions can't be described. */
#include "runtime/format/gguf_describe.h"

#include "base/error.h"
#include "base/mem.h"
#include "runtime/family/family.h"
#include "runtime/format/vocab_own.h"
#include "runtime/tokenizer/internal.h"

#include <math.h>
#include <stdio.h>

#define KEY(name) "tokenizer.ggml." name
#define RATHER    "; run the model from its directory, with --quantize or --dtype."

/* ---- Hyperparameters ------------------------------------------------------------ */

struct keys {
	struct hr_gguf_writer *w;
	const char            *arch;
	char                   name[96];
};

static const char *key_of(struct keys *k, const char *suffix)
{
	snprintf(k->name, sizeof k->name, "%s.%s", k->arch, suffix);
	return k->name;
}

/* 0: left out. */
static void put_int(struct keys *k, const char *suffix, int32_t value)
{
	if (value)
		hr_gguf_write_u32(k->w, key_of(k, suffix), (uint32_t)value);
}

static void put_float(struct keys *k, const char *suffix, float value)
{
	if (value != 0)
		hr_gguf_write_f32(k->w, key_of(k, suffix), value);
}

/* The magnitude twice, where it is not the usual one: as llama.cpp reads it, and as its converter and we do,
 * to the last bit. */
static void write_yarn(struct keys *k, const struct hr_hparams *h)
{
	float usual = hr__rope_yarn_magnitude(h->rope_factor, 1);
	hr_gguf_write_string(k->w, key_of(k, "rope.scaling.type"), "yarn");
	put_float(k, "rope.scaling.factor", h->rope_factor);
	put_int(k, "rope.scaling.original_context_length", h->rope_original_context);
	put_float(k, "rope.scaling.yarn_beta_fast", h->rope_beta_fast);
	put_float(k, "rope.scaling.yarn_beta_slow", h->rope_beta_slow);
	if (h->rope_magnitude == usual)
		return;
	put_float(k, "rope.scaling.yarn_attn_factor", h->rope_magnitude);
	put_float(k, "rope.scaling.attn_factor", h->rope_magnitude / usual);
}

static void write_rope(struct keys *k, const struct hr_hparams *h)
{
	if (!h->n_rot)
		return;
	put_int(k, "rope.dimension_count", h->n_rot);
	put_float(k, "rope.freq_base", h->rope_theta);
	put_float(k, "rope.freq_base_swa", h->rope_theta_sliding);
	if (h->rope_scaling == HR_ROPE_SCALING_LINEAR) {
		hr_gguf_write_string(k->w, key_of(k, "rope.scaling.type"), "linear");
		put_float(k, "rope.scaling.factor", h->rope_factor);
	} else if (h->rope_scaling == HR_ROPE_SCALING_YARN) {
		write_yarn(k, h);
	} else if (h->rope_scaling == HR_ROPE_SCALING_LONGROPE) {
		hr_gguf_write_string(k->w, key_of(k, "rope.scaling.type"), "longrope");
		put_int(k, "rope.scaling.original_context_length", h->rope_original_context);
		put_float(k, "rope.scaling.attn_factor", h->rope_magnitude);
	}
}

void hr__gguf_write_hparams(struct hr_gguf_writer *w, const char *arch, const struct hr_hparams *h)
{
	struct keys k = {.w = w, .arch = arch};
	put_int(&k, "block_count", h->n_layers);
	put_int(&k, "context_length", h->n_ctx_train);
	put_int(&k, "embedding_length", h->n_embd);
	put_int(&k, "feed_forward_length", h->n_ff);
	put_int(&k, "attention.head_count", h->n_heads);
	put_int(&k, "attention.head_count_kv", h->n_kv_heads);
	put_int(&k, "attention.key_length", h->head_dim);
	put_int(&k, "attention.value_length", h->head_dim);
	put_int(&k, "attention.sliding_window", h->sliding_window);
	put_int(&k, "vocab_size", h->n_vocab);
	put_float(&k, h->layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon",
	          h->norm_eps);
	put_float(&k, "attn_logit_softcapping", h->attention_soft_cap);
	put_float(&k, "final_logit_softcapping", h->logit_soft_cap);
	if (h->layer_norm)
		hr_gguf_write_bool(w, key_of(&k, "use_parallel_residual"), h->parallel);
	write_rope(&k, h);
}

void hr__gguf_write_own(struct hr_gguf_writer *w, const struct hr_checkpoint *c)
{
	const struct hr_hparams *h = &c->hparams;
	if (h->encoder) {
		hr_gguf_write_bool(w, "bert.attention.causal", false);
		hr_gguf_write_u32(w, KEY("token_type_count"), h->n_types ? (uint32_t)h->n_types : 1);
		hr_gguf_write_string(w, HR_OWN_ACTIVATION, hr__activation_name(h->activation));
		hr_gguf_write_string(w, HR_OWN_CLASSIFIER_ACTIVATION, hr__activation_name(h->dense_activation));
		hr__encoder_use_write(w, &c->use);
	} else if (hr_family_of_name(h->family)->gguf_own) {
		hr_gguf_write_string(w, HR_OWN_ACTIVATION, hr__activation_name(h->activation));
		hr_gguf_write_bool(w, HR_OWN_NORM_AFTER, h->norm_after);
	}
}

/* ---- Tokenizer ------------------------------------------------------------------ */

static int32_t n_tokens_of(const struct hr_vocab *v, int32_t n_vocab)
{
	return v->n_tokens < n_vocab ? n_vocab : v->n_tokens;
}

static int32_t type_of(const struct hr_vocab *v, int32_t id)
{
	return id >= v->n_tokens ? HR_TOKEN_UNUSED : v->types ? v->types[id] : HR_TOKEN_NORMAL;
}

/* GGUF marks the pieces that begin a word (U+2581), not those inside of one (##). */
static void write_wordpiece(struct hr_gguf_writer *w, const struct hr_string *s)
{
	bool   inside = s->length >= 2 && memcmp(s->text, "##", 2) == 0;
	size_t skip = inside ? 2 : 0;
	char  *text;
	int n = asprintf(&text, "%s%.*s", inside ? "" : "\xe2\x96\x81", (int)(s->length - skip), s->text + skip);
	if (n < 0) {
		w->failed = true;
		return;
	}
	hr_gguf_write_array_string(w, text, (size_t)n);
	free(text);
}

static void write_tokens(struct hr_gguf_writer *w, const struct hr_vocab *v, int32_t n)
{
	char filler[32];
	hr_gguf_write_array(w, KEY("tokens"), HR_GGUF_STRING, (uint64_t)n);
	for (int32_t i = 0; i < n; i++) {
		/* Holes of the numbering need a text of their own. */
		bool hole = i >= v->n_tokens || !v->tokens[i].length;
		snprintf(filler, sizeof filler, "[PAD%d]", i);
		if (!hole && v->kind == HR_TOKENIZER_WORDPIECE && type_of(v, i) == HR_TOKEN_NORMAL)
			write_wordpiece(w, &v->tokens[i]);
		else
			hr_gguf_write_array_string(w, hole ? filler : v->tokens[i].text,
			                           hole ? strlen(filler) : v->tokens[i].length);
	}
}

static void write_types(struct hr_gguf_writer *w, const struct hr_vocab *v, int32_t n)
{
	hr_gguf_write_array(w, KEY("token_type"), HR_GGUF_I32, (uint64_t)n);
	for (int32_t i = 0; i < n; i++) {
		int32_t type = type_of(v, i);
		if (i == v->unk && v->kind == HR_TOKENIZER_SPM)
			type = HR_TOKEN_UNKNOWN;
		hr_gguf_write_array_bytes(w, &type, sizeof type);
	}
}

static void write_merges(struct hr_gguf_writer *w, const struct hr_vocab *v)
{
	hr_gguf_write_array(w, KEY("merges"), HR_GGUF_STRING, (uint64_t)v->n_merges);
	for (int32_t i = 0; i < v->n_merges; i++)
		hr_gguf_write_array_string(w, v->merges[i].text, v->merges[i].length);
}

/* Minus the place of the first merge that makes each piece; those that no merge makes come last. */
static int scores_of_merges(const struct hr_vocab *v, float *scores, struct hr_error *err)
{
	struct hr__text_map map = {0};
	char               *piece = NULL;
	size_t              capacity = 0;
	int                 rc = hr__text_map_init(&map, v->n_tokens);
	for (int32_t i = 0; i < v->n_tokens && !rc; i++) {
		scores[i] = -(float)v->n_merges - 1;
		hr__text_map_add(&map, v->tokens, i);
	}
	for (int32_t i = v->n_merges - 1; i >= 0 && !rc; i--) { /* the first is written last */
		const struct hr_string *m = &v->merges[i];
		const char             *space = memchr(m->text, ' ', m->length);
		if (m->length > capacity) {
			char *larger = realloc(piece, m->length);
			piece = larger ? larger : piece;
			capacity = larger ? m->length : capacity;
			rc = larger ? 0 : HR_ENOMEM;
		}
		if (rc || !space)
			continue;
		size_t left = (size_t)(space - m->text);
		memcpy(piece, m->text, left);
		memcpy(piece + left, space + 1, m->length - left - 1);
		int32_t id = hr__text_map_find(&map, v->tokens, piece, m->length - 1);
		if (id >= 0)
			scores[id] = -(float)i;
	}
	free(piece);
	free(map.slots);
	return rc ? hr__fail(err, rc, "There is no memory for the tokenizer.") : 0;
}

static int write_scores(struct hr_gguf_writer *w, const struct hr_vocab *v, int32_t n, struct hr_error *err)
{
	float *scores = hr__calloc((size_t)n, sizeof *scores);
	bool   has_none = v->kind == HR_TOKENIZER_UNIGRAM; /* tokens that are no pieces */
	int    rc = scores ? 0 : hr__fail(err, HR_ENOMEM, "There is no memory for the tokenizer.");
	for (int32_t i = 0; i < n && !rc && v->scores; i++) {
		scores[i] = i < v->n_tokens ? (float)v->scores[i] : 0;
		if (has_none && (i >= v->n_tokens || isnan(v->scores[i])))
			scores[i] = (float)HR_NO_PIECE;
	}
	if (!rc && !v->scores)
		rc = scores_of_merges(v, scores, err);
	if (!rc) {
		hr_gguf_write_array(w, KEY("scores"), HR_GGUF_F32, (uint64_t)n);
		hr_gguf_write_array_bytes(w, scores, (size_t)n * sizeof *scores);
	}
	free(scores);
	return rc;
}

static void put_id(struct hr_gguf_writer *w, const char *key, int32_t id)
{
	if (id >= 0)
		hr_gguf_write_u32(w, key, (uint32_t)id);
}

static const char *const models[] = {
    [HR_TOKENIZER_BPE] = "gpt2",
    [HR_TOKENIZER_SPM] = "llama",
    [HR_TOKENIZER_WORDPIECE] = "bert",
    [HR_TOKENIZER_UNIGRAM] = "t5",
};

/* Refuses what a GGUF would say wrongly. *model and `pre` as GGUF names them. */
static int name_vocab(const struct hr_vocab *v, const char **model, char pre[32], bool *exact,
                      struct hr_error *err)
{
	snprintf(pre, 32, "default");
	*exact = true;
	*model = models[v->kind];
	if (v->kind == HR_TOKENIZER_BPE && !hr__pretokenizer_name(v, pre, exact))
		return hr__fail(err, HR_EUNSUPPORTED,
		                "The tokenizer cuts text by expressions that no name in GGUF stands for" RATHER);
	if (v->add_bos && v->add_eos && strcmp(pre, "gpt-2") == 0)
		snprintf(pre, 32, "roberta-bpe");
	if (v->kind == HR_TOKENIZER_SPM && !v->scores && !v->merges)
		return hr__fail(err, HR_EUNSUPPORTED, "The tokenizer has neither scores nor merges" RATHER);
	return 0;
}

/* What llama.cpp knows of Unigram's normaliser. */
static void write_charsmap(struct hr_gguf_writer *w, const struct hr_vocab *v)
{
	hr_gguf_write_bool(w, KEY("remove_extra_whitespaces"), true);
	for (int32_t i = 0; i < v->n_steps; i++) {
		const struct hr_normal_step *s = &v->steps[i];
		if (s->kind != HR_NORMAL_CHARSMAP && s->kind != HR_NORMAL_CHARSMAP_LONGEST)
			continue;
		hr_gguf_write_array(w, KEY("precompiled_charsmap"), HR_GGUF_U8, s->text.length);
		hr_gguf_write_array_bytes(w, s->text.text, s->text.length);
		return;
	}
}

int hr__gguf_write_vocab(struct hr_gguf_writer *w, const struct hr_vocab *v, int32_t n_vocab, bool encoder,
                         bool *exact, struct hr_error *err)
{
	const char *model;
	char        pre[32];
	int32_t     n = n_tokens_of(v, n_vocab);
	int         rc = name_vocab(v, &model, pre, exact, err);
	bool        scored = v->kind == HR_TOKENIZER_SPM || v->kind == HR_TOKENIZER_UNIGRAM;
	if (!rc && scored)
		rc = write_scores(w, v, n, err);
	if (rc)
		return rc;
	hr_gguf_write_string(w, KEY("model"), model);
	hr_gguf_write_string(w, KEY("pre"), pre);
	write_tokens(w, v, n);
	write_types(w, v, n);
	if (v->kind == HR_TOKENIZER_BPE)
		write_merges(w, v);
	put_id(w, KEY("bos_token_id"), v->bos);
	put_id(w, KEY("eos_token_id"), v->eos);
	put_id(w, KEY("unknown_token_id"), v->unk);
	put_id(w, KEY("padding_token_id"), v->pad);
	put_id(w, KEY("eot_token_id"), v->n_eog > 0 ? v->eog[0] : -1);
	put_id(w, KEY("eom_token_id"), v->n_eog > 1 ? v->eog[1] : -1);
	hr_gguf_write_bool(w, KEY("add_bos_token"), v->add_bos);
	hr_gguf_write_bool(w, KEY("add_eos_token"), v->add_eos);
	if (scored)
		hr_gguf_write_bool(w, KEY("add_space_prefix"), v->add_space_prefix);
	if (v->kind == HR_TOKENIZER_UNIGRAM)
		write_charsmap(w, v);
	if (v->kind == HR_TOKENIZER_WORDPIECE)
		hr_gguf_write_bool(w, KEY("normalizer.lowercase"), v->lowercase);
	if (encoder) {
		put_id(w, KEY("seperator_token_id"), v->eos); /* so it is spelled */
		hr__vocab_own_write(w, v, n);
	}
	if (v->chat_template)
		hr_gguf_write_string(w, "tokenizer.chat_template", v->chat_template);
	return 0;
}
