/* What the files of this directory share: the built tokenizer, the scratch
 * memory of one encode call, and the steps of the pipeline.
 *
 *     text -> valid UTF-8 -> added tokens split off -> normalised -> added tokens
 *     that want normalised text split off -> pre-tokens -> pieces merged -> ids
 *
 * Inside, U+2581 is a plain space: the two mean the same to a SentencePiece
 * vocabulary, and a piece is then the bytes it stands for. */
#ifndef HR_RUNTIME_TOKENIZER_INTERNAL_H
#define HR_RUNTIME_TOKENIZER_INTERNAL_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include "runtime/tokenizer/tokenizer.h"

#include <pcre2.h>

/* ---- tables.c: hash tables, built once, then only read ---- */

struct hr__text_map { /* text of a piece -> its id */
	struct hr__text_slot {
		uint32_t hash;
		int32_t  id; /* -1: empty */
	} * slots;       /* [mask + 1] */
	uint32_t mask;
};

struct hr__pair_map { /* two neighbours -> the piece they merge into */
	struct hr__pair_slot {
		uint64_t pair; /* left id << 32 | right id */
		uint32_t rank; /* lower merges first */
		int32_t  id;   /* -1: empty */
	} * slots;         /* [mask + 1] */
	uint32_t mask;
};

int     hr__text_map_init(struct hr__text_map *map, int32_t n_entries);
int32_t hr__text_map_find(const struct hr__text_map *map, const struct hr_string *raw, const char *text,
                          size_t length);
/* Returns the id that already has this text, or `id` itself once stored. */
int32_t hr__text_map_add(struct hr__text_map *map, const struct hr_string *raw, int32_t id);

int                         hr__pair_map_init(struct hr__pair_map *map, int32_t n_entries);
const struct hr__pair_slot *hr__pair_map_find(const struct hr__pair_map *map, int32_t left, int32_t right);
/* False: the pair is there already. */
bool hr__pair_map_add(struct hr__pair_map *map, int32_t left, int32_t right, uint32_t rank, int32_t id);

/* ---- added.c: a trie of texts, and tokens that are found in the text before all else ---- */

struct hr__added_node {
	unsigned char byte;
	int32_t       child, sibling; /* node indices, 0: none */
	int32_t       id;             /* of the token that ends here, -1: none */
};

struct hr__added { /* a trie; node 0 is the root */
	struct hr__added_node *nodes;
	int32_t                n_nodes, capacity;
	int32_t                first[256]; /* the root's children by byte, 0: none */
};

int hr__added_insert(struct hr__added *added, const char *text, size_t length, int32_t id);

/* The node that `byte` leads to from `node`; 0: none. */
int32_t hr__added_step(const struct hr__added *added, int32_t node, unsigned char byte);

struct hr__span {
	size_t  start, end;
	int32_t id; /* -1: plain text */
};

struct hr__added_iter {
	const struct hr_tokenizer *t;
	const struct hr__added    *added;
	const char                *text;
	size_t                     length, at, plain; /* next byte to look at; end of what was handed out */
	bool                       special;
	struct hr__span            pending; /* a token whose plain text went first; end 0: none */
};

void hr__added_begin(struct hr__added_iter *it, const struct hr_tokenizer *t, const struct hr__added *added,
                     const char *text, size_t length, bool special);
bool hr__added_next(struct hr__added_iter *it, struct hr__span *span);

/* ---- utf8.c ---- */

/* Bytes of the character at text (length > 0), and its code point; 0 when it is
 * invalid, then *codepoint is how many bytes to replace by one U+FFFD. */
size_t hr__utf8_decode(const char *text, size_t length, uint32_t *codepoint);
bool   hr__utf8_is_valid(const char *text, size_t length);
/* A copy with U+FFFD for what is invalid; NULL: out of memory. */
char *hr__utf8_repair(const char *text, size_t length, size_t *out_length);
/* In *out the NFC of valid UTF-8, to be freed, or NULL when the text is surely NFC already. */
int hr__utf8_nfc(char **out, size_t *out_length, const char *text, size_t length);
/* Small letters; out has room for two bytes per byte. */
size_t hr__utf8_lower(char *out, const char *text, size_t length);
bool   hr__utf8_is_space(uint32_t codepoint);
bool   hr__utf8_is_word(uint32_t codepoint);

/* ---- the scratch memory of one call ---- */

struct hr__symbol {
	int32_t  prev, next;    /* -1: none */
	int32_t  id;            /* -1: no such piece (scores only) */
	uint32_t start, length; /* length 0: merged into its left neighbour */
};

struct hr__bigram {
	uint32_t rank;
	int32_t  left, id;
};

struct hr__best { /* the best way to the byte it stands for */
	double   score;
	uint32_t start; /* of its last piece */
	int32_t  id;    /* -1: no way yet */
};

struct hr__work {
	int32_t           *ids;
	size_t             n_ids, ids_capacity;
	struct hr__symbol *symbols;
	size_t             symbols_capacity;
	struct hr__bigram *heap;
	size_t             n_heap, heap_capacity;
	struct hr__best   *best;
	size_t             best_capacity;
	char              *spaced;
	size_t             spaced_capacity;
	pcre2_match_data  *match;
	struct hr_error   *err;
};

