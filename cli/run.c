/* `headrace run`: continue one prompt, as it comes, or many as one batch.
 *
 * All prompts are tokenized before anything is loaded, so that a prompt that
 * can't be run is known at once, and so that the context need not be larger than
 * the prompts: the room that is saved holds layers. */
#include "cli/generate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_NEW_TOKENS = 128, MOST_PARALLEL = 64 };

struct prompts {
	char              *text; /* standard input or the file, which the jobs' prompts may point into */
	json_t           **lines;
	struct hr_cli_job *jobs;
	int                n;
};

static void release_prompts(struct prompts *p)
{
	for (int i = 0; i < p->n; i++) {
		hr_cli_job_release(&p->jobs[i]);
		json_decref(p->lines[i]);
	}
	free(p->jobs);
	free(p->lines);
	free(p->text);
}

/* -n as the library has it. */
static int new_tokens(const struct hr_cli_options *o)
{
	return o->n_predict == 0 ? DEFAULT_NEW_TOKENS : o->n_predict < 0 ? 0 : o->n_predict;
}

static int allocate_jobs(struct prompts *p, int n)
{
	p->jobs = calloc((size_t)n, sizeof *p->jobs);
	p->lines = calloc((size_t)n, sizeof *p->lines);
	return p->jobs && p->lines ? HR_EXIT_OK : hr_cli_fail("There is no memory for %d prompts.", n);
}

static int read_prompt(struct prompts *p, const struct hr_cli_options *o)
{
	const char *prompt = o->prompt;
	if (!strcmp(prompt, "-")) {
		prompt = p->text = hr_cli_read_file("-", "prompt");
		if (!prompt)
			return HR_EXIT_ERROR;
	}
	int code = allocate_jobs(p, 1);
	if (code)
		return code;
	p->n = 1;
	p->jobs[0].prompt = prompt;
	p->jobs[0].max_new_tokens = new_tokens(o);
	json_t *probe = json_string(prompt);
	if (!probe)
		return hr_cli_fail("The prompt is not valid UTF-8; write it in UTF-8.");
	json_decref(probe);
	return HR_EXIT_OK;
}

static int read_line(struct prompts *p, const struct hr_cli_options *o, const char *line, int number)
{
	json_error_t where;
	json_t      *value = json_loads(line, 0, &where);
	if (!value)
		return hr_cli_fail(
		    "%s, line %d: not JSON (%s); a line should be like {\"prompt\": \"Once upon a time\"}.", o->file,
		    number, where.text);
	struct hr_cli_job *job = &p->jobs[p->n];
	p->lines[p->n++] = value;
	json_t *n = json_object_get(value, "max_new_tokens");
	job->prompt = json_string_value(json_object_get(value, "prompt"));
	job->max_new_tokens = n ? (int)json_integer_value(n) : new_tokens(o);
	if (!job->prompt)
		return hr_cli_fail("%s, line %d: there is no string \"prompt\" in it; a line should be like "
		                   "{\"prompt\": \"Once upon a time\"}.",
		                   o->file, number);
	if (n && (!json_is_integer(n) || job->max_new_tokens < 1))
		return hr_cli_fail("%s, line %d: \"max_new_tokens\" should be a whole number from 1.", o->file,
		                   number);
	return HR_EXIT_OK;
}

static int read_prompts_file(struct prompts *p, const struct hr_cli_options *o)
{
	p->text = hr_cli_read_file(o->file, "file of prompts");
	if (!p->text)
		return HR_EXIT_ERROR;
	int n_lines = 1;
	for (const char *c = p->text; *c; c++)
		n_lines += *c == '\n';
	int code = allocate_jobs(p, n_lines);
	int number = 0;
	for (char *line, *rest = p->text; !code && (line = strsep(&rest, "\n"));) {
		number++;
		if (line[strspn(line, " \t\r")])
			code = read_line(p, o, line, number);
	}
	return code || p->n
	           ? code
	           : hr_cli_fail("%s holds no prompt; write one {\"prompt\": \"...\"} per line.", o->file);
}

static int tokenize_prompts(struct prompts *p, const struct hr_model *model, const struct hr_cli_options *o)
{
	int code = HR_EXIT_OK;
	for (int i = 0; !code && i < p->n; i++) {
		struct hr_cli_job     *job = &p->jobs[i];
		struct hr_chat_message messages[2] = {{"system", o->system}, {"user", job->prompt}};
		code = !o->chat    ? hr_cli_job_tokenize(job, model)
		       : o->system ? hr_cli_job_tokenize_chat(job, model, messages, 2)
		                   : hr_cli_job_tokenize_chat(job, model, messages + 1, 1);
	}
	return code;
}

