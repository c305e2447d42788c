/* Chat templates: the families' own, recognised by their Jinja text and written
 * natively (no Jinja interpreter). */
#ifndef HR_RUNTIME_CHAT_H
#define HR_RUNTIME_CHAT_H

#include "headrace/headrace.h"

/* Format messages into one text, NUL-terminated, allocated, for the caller to
 * free. `add_generation_prompt` opens the assistant's turn. The text contains
 * control tokens spelled out (BOS too where the template writes it): encode it with
 * special = true, add = false. bos/eos: their text. HR_EUNSUPPORTED: the template is none of those known,
 * which are named; a NULL template is an error that says so. HR_EINVAL: an order of roles that the template
 * refuses. */
int hr_chat_format(char **out, const char *jinja, const char *bos, const char *eos,
                   const struct hr_chat_message *messages, int n_messages, bool add_generation_prompt,
                   struct hr_error *err);

#endif
