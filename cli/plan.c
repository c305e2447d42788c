/* `headrace plan`: what would go where, before anything is loaded. The library
 * makes the plan; here it becomes a table, a map and a command line to paste. */
#include "cli/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The `headrace run` or `headrace embed` that carries the plan out. Allocated. */
static char *command_line(const struct hr_cli_options *o, bool encoder)
{
	char *text = NULL;
	char *given = hr_cli_given_flags(encoder ? HR_CLI_EMBED : HR_CLI_RUN);
	char *model = hr_cli_quote(o->target);
	if (asprintf(&text, "headrace %s %s%s %s", encoder ? "embed" : "run", model ? model : "",
	             given ? given : "", encoder ? "'A text'" : "-p 'Once upon a time'") < 0)
		text = NULL;
	free(given);
	free(model);
	return text;
}

/* What memory buys when it holds the KV cache of more sequences instead of more layers: the
 * same budget planned for more and more of them. */
struct batch_row {
	int         n_seqs, resident_layers;
	uint64_t    kv_bytes, streamed_bytes; /* in a pass */
	double      tps;
	const char *bound; /* a literal of the library */
};
struct batches {
	struct batch_row rows[8];
	int              n, best;
};

static void compare_batches(struct batches *b, const struct hr_model *model, const struct hr_cli_options *o,
                            const struct hr_plan_info *asked)
{
	struct hr_plan_options options = o->plan;
	options.on_notice = NULL;
	options.measure = false;
	b->n = b->best = 0;
	for (int seqs = 1; seqs <= 128 && asked->rates && b->n < 8; seqs *= seqs < 64 ? 2 : 4) {
		struct hr_plan *plan;
		options.n_seqs = seqs;
		options.n_batch = asked->n_batch < seqs ? seqs : asked->n_batch;
		if (hr_plan_new(&plan, model, &options, NULL))
			return;
		const struct hr_plan_info *p = hr_plan_info(plan);
		if (p->n_seqs != seqs) { /* no room for so many */
			hr_plan_free(plan);
			return;
		}
		uint64_t streamed =
		    p->link_bytes_per_pass > p->disk_bytes_per_pass ? p->link_bytes_per_pass : p->disk_bytes_per_pass;
		b->rows[b->n] = (struct batch_row){seqs,     p->resident_layers,      p->kv_bytes,
		                                   streamed, p->predicted_decode_tps, p->decode_bound};
		if (b->rows[b->n].tps > b->rows[b->best].tps * 1.01)
			b->best = b->n;
		b->n++;
		hr_plan_free(plan);
	}
}

static void print_row(const char *name, const char *amount, const char *what)
{
	printf("  %-18s %10s  %s\n", name, amount, what);
}

static void print_tiers(const struct hr_model_info *m, const struct hr_plan_info *p)
{
	char text[160];
	print_row("total size", hr_cli_bytes(m->weight_bytes).s, "all weights");
	print_row("largest layer", hr_cli_bytes(m->largest_layer_bytes).s,
	          p->kept_share > 0 ? "" : "what a slot must hold");
	print_row("embedding", hr_cli_bytes(m->embedding_bytes).s, m->tied_embedding ? "is the head too" : "");
	print_row("head", hr_cli_bytes(m->head_bytes).s, "");
	printf("\n");
	snprintf(text, sizeof text, "weights, of a budget of %s: %s, %d slots for the rest",
	         hr_cli_bytes(p->device_budget_bytes).s, hr_cli_residents(p).s, p->slots);
	print_row("device", hr_cli_bytes(p->device_bytes).s, text);
	bool beside = !strcmp(p->device, "cpu"); /* there the budget is for weights alone */
	snprintf(text, sizeof text, "KV cache, %d x %d tokens%s", p->n_seqs, p->n_ctx,
	         beside ? "; beside the budget" : "");
	print_row("", hr_cli_bytes(p->kv_bytes).s, text);
	snprintf(text, sizeof text, "activations, %d tokens in a pass%s", p->n_batch,
	         beside ? "; beside the budget" : "");
	print_row("", hr_cli_bytes(p->activation_bytes).s, text);
	snprintf(text, sizeof text, "%d layers in RAM, and staging", p->host_layers);
	print_row("host", hr_cli_bytes(p->host_bytes).s, text);
	snprintf(text, sizeof text, "read in each pass, for %d layers", p->disk_layers);
	print_row("disk", hr_cli_bytes(p->disk_bytes_per_pass).s, text);
	if (p->link_bytes_per_pass)
		print_row("link", hr_cli_bytes(p->link_bytes_per_pass).s, "copied in each pass");
}

