/* Byte-level BPE, as GPT-2 and its successors have it: the text is cut into
 * pre-tokens by regular expressions, and each pre-token's bytes are merged by rank.
 * Vocabularies spell bytes in an alphabet of 256 printable characters; that
 * alphabet is undone when the tokenizer is built, so here bytes are bytes. */
#include "runtime/tokenizer/internal.h"

/* Printable Latin-1 stands for itself; the 68 other bytes are, in order, the
 * characters from U+0100 on. */
static bool stands_for_itself(uint32_t c)
{
	return (c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xff && c != 0xad);
}

int hr__bpe_byte_of(uint32_t codepoint)
{
	if (stands_for_itself(codepoint))
		return (int)codepoint;
	if (codepoint < 0x100 || codepoint > 0x143)
		return -1;
	uint32_t n = codepoint - 0x100;
	return (int)(n <= 0x20 ? n : n <= 0x42 ? n - 0x21 + 0x7f : 0xad);
}

static int encode_piece(const struct hr_tokenizer *t, struct hr__work *w, const char *text, size_t length)
{
	if (t->vocab.ignore_merges && length <= t->longest_piece) {
		int32_t id = hr__text_map_find(&t->pieces, t->raw, text, length);
		if (id >= 0)
			return hr__push_id(w, id);
	}
	return hr__merge(t, w, text, length);
}

int hr__bpe_encode(const struct hr_tokenizer *t, struct hr__work *w, const char *text, size_t length)
{
	return hr__pretokenizer_split(t->pre, t, w, text, length, encode_piece);
}
