/* Fuzzes chat templates and what goes into them: texts that each end in a NUL byte, the template
 * first, then roles and contents in turn. The first byte asks for the assistant's turn. */
#include "runtime/tokenizer/chat.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { MAX_TEXTS = 33 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char            *texts[MAX_TEXTS];
	struct hr_chat_message messages[MAX_TEXTS / 2];
	struct hr_error        err = {0};
	char                  *out = NULL;
	int                    n_texts = 0;
	if (!n)
		return 0;
	char *all = memcpy(malloc(n), data + 1, n - 1);
	all[n - 1] = 0;
	for (size_t at = 0; at < n && n_texts < MAX_TEXTS; at += strlen(all + at) + 1)
		texts[n_texts++] = all + at;
	int n_messages = (n_texts - 1) / 2;
	for (int i = 0; i < n_messages; i++)
		messages[i] = (struct hr_chat_message){texts[1 + 2 * i], texts[2 + 2 * i]};
	int rc = hr_chat_format(&out, texts[0], "<s>", "</s>", messages, n_messages, data[0] & 1, &err);
	if (rc ? rc != err.code || !err.message[0] || out : !out || strlen(out) > 1000 + 2 * n + 64 * MAX_TEXTS)
		abort();
	free(out);
	free(all);
	return 0;
}