static void print_pass(const char *name, double tps, double ms, double ceiling_ms, const char *bound)
{
	printf("    %-28s %9.2f %11.2f %11.2f  %s\n", name, tps, ms, ceiling_ms, bound);
}

static void print_predictions(const struct hr_plan_info *p, const struct batches *b, bool encoder)
{
	char text[64];
	if (!p->rates) {
		printf("\n  predicted: nothing, because %s\n",
		       encoder ? "only models that generate are measured"
		               : "nothing was measured with this model on this machine");
		return;
	}
	printf("\n  %-28s   %9s %11s %11s  %s\n", "predicted", "tokens/s", "ms a pass", "ceiling ms", "bound by");
	snprintf(text, sizeof text, "decode, %d at a time", p->n_seqs);
	print_pass(text, p->predicted_decode_tps, p->predicted_pass_ms, p->decode_ceiling_ms, p->decode_bound);
	snprintf(text, sizeof text, "prefill, %.0f tokens a pass",
	         p->predicted_prefill_tps * p->predicted_prefill_ms / 1e3);
	print_pass(text, p->predicted_prefill_tps, p->predicted_prefill_ms, p->prefill_ceiling_ms,
	           p->prefill_bound);
	if (b->n > 1)
		printf("\n  %-28s   %9s %11s %11s  %s\n", "sequences at a time", "tokens/s", "KV cache", "streamed",
		       "bound by");
	for (int i = 0; i < b->n && b->n > 1; i++) {
		snprintf(text, sizeof text, "%d%s", b->rows[i].n_seqs, i == b->best ? ", the most in sum" : "");
		printf("    %-28s %9.2f %11s %11s  %s\n", text, b->rows[i].tps, hr_cli_bytes(b->rows[i].kv_bytes).s,
		       hr_cli_bytes(b->rows[i].streamed_bytes).s, b->rows[i].bound);
	}
}

/* "model.layers.12": 12 and the length of what stands before; -1 otherwise. */
static int layer_index(const char *module, size_t *prefix)
{
	const char *dot = strrchr(module, '.');
	long long   index;
	if (!dot || !hr_cli_parse_int(dot + 1, 0, INT32_MAX, &index))
		return -1;
	*prefix = (size_t)(dot + 1 - module);
	return (int)index;
}

/* One line per run of layers with the same tier. */
static void print_device_map(const struct hr_plan *plan)
{
	const char *module, *tier;
	uint64_t    bytes;
	printf("\n  device map\n");
	for (int i = 0; !hr_plan_module(plan, i, &module, &tier, &bytes);) {
		char        name[128];
		size_t      prefix = 0, next_prefix;
		int         first = layer_index(module, &prefix), last = first;
		uint64_t    sum = bytes;
		const char *next, *next_tier;
		for (i++; first >= 0 && !hr_plan_module(plan, i, &next, &next_tier, &bytes); i++, last++) {
			if (layer_index(next, &next_prefix) != last + 1 || strcmp(next_tier, tier))
				break;
			sum += bytes;
		}
		snprintf(name, sizeof name, "%s", module);
		if (last > first)
			snprintf(name, sizeof name, "%.*s%d-%d", (int)prefix, module, first, last);
		printf("    %-28s %-7s %10s\n", name, tier, hr_cli_bytes(sum).s);
	}
}

static void print_plan(const struct hr_model *model, const struct hr_plan *plan, const struct batches *b,
                       const char *command)
{
	const struct hr_model_info *m = hr_model_info(model);
	const struct hr_plan_info  *p = hr_plan_info(plan);
	printf("%s: %s, %s, %d layers; to run on %s (%s)\n\n", m->path, m->family, m->dtype, m->n_layers,
	       p->device, p->device_name);
	print_tiers(m, p);
	print_predictions(p, b, m->encoder);
	if (p->profile)
		printf("\n  profile: %s\n", p->profile);
	print_device_map(plan);
	for (int i = 0; i < p->n_fallbacks; i++)
		printf("\n  %s\n", hr_plan_fallback(plan, i));
	printf("\n  %s\n", command);
}

static json_t *json_modules(const struct hr_plan *plan)
{
	json_t     *list = json_array();
	const char *module, *tier;
	uint64_t    bytes;
	for (int i = 0; !hr_plan_module(plan, i, &module, &tier, &bytes); i++)
		json_array_append_new(
		    list, json_pack("{s:s, s:s, s:I}", "module", module, "tier", tier, "bytes", (json_int_t)bytes));
	return list;
}

