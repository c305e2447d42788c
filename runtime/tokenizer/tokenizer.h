/* Text to token ids and back: byte-level BPE, SentencePiece-style BPE, Unigram and WordPiece.
 *
 * A tokenizer is built from a struct hr_vocab, which the formats fill: from
 * GGUF metadata or from a tokenizer.json. It is immutable once built, so any
 * number of threads may use it. */
#ifndef HR_RUNTIME_TOKENIZER_H
#define HR_RUNTIME_TOKENIZER_H

#include "headrace/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum hr_tokenizer_kind {
	HR_TOKENIZER_BPE, /* byte-level, ranked merges (GPT-2 and successors) */
	HR_TOKENIZER_SPM, /* SentencePiece-style: pieces with U+2581, byte fallback; by scores or by merges */
	HR_TOKENIZER_WORDPIECE, /* BERT: words of the longest pieces, ## before those inside of a word */
	HR_TOKENIZER_UNIGRAM,   /* SentencePiece's other model: the likeliest pieces, by scores */
};

/* GGUF's tokenizer.ggml.token_type. */
enum hr_token_type {
	HR_TOKEN_NORMAL = 1,
	HR_TOKEN_UNKNOWN = 2,
	HR_TOKEN_CONTROL = 3,
	HR_TOKEN_USER_DEFINED = 4,
	HR_TOKEN_UNUSED = 5,
	HR_TOKEN_BYTE = 6,
};

struct hr_string {
	char  *text; /* not necessarily NUL-free; length counts */
	size_t length;
};

/* How a token that is split off before all else is looked for (tokenizer.json's added_tokens). */
enum hr_added_flag {
	HR_ADDED_LSTRIP = 1,      /* takes the whitespace before it */
	HR_ADDED_RSTRIP = 2,      /* takes the whitespace behind it */
	HR_ADDED_SINGLE_WORD = 4, /* not inside a word */
	HR_ADDED_NORMALIZED = 8,  /* looked for in the normalised text */
};

/* A step of normalising (tokenizer.json's normalizer), for Unigram. */
struct hr_normal_step {
	enum {
		HR_NORMAL_CHARSMAP, /* SentencePiece's table, `text`, grapheme by grapheme as `tokenizers` reads it
		                       ... */
		HR_NORMAL_CHARSMAP_LONGEST, /* ... or by the longest match, as SentencePiece does */
		HR_NORMAL_NFC,
		HR_NORMAL_NFD,
		HR_NORMAL_NFKC,
		HR_NORMAL_NFKD,
		HR_NORMAL_STRIP_ACCENTS,
		HR_NORMAL_LOWERCASE,
		HR_NORMAL_STRIP_LEFT,
		HR_NORMAL_STRIP_RIGHT,
		HR_NORMAL_REPLACE, /* each match of the regular expression `text` becomes `with` */
		HR_NORMAL_PREPEND, /* `text` in front, unless there is nothing */
	} kind;
	struct hr_string text, with;
};

/* Everything that describes a tokenizer, in the words of neither format.
 * Owned strings and arrays; hr_vocab_release() frees them. */
struct hr_vocab {
	enum hr_tokenizer_kind kind;
	int32_t                n_tokens;
	struct hr_string      *tokens; /* [n_tokens] as the file spells them: BPE in GPT-2's byte alphabet */
	double                *scores; /* [n_tokens] or NULL; Unigram: not a number for no piece of the model */
	uint8_t               *types;  /* [n_tokens] enum hr_token_type, or NULL (all NORMAL) */
	int32_t                n_merges;
	struct hr_string      *merges; /* [n_merges] "left right", best first; or NULL */
	char                  *pre;    /* BPE: GGUF's name of the pre-tokenizer ("llama-bpe", "qwen2", ...) */
	int32_t                n_patterns;
	struct hr_string      *patterns; /* BPE: [n_patterns] regular expressions in order; NULL: see `pre` */
	int32_t                bos, eos, unk, pad; /* -1: none */
	int32_t                n_eog;
	int32_t                eog[16]; /* further tokens that end a generation */
	bool                   add_bos, add_eos;
	bool                   add_space_prefix; /* SPM: a space before each stretch between control tokens */
	bool                   ignore_merges; /* a whole pre-token that is in the vocabulary is taken at once */
	char                  *chat_template; /* Jinja text, or NULL */

