/* Chat templates without a Jinja interpreter. A template is first squeezed
 * (chat_squeeze.c), so that every spelling of an expression becomes one string. A family is recognised by the
 * expression that renders a message, not by a mere marker; its variants (spaces around [INST], a default
 * system message, date lines) are read off the same string. Then the conversation is written natively.
 *
 * A template that is not surely one of these is refused: a prompt that is nearly
 * right makes a model quietly worse. Roles are those of hr_chat_message; tools are
 * not rendered. Where a template would ask the clock for today, its own fixed date is
 * used, so that the same conversation gives the same prompt. */
#include "runtime/tokenizer/chat.h"

#include "base/error.h"
#include "base/mem.h"
#include "runtime/tokenizer/chat_squeeze.h"

/* ---- What the renderers get ---- */

struct chat {
	const char *template; /* squeezed */
	const char                   *bos, *eos;
	const struct hr_chat_message *messages;
	int                           n_messages;
	bool                          prompt; /* open the assistant's turn */
	struct hr__text              *out;
	struct hr_error              *err;
};

static bool has(const struct chat *c, const char *expression)
{
	return strstr(c->template, expression) != NULL;
}

static bool is_role(const struct hr_chat_message *m, const char *role) { return strcmp(m->role, role) == 0; }

static int fail_order(const struct chat *c, int i)
{
	return hr__fail(
	    c->err, HR_EINVAL,
	    "Message %d of the conversation has the role \"%s\", but this model's chat template wants user and "
	    "assistant in turn, after an optional system message.",
	    i + 1, c->messages[i].role);
}

/* ---- ChatML: SmolLM2, Qwen2, Qwen2.5, Hermes ---- */

#define CHATML "'<|im_start|>'+message['role']+'\n'+message['content']+'<|im_end|>"

/* The next literal that opens a system turn at or behind p, with the length of what it
 * says behind the opening; NULL: none. */
static const char *next_system(const char *p, size_t *length)
{
	static const char open[] = "'<|im_start|>system\n";
	p = strstr(p, open);
	if (p)
		*length = strcspn(p + sizeof open - 1, "'");
	return p ? p + sizeof open - 1 : NULL;
}

static bool closes_turn(const char *literal, size_t length)
{
	return memmem(literal, length, "<|im_end|>", sizeof "<|im_end|>" - 1) != NULL;
}

/* A system turn that begins with a literal and goes on with something else, such as tools. */
static bool has_unclosed_system(const struct chat *c)
{
	size_t length = 0;
	for (const char *p = c->template; (p = next_system(p, &length));)
		if (length && !closes_turn(p, length))
			return true;
	return false;
}

/* The literal system message that stands in where the conversation has none. */
static void put_default_system(const struct chat *c)
{
	size_t      length = 0;
	const char *p = c->template;
	while ((p = next_system(p, &length)) && !closes_turn(p, length))
		;
	if (!p)
		return;
	hr__text_put(c->out, "<|im_start|>system\n");
	hr__text_put_bytes(c->out, p, (size_t)(strstr(p, "<|im_end|>") - p));
	hr__text_put(c->out, "<|im_end|>\n");
}

static bool is_chatml(const struct chat *c)
{
	return (has(c, CHATML "'+'\n'") || has(c, CHATML "\n'")) && !has(c, "raise_exception(") &&
	       !has(c, "think") && !has(c, "{%macro") && !has_unclosed_system(c);
}

static int render_chatml(const struct chat *c)
{
	if (has(c, "{{bos_token"))
		hr__text_put(c->out, c->bos);
	if (!is_role(&c->messages[0], "system"))
		put_default_system(c);
	for (int i = 0; i < c->n_messages; i++) {
		hr__text_put(c->out, "<|im_start|>");
		hr__text_put(c->out, c->messages[i].role);
		hr__text_put(c->out, "\n");
		hr__text_put(c->out, c->messages[i].content);
		hr__text_put(c->out, "<|im_end|>\n");
	}
	if (c->prompt)
		hr__text_put(c->out, "<|im_start|>assistant\n");
	return 0;
}

