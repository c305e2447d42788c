/* From a vocabulary as a file spells it to the tables that encoding uses, with
 * everything checked on the way: what this file lets through, encoding may rely on.
 *
 * Each token gets the bytes it stands for (`raw`): GPT-2's byte alphabet undone,
 * U+2581 a space, <0x0A> a byte, control tokens and pieces of words as they are spelled. All look-ups are by
 * raw bytes. */
#include "runtime/tokenizer/internal.h"

#include "base/error.h"
#include "base/mem.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>

#define MAX_ADDED_BYTES 1024
#define MAX_RAW_BYTES   (1u << 20)

/* Text for a message: short, control characters and broken UTF-8 as '?'. */
struct shown {
	char text[64];
};

static struct shown show(const struct hr_string *s)
{
	struct shown out;
	size_t       n = 0;
	for (size_t i = 0, step; i < s->length && n < sizeof out.text - 5; i += step) {
		uint32_t c = 0;
		step = hr__utf8_decode(s->text + i, s->length - i, &c);
		if (step && c >= 0x20 && c != 0x7f)
			memcpy(out.text + n, s->text + i, step);
		else
			out.text[n] = '?';
		n += step && c >= 0x20 && c != 0x7f ? step : 1;
		step = step ? step : 1;
	}
	out.text[n] = 0;
	return out;
}

static enum hr_token_type type_of(const struct hr_vocab *v, int32_t id)
{
	return v->types ? (enum hr_token_type)v->types[id] : HR_TOKEN_NORMAL;
}

static bool is_added(enum hr_token_type type)
{
	return type == HR_TOKEN_CONTROL || type == HR_TOKEN_USER_DEFINED || type == HR_TOKEN_UNKNOWN;
}

/* "<0x0A>" -> 10; -1: something else. */
static int byte_of(const struct hr_string *s)
{
	unsigned byte;
	if (s->length != 6 || memcmp(s->text, "<0x", 3) || s->text[5] != '>' ||
	    !isxdigit((unsigned char)s->text[3]) || !isxdigit((unsigned char)s->text[4]))
		return -1;
	return sscanf(s->text + 3, "%2x", &byte) == 1 ? (int)byte : -1;
}

/* Pieces with U+2581 for spaces, and perhaps bytes. */
static bool is_spaced(enum hr_tokenizer_kind kind)
{
	return kind == HR_TOKENIZER_SPM || kind == HR_TOKENIZER_UNIGRAM;
}

/* The bytes that a spelling of ordinary pieces stands for; out has room for length
 * + 1. Characters outside of the byte alphabet stand for themselves. */
static size_t raw_of(enum hr_tokenizer_kind kind, char *out, const char *text, size_t length)
{
	if (kind == HR_TOKENIZER_WORDPIECE) {
		memcpy(out, text, length);
		return length;
	}
	if (is_spaced(kind))
		return hr__spm_space(out, text, length, false);
	size_t n = 0;
	for (size_t i = 0, step; i < length; i += step) {
		uint32_t c = 0;
		step = hr__utf8_decode(text + i, length - i, &c);
		int byte = step ? hr__bpe_byte_of(c) : -1;
		if (byte < 0) {
			memcpy(out, text, length);
			return length;
		}
		out[n++] = (char)byte;
	}
	return n;
}

static int check_id(const struct hr_vocab *v, int32_t id, const char *what, struct hr_error *err)
{
	if (id >= -1 && id < v->n_tokens)
		return 0;
	return hr__fail(err, HR_EFORMAT, "The tokenizer's %s token has id %d, but the vocabulary ends at %d.",
	                what, id, v->n_tokens - 1);
}

