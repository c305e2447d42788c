/* Reading tests/golden/tokenizer, see scripts/make-tokenizer-goldens. Included by
 * the few tests that compare with it; run from the root of the source tree. */
#ifndef HR_TESTS_TOKENIZER_GOLDEN_H
#define HR_TESTS_TOKENIZER_GOLDEN_H

#include "runtime/tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN_DIR "tests/golden/tokenizer/"

static inline void golden_fail(const char *what, const char *detail)
{
	fprintf(stderr, "%s: %s\n", what, detail);
	exit(1);
}

/* The whole file, with a NUL behind it. */
static inline char *golden_read(const char *path, size_t *length)
{
	FILE *f = fopen(path, "rb");
	if (!f)
		golden_fail(path, "cannot be opened");
	fseek(f, 0, SEEK_END);
	long  n = ftell(f);
	char *data = malloc((size_t)n + 1);
	rewind(f);
	if (n < 0 || !data || fread(data, 1, (size_t)n, f) != (size_t)n)
		golden_fail(path, "cannot be read");
	fclose(f);
	data[n] = 0;
	*length = (size_t)n;
	return data;
}

/* pieces.tsv: piece, score, type. */
static inline void golden_read_pieces(struct hr_vocab *v, const char *path)
{
	size_t length;
	char  *data = golden_read(path, &length);
	int    n = 0;
	for (size_t i = 0; i < length; i++)
		n += data[i] == '\n';
	*v = (struct hr_vocab){.kind = HR_TOKENIZER_SPM,
	                       .n_tokens = n,
	                       .add_space_prefix = true,
	                       .unk = 0,
	                       .bos = 1,
	                       .eos = 2,
	                       .pad = -1};
	v->tokens = calloc((size_t)n, sizeof *v->tokens);
	v->scores = calloc((size_t)n, sizeof *v->scores);
	v->types = calloc((size_t)n, 1);
	char *at = data;
	for (int i = 0; i < n; i++) {
		size_t piece = strcspn(at, "\t");
		v->tokens[i].text = strndup(at, piece);
		v->tokens[i].length = piece;
		v->scores[i] = strtof(at + piece, &at);
		v->types[i] = (uint8_t)strtol(at, &at, 10);
		at++;
	}
	free(data);
}

static inline struct hr_tokenizer *golden_open(const char *kind)
{
	struct hr_error      err = {0};
	struct hr_vocab      v = {0};
	struct hr_tokenizer *t = NULL;
	char                 path[200];
	if (!strcmp(kind, "sentencepiece")) {
		golden_read_pieces(&v, GOLDEN_DIR "sentencepiece/pieces.tsv");
	} else {
		snprintf(path, sizeof path, GOLDEN_DIR "%s", kind);
		if (hr_vocab_read_hf(&v, path, &err))
			golden_fail(kind, err.message);
	}
	if (hr_tokenizer_new(&t, &v, &err))
		golden_fail(kind, err.message);
	return t;
}

static inline uint32_t golden_crc32(const void *data, size_t length)
{
	uint32_t crc = ~0u;
	for (size_t i = 0; i < length; i++) {
		crc ^= ((const unsigned char *)data)[i];
		for (int k = 0; k < 8; k++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
	}
	return ~crc;
}

/* The ids expected for record i, where they are stored in full; else "". */
static inline const char *golden_full(const char *full, int record)
{
	for (const char *line = full; line && *line; line = strchr(line, '\n'), line += line != NULL)
		if (atoi(line) == record)
			return line;
	return "";
}

/* Ids as one line, a space before each. */
static inline char *golden_print(const int32_t *ids, int64_t n)
{
	char *out = calloc((size_t)n + 1, 12), *at = out;
	for (int64_t i = 0; i < n; i++)
		at += sprintf(at, " %d", ids[i]);
	return out;
}

/* How many records tokenize differently; the first few are printed. */
static inline int golden_count_mismatches(const struct hr_tokenizer *t, const char *name, bool add,
                                          bool special)
{
	char   path[200];
	size_t n_corpus, n_ids, n_full;
	char  *corpus = golden_read(GOLDEN_DIR "corpus.bin", &n_corpus);
	snprintf(path, sizeof path, GOLDEN_DIR "%s.ids", name);
	unsigned char *want = (unsigned char *)golden_read(path, &n_ids);
	snprintf(path, sizeof path, GOLDEN_DIR "%s.full", name);
	char    *full = golden_read(path, &n_full);
	int32_t *ids = malloc(sizeof *ids * 65536);
	int      bad = 0, record = 0;
	for (size_t at = 0; at < n_corpus; record++) {
		size_t          length = strlen(corpus + at);
		struct hr_error err = {0};
		int64_t         n = hr_tokenizer_encode(t, corpus + at, length, add, special, ids, 65536, &err);
		unsigned char  *w = want + (size_t)record * 6;
		uint32_t    crc = (uint32_t)w[2] | (uint32_t)w[3] << 8 | (uint32_t)w[4] << 16 | (uint32_t)w[5] << 24;
		char       *got = n < 0 ? strdup(err.message) : golden_print(ids, n);
		const char *line = strchr(golden_full(full, record), ' ');
		size_t      line_length = line ? strcspn(line, "\n") : 0;
		bool        same = n == (w[0] | w[1] << 8) && golden_crc32(ids, (size_t)n * sizeof *ids) == crc;
		if (same && record % 97 == 0 && n > 0)
			same = line_length == strlen(got) && !memcmp(line, got, line_length);
		if (!same && bad++ < 10)
			fprintf(stderr, "%s: record %d \"%s\": got%s\n", name, record, corpus + at, got);
		free(got);
		at += length + 1;
	}
	if (n_ids != (size_t)record * 6)
		golden_fail(name, "has another number of records than the corpus");
	fprintf(stderr, "%s: %d of %d records differ\n", name, bad, record);
	free(corpus);
	free(want);
	free(full);
	free(ids);
	return bad;
}

/* How many records of valid UTF-8 do not come back from their ids. */
static inline int golden_count_broken_round_trips(const struct hr_tokenizer *t)
{
	size_t   n_corpus;
	char    *corpus = golden_read(GOLDEN_DIR "corpus.bin", &n_corpus);
	int32_t *ids = malloc(sizeof *ids * 65536);
	char    *text = malloc(1 << 20);
	int      bad = 0, valid = 0;
	for (size_t at = 0, length; at < n_corpus; at += length + 1) {
		length = strlen(corpus + at);
		int64_t n = hr_tokenizer_encode(t, corpus + at, length, false, true, ids, 65536, NULL), got = 0;
		for (int64_t i = 0; i < n; i++)
			got += hr_tokenizer_token_bytes(t, ids[i], true, text + got, (size_t)((1 << 20) - got));
		bool same = n >= 0 && (size_t)got == length && !memcmp(text, corpus + at, length);
		text[got] = 0;
		if (same)
			valid++;
		else if (!strstr(text, "\xef\xbf\xbd") && bad++ < 10) /* U+FFFD: the record was not valid */
			fprintf(stderr, "round trip: \"%s\" came back as \"%s\"\n", corpus + at, text);
	}
	if (valid < 19000)
		golden_fail("round trip", "too few records came back");
	free(corpus);
	free(ids);
	free(text);
	return bad;
}

#endif