/* ---- Llama 3, 3.1, 3.2, 3.3 ---- */

#define LLAMA3 "'<|start_header_id|>'+message['role']+'<|end_header_id|>\n\n'+message['content']"

static bool is_llama3(const struct chat *c) { return has(c, LLAMA3 "|trim+'<|eot_id|>'"); }

static void put_llama3_header(struct hr__text *out, const char *role)
{
	hr__text_put(out, "<|start_header_id|>");
	hr__text_put(out, role);
	hr__text_put(out, "<|end_header_id|>\n\n");
}

/* From 3.1 on there is always a system turn, and it opens with dates. */
static void put_llama3_dates(const struct chat *c)
{
	static const char set[] = "date_string='";
	const char       *date = strstr(c->template, set);
	hr__text_put(c->out, "Cutting Knowledge Date: December 2023\nToday Date: ");
	if (date)
		hr__text_put_bytes(c->out, date + sizeof set - 1, strcspn(date + sizeof set - 1, "'"));
	hr__text_put(c->out, "\n\n");
}

static int render_llama3(const struct chat *c)
{
	bool dates = has(c, "'Cutting Knowledge Date: December 2023\n'");
	int  first = 0;
	hr__text_put(c->out, c->bos);
	if (dates) {
		put_llama3_header(c->out, "system");
		put_llama3_dates(c);
		if (is_role(&c->messages[0], "system"))
			hr__text_put_trimmed(c->out, c->messages[first++].content);
		hr__text_put(c->out, "<|eot_id|>");
	}
	for (int i = first; i < c->n_messages; i++) {
		put_llama3_header(c->out, c->messages[i].role);
		hr__text_put_trimmed(c->out, c->messages[i].content);
		hr__text_put(c->out, "<|eot_id|>");
	}
	if (c->prompt || !has(c, "add_generation_prompt"))
		put_llama3_header(c->out, "assistant");
	return 0;
}

/* ---- Llama 2 ---- */

static bool is_llama2(const struct chat *c)
{
	return has(c, "'<<SYS>>\n'+system_message+'\n<</SYS>>\n\n'+") && !has(c, "true==true") &&
	       (has(c, "bos_token+'[INST] '+content.strip()+' [/INST]'") ||
	        has(c, "bos_token+'[INST] '+content|trim+' [/INST]'"));
}

/* The system message is part of the first user turn, and trimmed together with it. */
static int put_llama2_user(const struct chat *c, const char *system, const char *content)
{
	struct hr__text turn = {0};
	if (system) {
		hr__text_put(&turn, "<<SYS>>\n");
		hr__text_put(&turn, system);
		hr__text_put(&turn, "\n<</SYS>>\n\n");
	}
	hr__text_put(&turn, content);
	hr__text_put(c->out, c->bos);
	hr__text_put(c->out, "[INST] ");
	if (!turn.failed)
		hr__text_put_trimmed(c->out, turn.data);
	hr__text_put(c->out, " [/INST]");
	free(turn.data);
	return turn.failed ? HR_ENOMEM : 0;
}

static int render_llama2(const struct chat *c)
{
	const char *system = is_role(&c->messages[0], "system") ? c->messages[0].content : NULL;
	int         first = system != NULL, rc = 0;
	for (int i = first; i < c->n_messages && !rc; i++) {
		const struct hr_chat_message *m = &c->messages[i];
		if (is_role(m, "user") != ((i - first) % 2 == 0))
			return fail_order(c, i);
		if (is_role(m, "user"))
			rc = put_llama2_user(c, i == first ? system : NULL, m->content);
		if (is_role(m, "assistant")) {
			hr__text_put(c->out, " ");
			hr__text_put_trimmed(c->out, m->content);
			hr__text_put(c->out, " ");
			hr__text_put(c->out, c->eos);
		}
	}
	return rc;
}

