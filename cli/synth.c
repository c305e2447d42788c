/* `headrace synth`: write a model of real shapes with random weights. */
#include "cli/cli.h"

#include <stdio.h>
#include <sys/stat.h>

int hr_cli_synth(struct hr_cli_options *o)
{
	struct hr_error err;
	struct stat     st;
	const char     *type = o->type ? o->type : "q4_0";
	if (!o->like)
		return hr_cli_fail_usage("`headrace synth` wants --like SHAPE, one of: %s.", hr_synth_shapes());
	hr_cli_hold_interrupts(true);
	if (hr_synth(o->target, o->like, type, o->sampling.seed, hr_cli_on_progress, NULL, &err))
		return hr_cli_fail_error(&err);
	if (stat(o->target, &st))
		return hr_cli_fail("%s was written and is gone again.", o->target);
	if (o->json)
		hr_cli_write_json(json_pack("{s:o, s:s, s:s, s:I, s:I}", "path", hr_cli_json_text(o->target), "like",
		                            o->like, "type", type, "seed", (json_int_t)o->sampling.seed, "bytes",
		                            (json_int_t)st.st_size),
		                  false);
	else
		printf("%s: %s of random weights in the shapes of %s, %s\n", o->target,
		       hr_cli_bytes((uint64_t)st.st_size).s, o->like, type);
	return HR_EXIT_OK;
}
