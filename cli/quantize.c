/* `headrace quantize`: a model's weights as one GGUF of another type. And how every other command
 * opens a model whose weights are wanted in another type. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

static void fill(struct hr_quantize_options *q, const struct hr_cli_options *o, const char *type)
{
	hr_quantize_options_init(q);
	q->type = type;
	q->pure = o->pure;
	q->allow_requantize = o->allow_requantize;
	q->replace = o->force;
	q->n_threads = o->plan.n_threads;
	q->on_notice = hr_cli_on_notice;
	q->on_progress = hr_cli_on_progress;
}

int hr_cli_open_model(struct hr_model **model, const struct hr_cli_options *o)
{
	struct hr_error            err;
	struct hr_quantize_options q;
	const char                *dtype = o->dtype && strcmp(o->dtype, "auto") != 0 ? o->dtype : NULL;
	if (dtype && o->quantize)
		return hr_cli_fail_usage(
		    "--dtype and --quantize both say what the weights become; give one of them.");
	const char *type = dtype ? dtype : o->quantize;
	if (type && !hr_quantize_has_type(type))
		return hr_cli_fail_usage("--quantize wants one of %s, not \"%s\".", hr_quantize_types(), type);
	fill(&q, o, type ? type : "auto");
	hr_cli_hold_interrupts(true);
	int rc = hr_model_open_as(model, o->target, &q, o->plan.cache_dir, &err);
	hr_cli_hold_interrupts(false);
	return rc ? hr_cli_fail_error(&err) : hr_cli_interrupted() ? HR_EXIT_INTERRUPTED : HR_EXIT_OK;
}

int hr_cli_quantize(struct hr_cli_options *o)
{
	struct hr_error            err;
	struct hr_quantize_options q;
	struct hr_quantize_result  result;
	const char                *type = o->type ? o->type : "q4_k_m", *out = o->words[0];
	if (o->n_words != 1)
		return hr_cli_fail_usage(
		    "`headrace quantize` wants the file to write behind the model: headrace quantize "
		    "IN OUT --type %s.",
		    type);
	if (!hr_quantize_has_type(type))
		return hr_cli_fail_usage("--type wants one of %s, not \"%s\".", hr_quantize_types(), type);
	fill(&q, o, type);
	hr_cli_hold_interrupts(true);
	if (hr_quantize(out, o->target, &q, &result, &err))
		return hr_cli_fail_error(&err);
	if (o->json)
		hr_cli_write_json(json_pack("{s:o, s:o, s:s, s:I, s:I, s:i, s:i, s:i}", "path", hr_cli_json_text(out),
		                            "source", hr_cli_json_text(o->target), "type", type, "source_bytes",
		                            (json_int_t)result.source_bytes, "bytes", (json_int_t)result.bytes,
		                            "n_tensors", result.n_tensors, "n_converted", result.n_converted,
		                            "n_fallbacks", result.n_fallbacks),
		                  false);
	else
		printf("%s: %s as %s, out of %s; %d of %d tensors converted\n", out, hr_cli_bytes(result.bytes).s,
		       type, hr_cli_bytes(result.source_bytes).s, result.n_converted, result.n_tensors);
	return HR_EXIT_OK;
}
