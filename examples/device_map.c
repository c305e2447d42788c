/* Say for each module where it goes, see what comes of it, and load it that way:
 * here every second layer stays on the device and the others are read from disk.
 *
 *     device_map MODEL
 */
#include <headrace/headrace.h>

#include <stdio.h>
#include <stdlib.h>

/* {"model.embed_tokens": 0, ..., "model.layers.1": "disk", ...} */
static char *make_map(int n_layers)
{
	char  *json = NULL;
	size_t bytes;
	FILE  *out = open_memstream(&json, &bytes);
	if (!out)
		return NULL;
	fprintf(out, "{\"model.embed_tokens\": 0, \"model.norm\": 0, \"lm_head\": 0");
	for (int i = 0; i < n_layers; i++)
		fprintf(out, ", \"model.layers.%d\": %s", i, i % 2 ? "\"disk\"" : "0");
	fputc('}', out);
	fclose(out);
	return json;
}

int main(int argc, char **argv)
{
	struct hr_error        err = {0};
	struct hr_model       *model = NULL;
	struct hr_session     *session = NULL;
	const struct hr_plan  *plan;
	struct hr_plan_options options;
	const char            *module, *tier;
	uint64_t               bytes;
	char                  *map = NULL;
	int                    code = 1;

	if (argc != 2) {
		fprintf(stderr, "usage: device_map MODEL\n");
		return 2;
	}
	if (hr_model_open(&model, argv[1], &err))
		goto done;
	hr_plan_options_init(&options);
	options.device_map = map = make_map(hr_model_info(model)->n_layers);
	if (hr_session_open(&session, model, &options, &err))
		goto done;
	plan = hr_session_plan(session);
	for (int i = 0; !hr_plan_module(plan, i, &module, &tier, &bytes); i++)
		printf("%-24s %-7s %llu\n", module, tier, (unsigned long long)bytes);
	printf("%llu bytes on the device, %llu read from disk in each pass\n",
	       (unsigned long long)hr_plan_info(plan)->device_bytes,
	       (unsigned long long)hr_plan_info(plan)->disk_bytes_per_pass);
	code = 0;
done:
	if (code)
		fprintf(stderr, "%s\n", err.message);
	hr_session_close(session);
	hr_model_close(model);
	free(map);
	return code;
}