static int check_vocab(const struct hr_vocab *v, struct hr_error *err)
{
	if (v->n_tokens <= 0 || !v->tokens)
		return hr__fail(err, HR_EFORMAT, "The tokenizer's vocabulary is empty.");
	if (v->kind == HR_TOKENIZER_WORDPIECE && (!v->use_unk || v->max_word_chars < 1))
		return hr__fail(err, HR_EFORMAT,
		                "The WordPiece tokenizer has no unknown token, or no room for a word.");
	if (v->kind == HR_TOKENIZER_UNIGRAM && (!v->scores || v->unk < 0))
		return hr__fail(err, HR_EFORMAT, "The Unigram tokenizer has no scores, or no unknown token.");
	if (!v->merges && v->kind < HR_TOKENIZER_WORDPIECE && (v->kind == HR_TOKENIZER_BPE || !v->scores))
		return hr__fail(err, HR_EFORMAT,
		                v->kind == HR_TOKENIZER_BPE ? "The BPE tokenizer has no merges."
		                                            : "The SPM tokenizer has neither scores nor merges.");
	int rc = check_id(v, v->bos, "BOS", err);
	rc = rc ? rc : check_id(v, v->eos, "EOS", err);
	rc = rc ? rc : check_id(v, v->unk, "unknown", err);
	rc = rc ? rc : check_id(v, v->pad, "padding", err);
	if (!rc && (v->n_eog < 0 || v->n_eog > (int32_t)HR_COUNT_OF(v->eog)))
		rc = hr__fail(err, HR_EFORMAT, "The tokenizer has %d end tokens; at most %zu are supported.",
		              v->n_eog, HR_COUNT_OF(v->eog));
	for (int32_t i = 0; i < v->n_eog && !rc; i++)
		rc = check_id(v, v->eog[i], "end", err);
	if (!rc && ((v->add_bos && v->bos < 0) || (v->add_eos && v->eos < 0)))
		rc = hr__fail(err, HR_EFORMAT,
		              "The tokenizer asks for %s in front of each text, but names no such token.",
		              v->add_bos && v->bos < 0 ? "a BOS token" : "an EOS token");
	if (!rc && v->use_unk && v->unk < 0)
		rc = hr__fail(err, HR_EFORMAT, "The tokenizer needs an unknown token and names none.");
	for (int32_t i = 0; v->types && i < v->n_tokens && !rc; i++)
		if (v->types[i] < HR_TOKEN_NORMAL || v->types[i] > HR_TOKEN_BYTE)
			rc = hr__fail(err, HR_EFORMAT, "Token %d of the vocabulary has the unknown type %d.", i,
			              v->types[i]);
	return rc;
}

static int build_raw(struct hr_tokenizer *t, struct hr_error *err)
{
	const struct hr_vocab *v = &t->vocab;
	size_t                 total = 1;
	for (int32_t i = 0; i < v->n_tokens; i++) {
		if (v->tokens[i].length > MAX_RAW_BYTES)
			return hr__fail(err, HR_EFORMAT,
			                "Token %d of the vocabulary has %zu bytes; at most %u are supported.", i,
			                v->tokens[i].length, MAX_RAW_BYTES);
		total += v->tokens[i].length;
	}
	t->raw = hr__calloc((size_t)v->n_tokens, sizeof *t->raw);
	t->arena = malloc(total);
	if (!t->raw || !t->arena)
		return HR_ENOMEM;
	char *at = t->arena;
	for (int32_t i = 0; i < v->n_tokens; i++) {
		const struct hr_string *s = &v->tokens[i];
		enum hr_token_type      type = type_of(v, i);
		int byte = is_spaced(v->kind) && (type == HR_TOKEN_BYTE || !v->types) ? byte_of(s) : -1;
		if (is_spaced(v->kind) && type == HR_TOKEN_BYTE && byte < 0)
			return hr__fail(err, HR_EFORMAT,
			                "Token %d of the vocabulary is of type byte, but spelled \"%s\".", i,
			                show(s).text);
		t->raw[i].text = at;
		if (byte >= 0) {
			*at = (char)byte;
			t->raw[i].length = 1;
			t->byte_ids[byte] = i;
		} else if (v->kind == HR_TOKENIZER_BPE && is_added(type)) {
			memcpy(at, s->text, s->length);
			t->raw[i].length = s->length;
		} else {
			t->raw[i].length = raw_of(v->kind, at, s->text, s->length);
		}
		at += t->raw[i].length;
	}
	return 0;
}

