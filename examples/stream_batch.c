/* Many prompts in one session: they share each pass, so that weights which are
 * streamed once serve all of them. Prints each text as it is finished.
 *
 *     stream_batch MODEL TEXT...
 */
#include <headrace/headrace.h>

#include <stdio.h>
#include <stdlib.h>

enum { MAX_TEXTS = 32, MAX_BYTES = 4096 };

struct stream {
	uint64_t id;
	char     text[MAX_BYTES];
	size_t   n;
	bool     finished;
};

static void follow(struct hr_session *session, struct stream *s, const char *prompt)
{
	struct hr_request_state state;
	int64_t                 n;
	while ((n = hr_session_read(session, s->id, s->text + s->n, sizeof s->text - s->n)) > 0)
		s->n += (size_t)n;
	if (s->finished || hr_session_state(session, s->id, &state) || state.finish == HR_RUNNING)
		return;
	s->finished = true;
	printf("%s ->%.*s [%d tokens]\n", prompt, (int)s->n, s->text, state.n_new_tokens);
}

int main(int argc, char **argv)
{
	static struct stream   streams[MAX_TEXTS];
	struct hr_error        err = {0};
	struct hr_model       *model = NULL;
	struct hr_session     *session = NULL;
	struct hr_plan_options options;
	struct hr_report       report;
	int                    n = argc - 2, more = -1;

	if (n < 1 || n > MAX_TEXTS) {
		fprintf(stderr, "usage: stream_batch MODEL TEXT... (up to %d)\n", MAX_TEXTS);
		return 2;
	}
	hr_plan_options_init(&options);
	options.n_seqs = n;
	options.n_ctx = 512;
	if (hr_model_open(&model, argv[1], &err) || hr_session_open(&session, model, &options, &err))
		goto done;
	for (int i = 0; i < n; i++) {
		struct hr_request request;
		hr_request_init(&request);
		request.text = argv[2 + i];
		request.max_new_tokens = 32;
		if (hr_session_submit(session, &request, &streams[i].id, &err))
			goto done;
	}
	do {
		more = hr_session_step(session, &err);
		for (int i = 0; i < n; i++)
			follow(session, &streams[i], argv[2 + i]);
	} while (more > 0);
	hr_session_report(session, &report);
	printf("%llu passes for %d texts\n", (unsigned long long)report.passes, n);
done:
	if (more < 0)
		fprintf(stderr, "%s\n", err.message);
	hr_session_close(session);
	hr_model_close(model);
	return more < 0;
}
