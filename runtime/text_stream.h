/* Generated tokens as text that can be shown at once: whole characters only, and
 * nothing that may turn out to be the beginning of a stop string. */
#ifndef HR_RUNTIME_TEXT_STREAM_H
#define HR_RUNTIME_TEXT_STREAM_H

#include "runtime/tokenizer/tokenizer.h"

struct hr_text_stream {
	const struct hr_tokenizer *tokenizer; /* borrowed; NULL: no text */
	char                     **stop;      /* [n_stop] owned */
	int                        n_stop;
	char                      *text; /* everything generated, stop string excluded once stopped */
	size_t                     length, capacity;
	size_t                     ready;   /* bytes that may be shown */
	size_t                     read;    /* bytes that were */
	bool                       stopped; /* a stop string appeared */
};

/* HR_ENOMEM. */
int  hr__text_init(struct hr_text_stream *t, const struct hr_tokenizer *tokenizer, const char *const *stop,
                   int n_stop);
void hr__text_release(struct hr_text_stream *t); /* a zeroed struct is fine */

/* Add a token's text; sets `stopped` when it completes a stop string. HR_ENOMEM, HR_EINVAL. */
int hr__text_add(struct hr_text_stream *t, int32_t token);
/* No more tokens will come: everything held back is ready (a broken character as U+FFFD). */
int hr__text_finish(struct hr_text_stream *t);
/* Move ready text out, whole characters. */
size_t hr__text_read(struct hr_text_stream *t, char *out, size_t capacity);

#endif
