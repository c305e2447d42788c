/* Continue a text with a model that may be larger than the memory it gets.
 *
 *     generate MODEL TEXT [DEVICE_MEMORY_BYTES]
 */
#include <headrace/headrace.h>

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	struct hr_error        err = {0};
	struct hr_model       *model = NULL;
	struct hr_session     *session = NULL;
	struct hr_plan_options options;
	struct hr_request      request;
	uint64_t               id;
	int                    more = -1;

	if (argc < 3) {
		fprintf(stderr, "usage: generate MODEL TEXT [DEVICE_MEMORY_BYTES]\n");
		return 2;
	}
	hr_plan_options_init(&options);
	if (argc > 3)
		options.device_memory_bytes = strtoull(argv[3], NULL, 10);
	hr_request_init(&request);
	request.text = argv[2];
	request.add_special = true;
	request.max_new_tokens = 64;

	if (hr_model_open(&model, argv[1], &err) || hr_session_open(&session, model, &options, &err) ||
	    hr_session_submit(session, &request, &id, &err))
		goto done;
	do {
		char    text[256];
		int64_t n;
		more = hr_session_step(session, &err);
		while ((n = hr_session_read(session, id, text, sizeof text)) > 0)
			fwrite(text, 1, (size_t)n, stdout);
		fflush(stdout);
	} while (more > 0);
	putchar('\n');
done:
	if (more < 0)
		fprintf(stderr, "%s\n", err.message);
	hr_session_close(session);
	hr_model_close(model);
	return more < 0;
}