static json_t *json_pass(double ms, double tps, double ceiling_ms, const char *bound)
{
	return json_pack("{s:f, s:f, s:f, s:s}", "pass_ms", ms, "tps", tps, "ceiling_ms", ceiling_ms, "bound",
	                 bound);
}

static json_t *json_predictions(const struct hr_plan_info *p, const struct batches *b)
{
	json_t *rows = json_array();
	if (!p->rates) {
		json_decref(rows);
		return json_null();
	}
	for (int i = 0; i < b->n; i++)
		json_array_append_new(rows, json_pack("{s:i, s:f, s:I, s:I, s:i, s:s}", "n_seqs", b->rows[i].n_seqs,
		                                      "tps", b->rows[i].tps, "kv_bytes",
		                                      (json_int_t)b->rows[i].kv_bytes, "streamed_bytes",
		                                      (json_int_t)b->rows[i].streamed_bytes, "resident_layers",
		                                      b->rows[i].resident_layers, "bound", b->rows[i].bound));
	return json_pack(
	    "{s:s, s:o, s:o, s:o}", "rates", p->rates, "decode",
	    json_pass(p->predicted_pass_ms, p->predicted_decode_tps, p->decode_ceiling_ms, p->decode_bound),
	    "prefill",
	    json_pass(p->predicted_prefill_ms, p->predicted_prefill_tps, p->prefill_ceiling_ms, p->prefill_bound),
	    "batches", rows);
}

/* What `run --json` says of model and plan, with the bytes of each tier. */
static json_t *json_plan(const struct hr_model *model, const struct hr_plan *plan, const struct batches *b,
                         const char *command)
{
	const struct hr_model_info *m = hr_model_info(model);
	const struct hr_plan_info  *p = hr_plan_info(plan);
	json_t                     *bytes =
	    json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "largest_layer",
	              (json_int_t)m->largest_layer_bytes, "device", (json_int_t)p->device_bytes, "resident",
	              (json_int_t)p->resident_bytes, "slot", (json_int_t)p->slot_bytes, "kv",
	              (json_int_t)p->kv_bytes, "activations", (json_int_t)p->activation_bytes, "host",
	              (json_int_t)p->host_bytes, "disk_per_pass", (json_int_t)p->disk_bytes_per_pass,
	              "link_per_pass", (json_int_t)p->link_bytes_per_pass, "total", (json_int_t)m->weight_bytes);
	json_t *predicted = p->rates ? json_real(p->predicted_decode_tps) : json_null();
	return json_pack("{s:o, s:o, s:o, s:o, s:i, s:i, s:i, s:o, s:o, s:o}", "model", hr_cli_json_model(model),
	                 "plan", hr_cli_json_plan(plan), "bytes", bytes, "modules", json_modules(plan), "n_ctx",
	                 p->n_ctx, "n_seqs", p->n_seqs, "n_batch", p->n_batch, "predicted_tps", predicted,
	                 "predicted", json_predictions(p, b), "command", hr_cli_json_text(command));
}

int hr_cli_plan(struct hr_cli_options *o)
{
	struct hr_error  err;
	struct hr_model *model = NULL;
	struct hr_plan  *plan = NULL;
	char            *map = NULL, *command = NULL, *card = NULL;
	struct batches   batches;
	int              code = hr_cli_resolve(o, &map);

	if (!code && o->assume) {
		o->plan.assume = card = hr_cli_read_card(o->assume);
		code = card ? HR_EXIT_OK : HR_EXIT_ERROR;
	}
	o->plan.measure = !o->assume;
	if (!code)
		code = hr_cli_open_model(&model, o);
	if (!code && hr_plan_new(&plan, model, &o->plan, &err))
		code = hr_cli_fail_error(&err);
	if (code)
		goto done;
	compare_batches(&batches, model, o, hr_plan_info(plan));
	command = command_line(o, hr_model_info(model)->encoder);
	if (!command)
		code = hr_cli_fail("There is no memory for the plan.");
	else if (o->json)
		hr_cli_write_json(json_plan(model, plan, &batches, command), false);
	else
		print_plan(model, plan, &batches, command);
done:
	hr_plan_free(plan);
	hr_model_close(model);
	free(command);
	free(card);
	free(map);
	return code;
}