/* Make room for `need` elements; HR_ENOMEM. */
int hr__reserve(void **array, size_t *capacity, size_t need, size_t element_bytes);
int hr__push_id(struct hr__work *w, int32_t id);

/* ---- pretokenize.c ---- */

struct hr__pretokenizer;
typedef int (*hr__piece_fn)(const struct hr_tokenizer *t, struct hr__work *w, const char *text,
                            size_t length);

/* By GGUF name (which may also set nfc and ignore_merges) or by patterns. */
/* GGUF's name of what cuts text as `vocab` does; false: there is none. *exact: it normalises and takes whole
 * words alike, too. */
bool hr__pretokenizer_name(const struct hr_vocab *vocab, char name[32], bool *exact);
int  hr__pretokenizer_new(struct hr__pretokenizer **out, struct hr_vocab *vocab, struct hr_error *err);
void hr__pretokenizer_free(struct hr__pretokenizer *pre);
int  hr__pretokenizer_split(const struct hr__pretokenizer *pre, const struct hr_tokenizer *t,
                            struct hr__work *w, const char *text, size_t length, hr__piece_fn piece);
extern const char hr__pattern_gpt2[];
/* A regular expression in Oniguruma's spelling. */
int hr__pattern_compile(pcre2_code **out, const char *pattern, size_t length, struct hr_error *err);

/* ---- normalize.c: the steps of a Unigram tokenizer, in order ---- */

struct hr__normalizer;
int  hr__normalizer_new(struct hr__normalizer **out, const struct hr_vocab *vocab, struct hr_error *err);
void hr__normalizer_free(struct hr__normalizer *normalizer);
/* *out is NULL where there is no step; HR_ENOMEM. */
int hr__normalizer_run(const struct hr__normalizer *normalizer, char **out, size_t *out_length,
                       const char *text, size_t length);

/* ---- charsmap.c: SentencePiece's table of what characters become ---- */

struct hr__charsmap {
	const unsigned char *trie; /* [n_units][4] a double array, little-endian */
	size_t               n_units;
	const char          *texts; /* what the trie's values are offsets into; each ends at a NUL or the end */
	size_t               n_texts;
};

/* Over `blob`, which is borrowed. */
int hr__charsmap_init(struct hr__charsmap *map, const struct hr_string *blob, struct hr_error *err);
/* What text begins with in the table, at the end of a character; bytes of it, 0: nothing. The shortest or the
 * longest. */
size_t hr__charsmap_find(const struct hr__charsmap *map, const char *text, size_t length, bool longest,
                         struct hr_string *becomes);

/* ---- merge.c, bpe.c, spm.c, unigram.c, wordpiece.c ---- */

int hr__merge(const struct hr_tokenizer *t, struct hr__work *w, const char *text, size_t length);
int hr__bpe_encode(const struct hr_tokenizer *t, struct hr__work *w, const char *text, size_t length);
int hr__spm_encode(const struct hr_tokenizer *t, struct hr__work *w, const char *text, size_t length,
                   bool at_start);
/* The likeliest pieces of a text in which U+2581 is a space. */
int hr__unigram_encode(const struct hr_tokenizer *t, struct hr__work *w, const char *text, size_t length);
/* Spaces for U+2581, with a space in front if asked and not empty; out has room for length + 1. */
size_t hr__spm_space(char *out, const char *text, size_t length, bool prefix);

int hr__wordpiece_normalize(const struct hr_tokenizer *t, char **out, size_t *out_length, const char *text,
                            size_t length);
int hr__wordpiece_encode(const struct hr_tokenizer *t, struct hr__work *w, const char *text, size_t length);

/* The byte that a character of GPT-2's byte alphabet stands for; -1: none. */
int hr__bpe_byte_of(uint32_t codepoint);

/* ---- build.c ---- */

struct hr_tokenizer {
	struct hr_vocab          vocab;
	struct hr_string        *raw; /* [n_tokens] the bytes a token stands for, in `arena` */
	char                    *arena;
	struct hr__text_map      pieces; /* tokens that text is made of */
	struct hr__pair_map      merges; /* by ranks */
	uint32_t                *ranks;  /* [n_tokens] by scores, else NULL */
	size_t                   longest_piece;
	int32_t                  byte_ids[256]; /* -1: none */
	bool                     words_apart;   /* SPM: no piece has a space behind another character */
	struct hr__pretokenizer *pre;           /* BPE */
	struct hr__normalizer   *normalizer;    /* Unigram */
	struct hr__added         unigram;       /* Unigram: the pieces, as a trie */
	double                   unk_score;     /* Unigram: of a character without a piece */
	struct hr__added         added[2];      /* looked for in the text; in the normalised text */
};

int hr__tokenizer_build(struct hr_tokenizer *t, struct hr_error *err);
/* Normalise plain text; *out is NULL where nothing had to be done. */
int hr__normalize(const struct hr_tokenizer *t, char **out, size_t *out_length, const char *text,
                  size_t length);

#endif
