/* SentencePiece's table of normalisation: a trie of texts, as a double array, whose values are
 * offsets into a block of what each becomes.
 *
 *     u32 bytes of the trie, the trie, texts that each end at a NUL
 *
 * A unit of the trie is 32 bits: a label (the low 8 and the top bit), whether a text ends
 * there (bit 8), and the offset of its children (bits 10 to 30, times 256 where bit 9 is
 * set), which is combined with its own place by exclusive or. The table comes out of a
 * file, so every step is checked against its end, and only whole characters are replaced by
 * whole characters. Format: darts-clone, SentencePiece's normalizer. */
#include "runtime/tokenizer/internal.h"

#include "base/error.h"
#include "base/mem.h"

static uint32_t read_u32(const unsigned char *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static bool is_inside(char byte) { return ((unsigned char)byte & 0xc0) == 0x80; }

static size_t children_of(uint32_t unit) { return (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6); }

int hr__charsmap_init(struct hr__charsmap *map, const struct hr_string *blob, struct hr_error *err)
{
	const unsigned char *bytes = (const unsigned char *)blob->text;
	size_t               trie = blob->length >= 4 ? read_u32(bytes) : 0;
	if (trie < 4 || trie % 4 || trie > blob->length - 4)
		return hr__fail(err, HR_EFORMAT,
		                "The tokenizer's character map is damaged: of its %zu bytes the trie would be %zu.",
		                blob->length, trie);
	*map = (struct hr__charsmap){.trie = bytes + 4,
	                             .n_units = trie / 4,
	                             .texts = blob->text + 4 + trie,
	                             .n_texts = blob->length - 4 - trie};
	if (!hr__utf8_is_valid(map->texts, map->n_texts))
		return hr__fail(err, HR_EFORMAT,
		                "The tokenizer's character map is damaged: its texts are not UTF-8.");
	return 0;
}

static bool get_text(const struct hr__charsmap *map, size_t at, struct hr_string *out)
{
	if (at >= map->n_texts || is_inside(map->texts[at]))
		return false;
	*out = (struct hr_string){(char *)map->texts + at, strnlen(map->texts + at, map->n_texts - at)};
	return true;
}

size_t hr__charsmap_find(const struct hr__charsmap *map, const char *text, size_t length, bool longest,
                         struct hr_string *becomes)
{
	size_t node = children_of(read_u32(map->trie)), found = 0;
	for (size_t i = 0; i < length && text[i] && (longest || !found); i++) {
		node ^= (unsigned char)text[i];
		if (node >= map->n_units)
			break;
		uint32_t unit = read_u32(map->trie + node * 4);
		if ((unit & (1u << 31 | 0xff)) != (unsigned char)text[i])
			break;
		node ^= children_of(unit);
		if (unit & 1u << 8 && node < map->n_units && (i + 1 == length || !is_inside(text[i + 1])) &&
		    get_text(map, read_u32(map->trie + node * 4) & ~(1u << 31), becomes))
			found = i + 1;
	}
	return found;
}