/* A context that holds the longest prompt and its answer, as far as the model goes. */
static int fit_context(const struct prompts *p, const struct hr_model *model, struct hr_cli_options *o)
{
	int64_t longest = 0, need = 0;
	bool    open_ended = false;
	for (int i = 0; i < p->n; i++) {
		int64_t n = p->jobs[i].n_prompt_ids;
		longest = n > longest ? n : longest;
		need = n + p->jobs[i].max_new_tokens > need ? n + p->jobs[i].max_new_tokens : need;
		open_ended |= !p->jobs[i].max_new_tokens;
	}
	int trained = hr_model_info(model)->n_ctx_train;
	int most = o->plan.n_ctx ? o->plan.n_ctx : trained;
	if (most > 0 && longest >= most)
		return hr_cli_fail("The prompt has %lld tokens, and a context of %d has no room for an answer; %s.",
		                   (long long)longest, most,
		                   o->plan.n_ctx ? "give a larger -c or a shorter prompt"
		                                 : "the model was trained for no more, so give a shorter prompt");
	if (!o->plan.n_ctx && (!open_ended || longest >= 4096))
		o->plan.n_ctx = (int)(trained > 0 && (open_ended || need > trained) ? trained : need);
	return HR_EXIT_OK;
}

/* Lines of finished jobs, in the order of the input. */
static bool show_lines(struct hr_cli_job *jobs, int n_jobs)
{
	for (int i = 0; i < n_jobs && jobs[i].finish != HR_RUNNING; i++) {
		if (!jobs[i].written && !hr_cli_write_json(hr_cli_json_job(&jobs[i]), true))
			return false;
		jobs[i].written = 1;
	}
	return true;
}

static int generate(struct prompts *p, const struct hr_model *model, struct hr_session *session,
                    const struct hr_cli_options *o)
{
	int code = HR_EXIT_OK;
	for (int i = 0; !code && i < p->n; i++)
		code = hr_cli_job_submit(&p->jobs[i], session, o);
	if (!code)
		code = hr_cli_generate(session, p->jobs, p->n,
		                       o->json   ? hr_cli_show_nothing
		                       : o->file ? show_lines
		                                 : hr_cli_show_text);
	if (code && code != HR_EXIT_INTERRUPTED)
		return code;
	if (o->json) {
		json_t *outputs = json_array();
		for (int i = 0; i < p->n; i++)
			json_array_append_new(outputs, hr_cli_json_job(&p->jobs[i]));
		hr_cli_write_json(hr_cli_json_run(model, session, outputs), false);
	} else if (!o->file) {
		hr_cli_write("\n", 1);
	}
	return hr_cli_report(model, session, o, code);
}

int hr_cli_run(struct hr_cli_options *o)
{
	struct hr_model   *model = NULL;
	struct hr_session *session = NULL;
	struct prompts     prompts = {0};
	char              *map = NULL;
	int                code;

	if (!o->prompt == !o->file)
		return hr_cli_fail_usage("`headrace run` wants a prompt: -p TEXT, or -f FILE with many of them%s.",
		                         o->prompt ? ", not both" : "");
	if (o->system && !o->chat)
		return hr_cli_fail_usage("--system is part of a conversation: give --chat too.");
	if (o->plan.n_seqs && !o->file)
		return hr_cli_fail_usage("--parallel is for the prompts of -f; with -p there is one.");
	code = hr_cli_resolve(o, &map);
	if (!code)
		code = o->file ? read_prompts_file(&prompts, o) : read_prompt(&prompts, o);
	if (!code)
		code = hr_cli_open_model(&model, o);
	if (!code)
		code = tokenize_prompts(&prompts, model, o);
	if (!code)
		code = fit_context(&prompts, model, o);
	if (!code && !o->plan.n_seqs) {
		o->plan.n_seqs = prompts.n < MOST_PARALLEL ? prompts.n : MOST_PARALLEL;
		o->plan.seqs_may_wait = true;
	}
	if (!code)
		code = hr_cli_open_session(&session, model, o);
	if (!code)
		code = generate(&prompts, model, session, o);
	hr_session_close(session);
	hr_model_close(model);
	release_prompts(&prompts);
	free(map);
	return code;
}
