/* A vocabulary for models that were never trained: SentencePiece-style, so that
 * any text can be tokenized and any output printed.
 *
 * In order: <unk>, <s>, </s>, the 256 byte tokens, U+2581 (the space) and the
 * printable ASCII characters, a few English pieces, and fillers "[1234]" up to
 * the size of the model. A piece can be reached when it is the sum of two that are
 * there; scores fall with the id, so earlier pieces merge first. */
#include "runtime/format/synth.h"

#include "base/mem.h"

#include <stdio.h>

#define FIRST_BYTE      3
#define FIRST_CHARACTER (FIRST_BYTE + 256)
#define FIRST_PIECE     (FIRST_CHARACTER + 1 + 94)
#define SPACE           "\xe2\x96\x81"

/* '_' is the space. */
static const char *const pieces[] = {
    "_t",  "_a",   "he",   "in",   "re",   "on",    "_the", "_s",   "er",    "_w",  "at",  "_o",   "en",
    "_c",  "it",   "is",   "an",   "or",   "es",    "_b",   "ed",   "_f",    "ing", "_p",  "ou",   "_an",
    "al",  "ar",   "_to",  "_m",   "_of",  "_in",   "_d",   "_h",   "_and",  "ic",  "as",  "le",   "_th",
    "ion", "om",   "ll",   "ent",  "_n",   "_l",    "st",   "_re",  "_be",   "_e",  "ro",  "il",   "_g",
    "ve",  "ly",   "us",   "ut",   "_is",  "_it",   "_on",  "ac",   "ay",    "am",  "_he", "ur",   "ol",
    "_as", "_wh",  "_st",  "ce",   "ow",   "ch",    "ir",   "_for", "_that", "ad",  "ct",  "id",   "im",
    "et",  "_you", "_was", "_wi",  "th",   "_with", "_I",   "_y",   "se",    "ter", "ver", "_not", "_al",
    "_at", "_we",  "_ha",  "ment", "_are", "ate",   "_or",
};

/* Pieces name their space by '_'; the text has the real one. */
static void expand(char *text, const char *piece)
{
	size_t used = 0;
	for (; *piece; piece++)
		used +=
		    (size_t)snprintf(text + used, HR_SYNTH_TOKEN_BYTES - used, *piece == '_' ? SPACE : "%c", *piece);
}

enum hr_token_type hr__synth_token(int32_t id, char text[HR_SYNTH_TOKEN_BYTES], float *score)
{
	static const char *const specials[FIRST_BYTE] = {"<unk>", "<s>", "</s>"};
	*score = id < FIRST_CHARACTER ? 0 : (float)(FIRST_CHARACTER - 1 - id);
	if (id < FIRST_BYTE) {
		snprintf(text, HR_SYNTH_TOKEN_BYTES, "%s", specials[id]);
		return id == 0 ? HR_TOKEN_UNKNOWN : HR_TOKEN_CONTROL;
	}
	if (id < FIRST_CHARACTER) {
		snprintf(text, HR_SYNTH_TOKEN_BYTES, "<0x%02X>", id - FIRST_BYTE);
		return HR_TOKEN_BYTE;
	}
	if (id == FIRST_CHARACTER)
		snprintf(text, HR_SYNTH_TOKEN_BYTES, SPACE);
	else if (id < FIRST_PIECE)
		snprintf(text, HR_SYNTH_TOKEN_BYTES, "%c", '!' + (id - FIRST_CHARACTER - 1));
	else if (id - FIRST_PIECE < (int32_t)HR_COUNT_OF(pieces))
		expand(text, pieces[id - FIRST_PIECE]);
	else
		snprintf(text, HR_SYNTH_TOKEN_BYTES, "[%d]", id);
	return HR_TOKEN_NORMAL;
}