/* Whether text can be made of this token. A SentencePiece piece that is spelled
 * with a plain space matches nothing: text has U+2581 there. */
static bool is_piece(const struct hr_tokenizer *t, int32_t id)
{
	const struct hr_string *s = &t->vocab.tokens[id];
	enum hr_token_type      type = type_of(&t->vocab, id);
	if (!s->length || type == HR_TOKEN_CONTROL || type == HR_TOKEN_UNKNOWN)
		return false;
	if (!is_spaced(t->vocab.kind))
		return true;
	return type != HR_TOKEN_BYTE && (t->vocab.types || byte_of(s) < 0) && !memchr(s->text, ' ', s->length);
}

static int build_pieces(struct hr_tokenizer *t, struct hr_error *err)
{
	if (hr__text_map_init(&t->pieces, t->vocab.n_tokens))
		return HR_ENOMEM;
	/* Ordinary tokens first: a user-defined one of the same bytes is found as an added
	 * token, an unused one never. */
	for (int pass = 0; pass < 2; pass++)
		for (int32_t i = 0; i < t->vocab.n_tokens; i++) {
			enum hr_token_type type = type_of(&t->vocab, i);
			bool               second = type == HR_TOKEN_USER_DEFINED || type == HR_TOKEN_UNUSED;
			if (second != (pass == 1) || !is_piece(t, i))
				continue;
			int32_t first = hr__text_map_add(&t->pieces, t->raw, i);
			if (first != i && !second)
				return hr__fail(err, HR_EFORMAT, "Tokens %d and %d of the vocabulary are both \"%s\".", first,
				                i, show(&t->vocab.tokens[i]).text);
			if (t->raw[i].length > t->longest_piece)
				t->longest_piece = t->raw[i].length;
		}
	return 0;
}

/* Byte-level: printable ASCII is needed, other bytes may be missing (real vocabularies
 * lack those that their corpus lacked). SPM: the space, and all bytes where they are fallen back to. */
static int check_bytes(struct hr_tokenizer *t, struct hr_error *err)
{
	const struct hr_vocab *v = &t->vocab;
	if (v->kind == HR_TOKENIZER_SPM && hr__text_map_find(&t->pieces, t->raw, " ", 1) < 0)
		return hr__fail(err, HR_EFORMAT, "The SPM vocabulary has no piece for a space (U+2581).");
	if (v->kind == HR_TOKENIZER_SPM && !v->scores && !v->byte_fallback && !v->use_unk)
		return hr__fail(
		    err, HR_EFORMAT,
		    "The SPM tokenizer has neither byte tokens nor an unknown token for text outside of its "
		    "vocabulary.");
	for (int b = 0; b < 256; b++) {
		char c = (char)b;
		if (v->kind == HR_TOKENIZER_BPE) {
			t->byte_ids[b] = hr__text_map_find(&t->pieces, t->raw, &c, 1);
			if (t->byte_ids[b] < 0 && b >= 0x20 && b < 0x7f)
				return hr__fail(err, HR_EFORMAT,
				                "The BPE vocabulary has no token for the byte 0x%02X ('%c').", b, b);
		} else if (t->byte_ids[b] < 0 && (v->scores || v->byte_fallback)) {
			return hr__fail(err, HR_EFORMAT, "The SPM vocabulary has no byte token <0x%02X>.", b);
		}
	}
	return 0;
}