/* ---- Mistral: v1, v3, v7, each with and without the spaces that Tekken dropped ---- */

static const char *const inst_opens[] = {" [INST] ", "[INST] ", "[INST]"};
static const char *const inst_closes[] = {" [/INST]", "[/INST]"};

/* The spelling whose literal stands in the template; NULL: none. */
static const char *spelling_of(const struct chat *c, const char *const *choices, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char *p = c->template ? strstr(c->template, choices[i]) : NULL;
		for (; p; p = strstr(p + 1, choices[i]))
			if (p > c->template && p[-1] == '\'' && p[strlen(choices[i])] == '\'')
				return choices[i];
	}
	return NULL;
}

static bool is_mistral(const struct chat *c)
{
	return spelling_of(c, inst_opens, HR_COUNT_OF(inst_opens)) &&
	       spelling_of(c, inst_closes, HR_COUNT_OF(inst_closes)) && has(c, "+message['content']+") &&
	       has(c, "eos_token") && !has(c, "<<SYS>>") && !has(c, ".strip()") && !has(c, "[THINK]");
}

static void put_mistral_system(const struct chat *c, const char *content)
{
	bool spaced = has(c, "'[SYSTEM_PROMPT] '");
	hr__text_put(c->out, spaced ? "[SYSTEM_PROMPT] " : "[SYSTEM_PROMPT]");
	hr__text_put(c->out, content);
	hr__text_put(c->out, "[/SYSTEM_PROMPT]");
}

static void put_mistral_user(const struct chat *c, const char *system, const char *content)
{
	hr__text_put(c->out, spelling_of(c, inst_opens, HR_COUNT_OF(inst_opens)));
	if (system) {
		hr__text_put(c->out, system);
		hr__text_put(c->out, "\n\n");
	}
	hr__text_put(c->out, content);
	hr__text_put(c->out, spelling_of(c, inst_closes, HR_COUNT_OF(inst_closes)));
}

static void put_mistral_assistant(const struct chat *c, const char *content)
{
	if (has(c, "' '+message['content']"))
		hr__text_put(c->out, " ");
	if (has(c, "message['content']|trim+eos_token"))
		hr__text_put_trimmed(c->out, content);
	else
		hr__text_put(c->out, content);
	hr__text_put(c->out, c->eos);
	if (has(c, "eos_token+' '"))
		hr__text_put(c->out, " ");
}

/* v7 writes system messages in place, older ones into the first or the last user
 * turn, the oldest know none. */
static int render_mistral(const struct chat *c)
{
	bool        v7 = has(c, "'[SYSTEM_PROMPT]");
	bool        alternates = has(c, "must alternate"), takes_system = has(c, "set system_message");
	bool        in_last = has(c, "loop.last and system_message");
	bool        begins = is_role(&c->messages[0], "system") && (v7 || takes_system);
	const char *system = begins ? c->messages[0].content : NULL;
	if (!begins && has(c, "default_system_message"))
		return hr__fail(c->err, HR_EUNSUPPORTED,
		                "This model's chat template puts a long default system message in front of the "
		                "conversation, which is not supported: begin it with a system message.");
	hr__text_put(c->out, c->bos);
	if (v7 && system)
		put_mistral_system(c, system);
	for (int i = begins, k = 0; i < c->n_messages; i++, k++) {
		const struct hr_chat_message *m = &c->messages[i];
		if (alternates && is_role(m, "user") != (k % 2 == 0))
			return fail_order(c, i);
		if (is_role(m, "user"))
			put_mistral_user(c, !v7 && (in_last ? i == c->n_messages - 1 : k == 0) ? system : NULL,
			                 m->content);
		else if (is_role(m, "assistant"))
			put_mistral_assistant(c, m->content);
		else if (has(c, "'+message['content']+'[/SYSTEM_PROMPT]'"))
			put_mistral_system(c, m->content);
		else
			return fail_order(c, i);
	}
	return 0;
}

