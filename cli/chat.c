/* `headrace chat`: a conversation in the model's own template, one line of
 * standard input per turn, on a terminal or in a pipe.
 *
 * The whole conversation is the prompt of each turn. A turn that can't be answered
 * is told and taken back; the conversation goes on. */
#include "cli/generate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct conversation {
	struct hr_chat_message *messages; /* the contents are ours, the roles are literals */
	int                     n, capacity;
	bool                    has_system;
};

static bool add_message(struct conversation *c, const char *role, const char *content)
{
	if (c->n == c->capacity) {
		int                     capacity = 2 * c->capacity + 16;
		struct hr_chat_message *larger = realloc(c->messages, (size_t)capacity * sizeof *larger);
		if (!larger)
			return false;
		c->messages = larger;
		c->capacity = capacity;
	}
	char *copy = strdup(content);
	if (copy)
		c->messages[c->n++] = (struct hr_chat_message){role, copy};
	return copy != NULL;
}

static void truncate_to(struct conversation *c, int n)
{
	while (c->n > n)
		free((void *)c->messages[--c->n].content);
}

/* One turn: `line` is asked, the answer joins the conversation. An exit code. */
static int answer(struct conversation *c, const char *line, const struct hr_model *model,
                  struct hr_session *session, const struct hr_cli_options *o, json_t *outputs)
{
	struct hr_cli_job job = {.prompt = line, .max_new_tokens = o->n_predict > 0 ? o->n_predict : 0};
	int               n_before = c->n;
	int               code = HR_EXIT_ERROR;
	if (!add_message(c, "user", line)) {
		hr_cli_fail("There is no memory for a longer conversation.");
		goto done;
	}
	code = hr_cli_job_tokenize_chat(&job, model, c->messages, c->n);
	if (!code)
		code = hr_cli_job_submit(&job, session, o);
	if (code)
		goto done;
	code = hr_cli_generate(session, &job, 1, o->json ? hr_cli_show_nothing : hr_cli_show_text);
	if (!o->json)
		hr_cli_write("\n", 1);
	else if (!code || code == HR_EXIT_INTERRUPTED)
		json_array_append_new(outputs, hr_cli_json_job(&job));
	if (!code && !add_message(c, "assistant", job.text ? job.text : ""))
		code = hr_cli_fail("There is no memory for a longer conversation.");
	hr_session_forget(session, job.id);
done:
	if (code)
		truncate_to(c, n_before);
	hr_cli_job_release(&job);
	return code;
}

/* Until /exit, the end of the input or Ctrl-C. The worst exit code of the turns. */
static int converse(struct conversation *c, const struct hr_model *model, struct hr_session *session,
                    const struct hr_cli_options *o, json_t *outputs)
{
	bool    on_terminal = isatty(STDIN_FILENO);
	char   *line = NULL;
	size_t  capacity = 0;
	int     code = HR_EXIT_OK;
	ssize_t n;
	if (on_terminal)
		fprintf(stderr, "/reset forgets the conversation, /exit ends it.\n");
	for (;;) {
		if (on_terminal)
			fprintf(stderr, "> ");
		n = getline(&line, &capacity, stdin);
		if (n < 0 || hr_cli_interrupted())
			break;
		line[strcspn(line, "\r\n")] = 0;
		if (!strcmp(line, "/exit"))
			break;
		if (!strcmp(line, "/reset")) {
			truncate_to(c, c->has_system);
		} else if (line[strspn(line, " \t")]) {
			int turn = answer(c, line, model, session, o, outputs);
			code = turn ? turn : code;
			if (turn == HR_EXIT_INTERRUPTED || !hr_cli_write("", 0))
				break;
		}
	}
	free(line);
	return hr_cli_interrupted() ? HR_EXIT_INTERRUPTED : code;
}

int hr_cli_chat(struct hr_cli_options *o)
{
	struct hr_model    *model = NULL;
	struct hr_session  *session = NULL;
	struct conversation c = {.has_system = o->system != NULL};
	json_t             *outputs = json_array();
	char               *map = NULL;
	int                 code = hr_cli_resolve(o, &map);

	if (!code && o->system && !add_message(&c, "system", o->system))
		code = hr_cli_fail("There is no memory for the system message.");
	if (!code)
		code = hr_cli_open_model(&model, o);
	if (!code && !hr_model_info(model)->chat_template)
		code = hr_cli_fail("%s has no chat template; use `headrace run`.", o->target);
	if (!code)
		code = hr_cli_open_session(&session, model, o);
	if (code)
		goto done;
	code = converse(&c, model, session, o, outputs);
	if (o->json)
		hr_cli_write_json(hr_cli_json_run(model, session, json_incref(outputs)), false);
	code = hr_cli_report(model, session, o, code);
done:
	truncate_to(&c, 0);
	free(c.messages);
	json_decref(outputs);
	hr_session_close(session);
	hr_model_close(model);
	free(map);
	return code;
}