static int build_merges(struct hr_tokenizer *t, struct hr_error *err)
{
	const struct hr_vocab *v = &t->vocab;
	size_t                 capacity = 0;
	char                  *raw = NULL;
	int                    rc = hr__pair_map_init(&t->merges, v->n_merges);
	for (int32_t i = 0; i < v->n_merges && !rc; i++) {
		const struct hr_string *m = &v->merges[i];
		const char             *space = m->length > 1 ? memchr(m->text + 1, ' ', m->length - 1) : NULL;
		rc = hr__reserve((void **)&raw, &capacity, m->length + 2, 1);
		if (rc)
			break;
		size_t  left_length = space ? (size_t)(space - m->text) : 0;
		size_t  left = space ? raw_of(v->kind, raw, m->text, left_length) : 0;
		size_t  right = space ? raw_of(v->kind, raw + left, space + 1, m->length - left_length - 1) : 0;
		int32_t a = left ? hr__text_map_find(&t->pieces, t->raw, raw, left) : -1;
		int32_t b = right ? hr__text_map_find(&t->pieces, t->raw, raw + left, right) : -1;
		int32_t ab = left && right ? hr__text_map_find(&t->pieces, t->raw, raw, left + right) : -1;
		if (a < 0 || b < 0 || ab < 0)
			rc = hr__fail(err, HR_EFORMAT, "Merge %d, \"%s\", %s.", i, show(m).text,
			              !left || !right ? "is not two pieces with a space between them"
			              : a < 0         ? "has a left piece that is not in the vocabulary"
			              : b < 0         ? "has a right piece that is not in the vocabulary"
			                              : "makes a piece that is not in the vocabulary");
		else if (!hr__pair_map_add(&t->merges, a, b, (uint32_t)i, ab))
			rc = hr__fail(err, HR_EFORMAT, "Merge %d, \"%s\", stands twice in the list of merges.", i,
			              show(m).text);
	}
	free(raw);
	return rc;
}

struct scored {
	double  score;
	int32_t id;
};

static int by_score(const void *a, const void *b)
{
	const struct scored *x = a, *y = b;
	return x->score != y->score ? (x->score > y->score ? -1 : 1) : (x->id > y->id) - (x->id < y->id);
}

static int build_ranks(struct hr_tokenizer *t, struct hr_error *err)
{
	int32_t        n = t->vocab.n_tokens;
	struct scored *sorted = hr__calloc((size_t)n, sizeof *sorted);
	int            rc = HR_ENOMEM;
	t->ranks = hr__calloc((size_t)n, sizeof *t->ranks);
	if (!sorted || !t->ranks)
		goto done;
	for (int32_t i = 0; i < n; i++) {
		sorted[i] = (struct scored){.score = t->vocab.scores[i], .id = i};
		if (isnan(sorted[i].score)) {
			rc = hr__fail(err, HR_EFORMAT, "The score of token %d is not a number.", i);
			goto done;
		}
	}
	qsort(sorted, (size_t)n, sizeof *sorted, by_score);
	for (int32_t i = 1; i < n; i++)
		t->ranks[sorted[i].id] = t->ranks[sorted[i - 1].id] + (sorted[i].score != sorted[i - 1].score);
	rc = 0;
done:
	free(sorted);
	return rc;
}

/* The trie that text is looked up in: unlike the other kinds', it has bytes as they are spelled, as the
 * `tokenizers` library has it. */
static int build_unigram(struct hr_tokenizer *t, struct hr_error *err)
{
	const struct hr_vocab *v = &t->vocab;
	double                 smallest = INFINITY;
	for (int32_t i = 0; i < v->n_tokens; i++) {
		const struct hr_string *s = &v->tokens[i];
		bool                    is_byte = type_of(v, i) == HR_TOKEN_BYTE;
		if (isnan(v->scores[i]))
			continue;
		if (isinf(v->scores[i]))
			return hr__fail(err, HR_EFORMAT, "The score of token %d, \"%s\", is infinite.", i, show(s).text);
		smallest = v->scores[i] < smallest ? v->scores[i] : smallest;
		if ((is_byte || is_piece(t, i)) && hr__added_insert(&t->unigram, is_byte ? s->text : t->raw[i].text,
		                                                    is_byte ? s->length : t->raw[i].length, i))
			return HR_ENOMEM;
	}
	t->unk_score = smallest - 10;
	return hr__normalizer_new(&t->normalizer, v, err);
}