/* ---- Zephyr and TinyLlama-Chat ---- */

static bool is_zephyr(const struct chat *c)
{
	return has(c, "{{'<|user|>\n'+message['content']+eos_token}}\n") &&
	       has(c, "{{'<|system|>\n'+message['content']+eos_token}}\n") &&
	       has(c, "{{'<|assistant|>\n'+message['content']+eos_token}}\n");
}

static int render_zephyr(const struct chat *c)
{
	for (int i = 0; i < c->n_messages; i++) {
		hr__text_put(c->out, "<|");
		hr__text_put(c->out, c->messages[i].role);
		hr__text_put(c->out, "|>\n");
		hr__text_put(c->out, c->messages[i].content);
		hr__text_put(c->out, c->eos);
		hr__text_put(c->out, "\n");
	}
	if (c->prompt)
		hr__text_put(c->out, "<|assistant|>\n");
	return 0;
}

/* ---- All of them ---- */

static const struct family {
	bool (*is)(const struct chat *);
	int (*render)(const struct chat *);
} families[] = {
    {is_chatml, render_chatml},   {is_llama3, render_llama3}, {is_llama2, render_llama2},
    {is_mistral, render_mistral}, {is_zephyr, render_zephyr},
};

static int check_messages(const struct hr_chat_message *messages, int n_messages, struct hr_error *err)
{
	if (n_messages <= 0)
		return hr__fail(err, HR_EINVAL, "The conversation has no messages.");
	for (int i = 0; i < n_messages; i++) {
		const struct hr_chat_message *m = &messages[i];
		if (!m->role || !m->content ||
		    (!is_role(m, "system") && !is_role(m, "user") && !is_role(m, "assistant")))
			return hr__fail(err, HR_EINVAL,
			                "Message %d of the conversation has the role \"%.40s\"; a message needs a text "
			                "and one of the "
			                "roles system, user and assistant.",
			                i + 1, m->role ? m->role : "");
	}
	return 0;
}

int hr_chat_format(char **out, const char *jinja, const char *bos, const char *eos,
                   const struct hr_chat_message *messages, int n_messages, bool add_generation_prompt,
                   struct hr_error *err)
{
	struct hr__text squeezed = {0}, text = {0};
	struct chat     c = {.bos = bos ? bos : "",
	                     .eos = eos ? eos : "",
	                     .messages = messages,
	                     .n_messages = n_messages,
	                     .prompt = add_generation_prompt,
	                     .out = &text,
	                     .err = err};
	if (!jinja)
		return hr__fail(err, HR_EUNSUPPORTED,
		                "The model has no chat template: give it a prompt instead of messages.");
	int rc = check_messages(messages, n_messages, err);
	if (rc)
		return rc;
	hr__text_put(&squeezed, "");
	hr__text_put(&text, "");
	hr__chat_squeeze(&squeezed, jinja);
	c.template = squeezed.data;
	size_t i = 0;
	while (!squeezed.failed && i < HR_COUNT_OF(families) && !families[i].is(&c))
		i++;
	if (squeezed.failed)
		rc = HR_ENOMEM;
	else if (i == HR_COUNT_OF(families))
		rc = hr__fail(
		    err, HR_EUNSUPPORTED,
		    "The model's chat template is none of those known: ChatML (SmolLM2, Qwen2, Qwen2.5), Llama 3, "
		    "Llama 2, Mistral, Zephyr. Format the prompt yourself and give it as text.");
	else
		rc = families[i].render(&c);
	if (rc == HR_ENOMEM || (!rc && text.failed))
		rc = hr__fail(err, HR_ENOMEM, "Out of memory while formatting a conversation.");
	free(squeezed.data);
	if (rc) {
		free(text.data);
		return rc;
	}
	*out = text.data;
	return 0;
}
