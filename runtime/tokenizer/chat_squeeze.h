/* A chat template in one spelling, and the growing text it is written to. */
#ifndef HR_RUNTIME_CHAT_SQUEEZE_H
#define HR_RUNTIME_CHAT_SQUEEZE_H

#include <stdbool.h>
#include <stddef.h>

/* Zeroed to begin with; data is NUL-terminated once something was put, and the
 * caller's to free. Out of memory sets `failed` and is asked for once, at the end. */
struct hr__text {
	char  *data;
	size_t length, capacity;
	bool   failed;
};

void hr__text_put_bytes(struct hr__text *t, const char *s, size_t length);
void hr__text_put(struct hr__text *t, const char *s);
void hr__text_put_trimmed(struct hr__text *t, const char *s); /* as Python's str.strip() */

/* Jinja with its comments and spaces gone from {{ }} and {% %}, ' for every quote, escapes
 * undone, and message['role'] for message.role. Text outside stays as it is. */
void hr__chat_squeeze(struct hr__text *out, const char *jinja);

#endif