static bool are_words_apart(const struct hr_tokenizer *t)
{
	if (t->vocab.ignore_merges)
		return false;
	for (int32_t i = 0; i < t->vocab.n_tokens; i++)
		for (size_t k = 1; is_piece(t, i) && k < t->raw[i].length; k++)
			if (t->raw[i].text[k] == ' ' && t->raw[i].text[k - 1] != ' ')
				return false;
	return true;
}

static int build_added(struct hr_tokenizer *t, struct hr_error *err)
{
	int rc = 0;
	for (int32_t i = 0; i < t->vocab.n_tokens && !rc; i++) {
		const struct hr_string *s = &t->vocab.tokens[i];
		if (!is_added(type_of(&t->vocab, i)))
			continue;
		if (s->length > MAX_ADDED_BYTES)
			return hr__fail(err, HR_EFORMAT, "The added token %d has %zu bytes; at most %d are supported.", i,
			                s->length, MAX_ADDED_BYTES);
		bool   normalized = t->vocab.added && t->vocab.added[i] & HR_ADDED_NORMALIZED;
		char  *text = NULL;
		size_t length = s->length;
		if (normalized && s->length && hr__utf8_is_valid(s->text, s->length))
			rc = hr__normalize(t, &text, &length, s->text, s->length);
		if (!rc)
			rc = hr__added_insert(&t->added[normalized], text ? text : s->text, text ? length : s->length, i);
		free(text);
	}
	return rc;
}

/* What ends a generation, besides what the file says, in the families known. */
static void find_end_tokens(struct hr_vocab *v)
{
	static const char *const ends[] = {"<|im_end|>", "<|eot_id|>",    "<|eom_id|>",     "<|end_of_text|>",
	                                   "</s>",       "<|endoftext|>", "<|end|>",        "<|eot|>",
	                                   "<|EOT|>",    "<end_of_turn>", "<|end_of_turn|>"};
	for (int32_t i = 0; v->types && i < v->n_tokens; i++) {
		bool is_end = false, is_known = i == v->eos;
		for (size_t k = 0; v->types[i] == HR_TOKEN_CONTROL && k < HR_COUNT_OF(ends); k++)
			is_end |= v->tokens[i].length == strlen(ends[k]) &&
			          !memcmp(v->tokens[i].text, ends[k], strlen(ends[k]));
		for (int32_t k = 0; k < v->n_eog; k++)
			is_known |= v->eog[k] == i;
		if (is_end && !is_known && v->n_eog < (int32_t)HR_COUNT_OF(v->eog))
			v->eog[v->n_eog++] = i;
	}
}

int hr__tokenizer_build(struct hr_tokenizer *t, struct hr_error *err)
{
	struct hr_vocab *v = &t->vocab;
	for (int b = 0; b < 256; b++)
		t->byte_ids[b] = -1;
	int rc = check_vocab(v, err);
	if (!rc && v->kind == HR_TOKENIZER_BPE)
		rc = hr__pretokenizer_new(&t->pre, v, err);
	rc = rc ? rc : build_raw(t, err);
	rc = rc ? rc : build_pieces(t, err);
	if (!rc && v->kind == HR_TOKENIZER_UNIGRAM)
		rc = build_unigram(t, err);
	if (!rc && v->kind < HR_TOKENIZER_WORDPIECE)
		rc = check_bytes(t, err);
	if (!rc && v->kind < HR_TOKENIZER_WORDPIECE)
		rc = v->kind == HR_TOKENIZER_SPM && v->scores ? build_ranks(t, err) : build_merges(t, err);
	rc = rc ? rc : build_added(t, err);
	if (rc)
		return rc == HR_ENOMEM ? hr__fail(err, rc, "Out of memory while building the tokenizer.") : rc;
	t->words_apart = v->kind == HR_TOKENIZER_SPM && are_words_apart(t);
	find_end_tokens(v);
	return 0;
}
