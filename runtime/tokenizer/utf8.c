/* UTF-8 as Unicode's table 3-7 defines it, NFC through utf8proc, and the two
 * character properties that added tokens ask for. Everything behind
 * hr__utf8_repair() may rely on valid text. */
#include "runtime/tokenizer/internal.h"

#include "base/mem.h"

#include <utf8proc.h>

size_t hr__utf8_decode(const char *text, size_t length, uint32_t *codepoint)
{
	const unsigned char *s = (const unsigned char *)text;
	if (s[0] < 0x80) {
		*codepoint = s[0];
		return 1;
	}
	size_t        n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	unsigned char low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
	unsigned char high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
	if (s[0] < 0xc2 || s[0] > 0xf4) {
		*codepoint = 1;
		return 0;
	}
	uint32_t c = s[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if (i >= length || s[i] < low || s[i] > high) {
			*codepoint = (uint32_t)i;
			return 0;
		}
		c = c << 6 | (s[i] & 0x3f);
		low = 0x80;
		high = 0xbf;
	}
	*codepoint = c;
	return n;
}

bool hr__utf8_is_valid(const char *text, size_t length)
{
	uint32_t c;
	for (size_t i = 0, n; i < length; i += n)
		if (!(n = hr__utf8_decode(text + i, length - i, &c)))
			return false;
	return true;
}

char *hr__utf8_repair(const char *text, size_t length, size_t *out_length)
{
	char *out = length <= (SIZE_MAX - 1) / 3 ? malloc(length * 3 + 1) : NULL;
	if (!out)
		return NULL;
	size_t n_out = 0;
	for (size_t i = 0; i < length;) {
		uint32_t    c;
		size_t      n = hr__utf8_decode(text + i, length - i, &c);
		const char *from = n ? text + i : "\xef\xbf\xbd";
		memcpy(out + n_out, from, n ? n : 3);
		n_out += n ? n : 3;
		i += n ? n : c;
	}
	*out_length = n_out;
	return out;
}

int hr__utf8_nfc(char **out, size_t *out_length, const char *text, size_t length)
{
	size_t i = 0;
	while (i < length && (unsigned char)text[i] < 0xcc) /* below U+0300 everything is NFC */
		i++;
	*out = NULL;
	if (i == length)
		return 0;
	utf8proc_uint8_t *nfc;
	utf8proc_ssize_t  n = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length, &nfc,
	                                   UTF8PROC_STABLE | UTF8PROC_COMPOSE);
	if (n < 0)
		return n == UTF8PROC_ERROR_NOMEM || n == UTF8PROC_ERROR_OVERFLOW ? HR_ENOMEM : HR_EINTERNAL;
	*out = (char *)nfc;
	*out_length = (size_t)n;
	return 0;
}

size_t hr__utf8_lower(char *out, const char *text, size_t length)
{
	size_t   n = 0;
	uint32_t c;
	for (size_t i = 0, step; i < length; i += step) {
		step = hr__utf8_decode(text + i, length - i, &c);
		bool two = c == 0x130; /* the only capital whose small letter is two characters */
		c = two ? 'i' : (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
		n += (size_t)utf8proc_encode_char((utf8proc_int32_t)c, (utf8proc_uint8_t *)out + n);
		if (two)
			n += (size_t)utf8proc_encode_char(0x307, (utf8proc_uint8_t *)out + n);
	}
	return n;
}

/* Unicode's White_Space. */
bool hr__utf8_is_space(uint32_t c)
{
	return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
	       (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
	       c == 0x3000;
}

/* Unicode's word characters (UTS 18, \w): alphabetic, marks, decimal digits,
 * connectors, joiners. */
bool hr__utf8_is_word(uint32_t c)
{
	if (c == 0x200c || c == 0x200d || (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) ||
	    (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189))
		return true;
	switch (utf8proc_category((utf8proc_int32_t)c)) {
	case UTF8PROC_CATEGORY_LU:
	case UTF8PROC_CATEGORY_LL:
	case UTF8PROC_CATEGORY_LT:
	case UTF8PROC_CATEGORY_LM:
	case UTF8PROC_CATEGORY_LO:
	case UTF8PROC_CATEGORY_MN:
	case UTF8PROC_CATEGORY_MC:
	case UTF8PROC_CATEGORY_ME:
	case UTF8PROC_CATEGORY_ND:
	case UTF8PROC_CATEGORY_NL:
	case UTF8PROC_CATEGORY_PC:
		return true;
	default:
		return false;
	}
}