	/* What only a tokenizer.json says; all zero is right for GGUF. */
	uint8_t *added; /* [n_tokens] enum hr_added_flag of tokens that are split off first, or NULL */
	bool     nfc;   /* BPE: normalise to NFC first */
	bool     use_unk, fuse_unk; /* text without a piece becomes unk (a run of it one unk); else left out */
	bool     byte_fallback;     /* text without a piece becomes bytes; SPM by scores: always so */
	bool     metaspace;         /* SPM, Unigram: no space prefix where text begins with a space ... */
	bool     prefix_first_only; /* ... and nowhere but where the whole text begins */
	bool     split_at_spaces;   /* SPM, Unigram: no piece has a space behind its first character */
	bool     split_whitespace;  /* Unigram: whitespace parts words, and is left out */
	int32_t  n_steps;
	struct hr_normal_step *steps; /* Unigram: [n_steps] in order, or NULL */

	bool    clean_text, split_ideographs, strip_accents, lowercase; /* WordPiece: how text is normalised */
	int32_t max_word_chars;                                         /* WordPiece: longer words are unknown */
	/* Two texts as one, BOS a EOS b EOS: how many EOS stand between them (0: the tokenizer has no
	 * template for it), and whether tokens behind them are of another type. */
	int32_t pair_separators;
	bool    pair_types;
};

void hr_vocab_release(struct hr_vocab *vocab);

/* Read tokenizer.json with tokenizer_config.json, special_tokens_map.json and
 * generation_config.json where present, from a Hugging Face directory. */
int hr_vocab_read_hf(struct hr_vocab *vocab, const char *directory, struct hr_error *err);

struct hr_tokenizer;

/* Takes over *vocab (also on failure). HR_EFORMAT: a needed piece is missing
 * (byte tokens, unknown token, merges of unknown pieces), named. HR_EUNSUPPORTED:
 * an unknown pre-tokenizer or model type, named with what is supported. */
int  hr_tokenizer_new(struct hr_tokenizer **out, struct hr_vocab *vocab, struct hr_error *err);
void hr_tokenizer_free(struct hr_tokenizer *t);

const struct hr_vocab *hr_tokenizer_vocab(const struct hr_tokenizer *t);

/* Encode UTF-8 (what is invalid counts as U+FFFD, one for each maximal subpart). `special`: text of control
 * tokens is recognised; otherwise it is plain text. `add`: add BOS/EOS as the vocab says. Returns the number
 * of ids and stores at most `capacity` of them; negative: HR_E code. */
int64_t hr_tokenizer_encode(const struct hr_tokenizer *t, const char *text, size_t length, bool add,
                            bool special, int32_t *ids, size_t capacity, struct hr_error *err);

/* The bytes that `id` adds to a text: may be part of a character; empty for
 * control tokens unless `special`. Returns the number of bytes, stores at most
 * capacity. HR_EINVAL: no such id. SPM: the first token's leading space is kept; see
 * hr_tokenizer_strips_first_space(). */
int64_t hr_tokenizer_token_bytes(const struct hr_tokenizer *t, int32_t id, bool special, char *out,
                                 size_t capacity);

/* Whether decoding drops one leading space of a whole text (SPM or Unigram with a space prefix). */
bool hr_tokenizer_strips_first_space(const struct hr_tokenizer *t);

/* "bpe", "spm", "wordpiece", "unigram" */
const char *hr_tokenizer_kind_name(enum hr_tokenizer_kind kind);

bool hr_tokenizer_is_eog(const struct hr_tokenizer *t, int32_t id);

#endif
