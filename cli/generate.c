/* What run and chat share: opening a session with the words that go with it, and
 * following requests until they are over.
 *
 * One thread steps the session and, between passes, takes over the new text,
 * gives it to whoever shows it, and looks whether Ctrl-C was pressed. */
#include "cli/generate.h"

#include <stdlib.h>
#include <string.h>

const char *hr_cli_finish_name(enum hr_finish finish)
{
	switch (finish) {
	case HR_FINISH_STOP:
		return "stop";
	case HR_FINISH_LENGTH:
		return "length";
	case HR_FINISH_ERROR:
		return "error";
	default:
		return "canceled";
	}
}

static int tokenize(struct hr_cli_job *job, const struct hr_model *model, const char *text, bool add_special)
{
	struct hr_error err;
	size_t          bytes = strlen(text);
	int64_t         n = hr_model_tokenize(model, text, bytes, add_special, true, NULL, 0, &err);
	if (n < 0)
		return hr_cli_fail_error(&err);
	job->prompt_ids = calloc((size_t)n + 1, sizeof *job->prompt_ids);
	if (!job->prompt_ids)
		return hr_cli_fail("There is no memory for a prompt of %zu bytes.", bytes);
	job->n_prompt_ids =
	    hr_model_tokenize(model, text, bytes, add_special, true, job->prompt_ids, (size_t)n, &err);
	return job->n_prompt_ids < 0 ? hr_cli_fail_error(&err) : HR_EXIT_OK;
}

int hr_cli_job_tokenize(struct hr_cli_job *job, const struct hr_model *model)
{
	return tokenize(job, model, job->prompt, true);
}

int hr_cli_job_tokenize_chat(struct hr_cli_job *job, const struct hr_model *model,
                             const struct hr_chat_message *messages, int n_messages)
{
	struct hr_error err;
	char           *text;
	if (hr_model_chat_format(model, messages, n_messages, &text, &err))
		return hr_cli_fail_error(&err);
	int code = tokenize(job, model, text, false);
	hr_free(text);
	return code;
}

void hr_cli_job_release(struct hr_cli_job *job)
{
	free(job->prompt_ids);
	free(job->text);
	free(job->ids);
	*job = (struct hr_cli_job){0};
}

int hr_cli_open_session(struct hr_session **session, const struct hr_model *model, struct hr_cli_options *o)
{
	struct hr_error err;
	bool            samples = o->sampling.temperature > 0;
	if (!samples && (o->sampling.top_k || o->sampling.top_p < 1 || o->sampling.min_p > 0))
		hr_cli_note(
		    "At --temp 0 the likeliest token is taken, so --top-k, --top-p and --min-p change nothing.");
	o->plan.on_notice = hr_cli_on_notice;
	o->plan.on_progress = hr_cli_on_progress;
	o->plan.trace = o->trace != NULL;
	if (hr_session_open(session, model, &o->plan, &err))
		return hr_cli_fail_error(&err);
	if (o->plan.host_memory_bytes && !strcmp(hr_plan_info(hr_session_plan(*session))->device, "cpu"))
		hr_cli_note(
		    "--host-memory changes nothing on the CPU, where --device-memory is the memory for weights.");
	hr_cli_hold_interrupts(true);
	return HR_EXIT_OK;
}

int hr_cli_job_submit(struct hr_cli_job *job, struct hr_session *session, const struct hr_cli_options *o)
{
	struct hr_error   err;
	struct hr_request request;
	hr_request_init(&request);
	request.ids = job->prompt_ids;
	request.n_ids = (size_t)job->n_prompt_ids;
	request.max_new_tokens = job->max_new_tokens;
	request.ignore_eos = o->ignore_eos;
	request.sampling = o->sampling;
	request.hash_logits = o->json || o->stats;
	return hr_session_submit(session, &request, &job->id, &err) ? hr_cli_fail_error(&err) : HR_EXIT_OK;
}

/* Text that came up since the last look; false when memory is out. */
static bool take_text(struct hr_cli_job *job, struct hr_session *session)
{
	enum { PIECE_BYTES = 4096 };
	for (;;) {
		if (job->capacity - job->bytes < PIECE_BYTES + 1) {
			size_t capacity = 2 * job->capacity + 2 * PIECE_BYTES;
			char  *larger = realloc(job->text, capacity);
			if (!larger)
				return false;
			job->text = larger;
			job->capacity = capacity;
		}
		int64_t n = hr_session_read(session, job->id, job->text + job->bytes, PIECE_BYTES);
		if (n > 0)
			job->bytes += (size_t)n;
		job->text[job->bytes] = 0;
		if (n <= 0)
			return true;
	}
}

static bool take_news(struct hr_cli_job *job, struct hr_session *session)
{
	struct hr_request_state state;
	if (job->finish != HR_RUNNING)
		return true;
	if (hr_session_state(session, job->id, &state))
		return false;
	job->finish = state.finish;
	return take_text(job, session);
}

static bool take_ids(struct hr_cli_job *job, struct hr_session *session)
{
	int64_t n = hr_session_tokens(session, job->id, NULL, 0);
	job->ids = calloc((size_t)(n > 0 ? n : 0) + 1, sizeof *job->ids);
	job->n_ids = job->ids ? hr_session_tokens(session, job->id, job->ids, (size_t)(n > 0 ? n : 0)) : 0;
	return job->ids && job->n_ids >= 0;
}

int hr_cli_generate(struct hr_session *session, struct hr_cli_job *jobs, int n_jobs,
                    bool (*after_pass)(struct hr_cli_job *jobs, int n_jobs))
{
	struct hr_error err;
	bool            stop = false, whole = true;
	int             more = 1;
	while (more > 0) {
		bool last = stop;
		more = hr_session_step(session, &err);
		for (int i = 0; i < n_jobs; i++) {
			whole &= take_news(&jobs[i], session);
			if (jobs[i].finish != HR_RUNNING && !jobs[i].ids)
				whole &= take_ids(&jobs[i], session);
		}
		stop |= !after_pass(jobs, n_jobs) || !whole || hr_cli_interrupted();
		if (last)
			break;
		for (int i = 0; stop && i < n_jobs; i++)
			hr_session_cancel(session, jobs[i].id);
	}
	if (more < 0)
		return hr_cli_fail_error(&err);
	if (!whole)
		return hr_cli_fail("There is no memory for what was generated.");
	return hr_cli_interrupted() ? HR_EXIT_INTERRUPTED : HR_EXIT_OK;
}

bool hr_cli_show_text(struct hr_cli_job *job, int n_jobs)
{
	(void)n_jobs;
	size_t fresh = job->bytes - job->written;
	job->written = job->bytes;
	return !fresh || hr_cli_write(job->text + job->bytes - fresh, fresh);
}

bool hr_cli_show_nothing(struct hr_cli_job *jobs, int n_jobs)
{
	(void)jobs, (void)n_jobs;
	return true;
}

int hr_cli_report(const struct hr_model *model, struct hr_session *session, const struct hr_cli_options *o,
                  int code)
{
	struct hr_error err;
	if (o->stats)
		hr_cli_print_stats(model, session);
	if (o->trace && hr_session_write_trace(session, o->trace, &err)) {
		int failed = hr_cli_fail_error(&err);
		return code ? code : failed;
	}
	return code;
}
