/* Write the logits of every position of a prompt, f32[n_ids][n_vocab], to compare
 * them with another program's.
 *
 *     logits MODEL DEVICE f16|f32 FILE ID...        (the type is the cache's)
 */
#include <headrace/headrace.h>

#include <stdio.h>
#include <stdlib.h>

static void write_row(void *file, uint64_t id, int position, const float *logits, int n_vocab)
{
	(void)id, (void)position;
	fwrite(logits, sizeof *logits, (size_t)n_vocab, file);
}

int main(int argc, char **argv)
{
	struct hr_error        err = {0};
	struct hr_model       *model = NULL;
	struct hr_session     *session = NULL;
	struct hr_plan_options options;
	struct hr_request      request;
	FILE                  *file = NULL;
	int32_t               *ids = NULL;
	uint64_t               id;
	int                    more = -1;

	if (argc < 6) {
		fprintf(stderr, "usage: logits MODEL DEVICE f16|f32 FILE ID...\n");
		return 2;
	}
	file = fopen(argv[4], "wb");
	ids = calloc((size_t)argc, sizeof *ids);
	if (!file || !ids) {
		perror(argv[4]);
		goto done;
	}
	hr_plan_options_init(&options);
	options.device = argv[2];
	options.kv_type = argv[3];
	hr_request_init(&request);
	request.ids = ids;
	request.n_ids = (size_t)argc - 5;
	for (size_t i = 0; i < request.n_ids; i++)
		ids[i] = (int32_t)atoi(argv[i + 5]);
	request.max_new_tokens = 1;
	request.logits_all = true;
	request.on_logits = write_row;
	request.user = file;

	if (!hr_model_open(&model, argv[1], &err) && !hr_session_open(&session, model, &options, &err) &&
	    !hr_session_submit(session, &request, &id, &err)) {
		do
			more = hr_session_step(session, &err);
		while (more > 0);
	}
	if (more < 0)
		fprintf(stderr, "%s\n", err.message);
	else if (ferror(file) || fflush(file)) {
		perror(argv[4]);
		more = -1;
	}
done:
	hr_session_close(session);
	hr_model_close(model);
	if (file)
		fclose(file);
	free(ids);
	return more < 0;
}
