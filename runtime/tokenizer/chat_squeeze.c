/* The lexical half of chat templates: every spelling of an expression becomes one
 * string, so that chat.c can look for expressions with strstr(). Nothing is parsed:
 * what is no template comes out as some text that no family is recognised in. */
#include "runtime/tokenizer/chat_squeeze.h"

#include "base/mem.h"
#include "runtime/tokenizer/internal.h"

void hr__text_put_bytes(struct hr__text *t, const char *s, size_t length)
{
	if (t->failed || hr__reserve((void **)&t->data, &t->capacity, t->length + length + 1, 1)) {
		t->failed = true;
		return;
	}
	memcpy(t->data + t->length, s, length);
	t->length += length;
	t->data[t->length] = 0;
}

void hr__text_put(struct hr__text *t, const char *s) { hr__text_put_bytes(t, s, strlen(s)); }

/* What Python's str.strip() takes away. */
static bool is_stripped(uint32_t c) { return hr__utf8_is_space(c) || (c >= 0x1c && c <= 0x1f); }

void hr__text_put_trimmed(struct hr__text *t, const char *s)
{
	size_t   length = strlen(s), start = 0, end = 0, n;
	uint32_t c;
	bool     started = false;
	for (size_t i = 0; i < length; i += n) {
		n = hr__utf8_decode(s + i, length - i, &c);
		bool space = n && is_stripped(c);
		n = n ? n : 1;
		if (space)
			continue;
		start = started ? start : i;
		started = true;
		end = i + n;
	}
	hr__text_put_bytes(t, s + start, end - start);
}

static bool is_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* A string literal, from its opening quote on; returns what follows it. */
static const char *squeeze_literal(struct hr__text *out, const char *p)
{
	char quote = *p++;
	hr__text_put(out, "'");
	for (; *p && *p != quote; p++) {
		char c = *p;
		if (c == '\\' && p[1]) {
			p++;
			c = *p == 'n' ? '\n' : *p == 't' ? '\t' : *p;
		}
		hr__text_put_bytes(out, &c, 1);
	}
	hr__text_put(out, "'");
	return *p ? p + 1 : p;
}

/* Code up to the closing }} or %}; returns what follows it. Words keep one space. */
static const char *squeeze_code(struct hr__text *out, const char *p)
{
	static const char *const fields[] = {"role", "content"};
	char                     before = 0;
	bool                     space = false;
	while (*p && !((p[0] == '}' || p[0] == '%') && p[1] == '}')) {
		if (*p == '\'' || *p == '"') {
			p = squeeze_literal(out, p);
			before = '\'';
			space = false;
			continue;
		}
		if (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r') {
			space = true;
			p++;
			continue;
		}
		if (space && is_name(before) && is_name(*p))
			hr__text_put(out, " ");
		space = false;
		size_t n = 1;
		for (size_t i = 0; *p == '.' && i < HR_COUNT_OF(fields); i++) {
			size_t length = strlen(fields[i]);
			if (strncmp(p + 1, fields[i], length) == 0 && !is_name(p[1 + length]) && p[1 + length] != '(') {
				hr__text_put(out, "['");
				hr__text_put(out, fields[i]);
				hr__text_put(out, "']");
				n += length;
			}
		}
		before = p[n - 1];
		if (n == 1)
			hr__text_put_bytes(out, p, 1);
		p += n;
	}
	return *p ? p + 2 : p;
}

void hr__chat_squeeze(struct hr__text *out, const char *jinja)
{
	for (const char *p = jinja; *p;) {
		if (p[0] == '{' && p[1] == '#') {
			const char *end = strstr(p + 2, "#}");
			p = end ? end + 2 : p + strlen(p);
		} else if (p[0] == '{' && (p[1] == '{' || p[1] == '%')) {
			bool prints = p[1] == '{';
			p += 2 + (p[2] == '-' || p[2] == '+');
			hr__text_put(out, prints ? "{{" : "{%");
			p = squeeze_code(out, p);
			hr__text_put(out, prints ? "}}" : "%}");
		} else {
			hr__text_put_bytes(out, p++, 1);
		}
	}
}
