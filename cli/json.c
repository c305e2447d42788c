/* The documents. Their keys, nesting and types are a contract; jansson keeps the
 * order in which they are set. */
#include "cli/cli.h"
#include "cli/generate.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *bytes(uint64_t x) { return json_integer((json_int_t)x); }

static json_t *real(double x) { return json_real(isfinite(x) ? x : 0); }

static json_t *per_second(uint64_t n, double ms) { return real(ms > 0 ? (double)n * 1e3 / ms : 0); }

/* Bytes of the UTF-8 character at `p` (Unicode 15, table 3-7); of what is wrong there
 * when `*valid` comes back false. Text that ends in a zero needs no length. */
static size_t utf8_step(const unsigned char *p, bool *valid)
{
	unsigned lead = *p, low = 0x80, high = 0xbf;
	size_t   need = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4, n = 1;
	*valid = lead < 0x80 || (lead >= 0xc2 && lead <= 0xf4);
	if (!*valid)
		return 1;
	if (lead == 0xe0 || lead == 0xf0)
		low = lead == 0xe0 ? 0xa0 : 0x90;
	if (lead == 0xed || lead == 0xf4)
		high = lead == 0xed ? 0x9f : 0x8f;
	for (; n < need && p[n] >= low && p[n] <= high; n++) {
		low = 0x80;
		high = 0xbf;
	}
	*valid = n == need;
	return n;
}

/* `text` ends in a zero after its `n` bytes, and may hold others. */
static json_t *text_value(const char *text, size_t n)
{
	json_t *value = json_stringn(text, n);
	char   *clean = value ? NULL : malloc(3 * n + 1), *to = clean;
	if (!clean)
		return value ? value : json_null();
	for (const char *p = text; p < text + n;) {
		bool   valid;
		size_t step = utf8_step((const unsigned char *)p, &valid);
		to = mempcpy(to, valid ? p : "\xef\xbf\xbd", valid ? step : 3);
		p += step;
	}
	value = json_stringn(clean, (size_t)(to - clean));
	free(clean);
	return value;
}

json_t *hr_cli_json_text(const char *text) { return text ? text_value(text, strlen(text)) : json_null(); }

json_t *hr_cli_json_model(const struct hr_model *model)
{
	const struct hr_model_info *m = hr_model_info(model);
	json_t                     *o = json_object();
	json_object_set_new(o, "path", hr_cli_json_text(m->path));
	json_object_set_new(o, "family", json_string(m->family));
	json_object_set_new(o, "n_layers", json_integer(m->n_layers));
	json_object_set_new(o, "n_params", bytes(m->n_params));
	json_object_set_new(o, "weight_bytes", bytes(m->weight_bytes));
	json_object_set_new(o, "dtype", json_string(m->dtype));
	return o;
}

json_t *hr_cli_json_plan(const struct hr_plan *plan)
{
	const struct hr_plan_info *p = hr_plan_info(plan);
	json_t                    *o = json_object(), *map = json_object(), *fallbacks = json_array();
	const char                *module, *tier;
	for (int i = 0; !hr_plan_module(plan, i, &module, &tier, NULL); i++)
		json_object_set_new(map, module, json_string(tier));
	for (int i = 0; i < p->n_fallbacks; i++)
		json_array_append_new(fallbacks, hr_cli_json_text(hr_plan_fallback(plan, i)));

	json_object_set_new(o, "device", json_string(p->device));
	json_object_set_new(o, "window_layers", json_integer(p->window_layers));
	json_object_set_new(o, "resident_layers", json_integer(p->resident_layers));
	json_object_set_new(o, "slots", json_integer(p->slots));
	json_object_set_new(o, "host_layers", json_integer(p->host_layers));
	json_object_set_new(o, "disk_layers", json_integer(p->disk_layers));
	json_object_set_new(o, "device_budget_bytes", bytes(p->device_budget_bytes));
	json_object_set_new(o, "device_map", map);
	json_object_set_new(o, "reader", hr_cli_json_text(p->reader));
	json_object_set_new(o, "chunk_bytes", bytes(p->chunk_bytes));
	json_object_set_new(o, "read_depth", json_integer(p->read_depth));
	json_object_set_new(o, "predicted_pass_ms", real(p->predicted_pass_ms));
	json_object_set_new(o, "kept_share", real(p->kept_share));
	json_object_set_new(o, "profile", hr_cli_json_text(p->profile));
	json_object_set_new(o, "fallbacks", fallbacks);
	return o;
}

json_t *hr_cli_json_job(const struct hr_cli_job *job)
{
	json_t *o = json_object(), *ids = json_array();
	for (int64_t i = 0; i < job->n_ids; i++)
		json_array_append_new(ids, json_integer(job->ids[i]));
	json_object_set_new(o, "prompt", hr_cli_json_text(job->prompt));
	json_object_set_new(o, "text", text_value(job->text ? job->text : "", job->bytes));
	json_object_set_new(o, "token_ids", ids);
	json_object_set_new(o, "finish_reason", json_string(hr_cli_finish_name(job->finish)));
	return o;
}

static json_t *json_timing(const struct hr_report *r)
{
	json_t *o = json_object();
	json_object_set_new(o, "load_ms", real(r->load_ms));
	json_object_set_new(o, "prefill_tokens", bytes(r->prefill_tokens));
	json_object_set_new(o, "prefill_tps", per_second(r->prefill_tokens, r->prefill_ms));
	json_object_set_new(o, "decode_tokens", bytes(r->decode_tokens));
	json_object_set_new(o, "decode_tps", per_second(r->decode_tokens, r->decode_ms));
	json_object_set_new(o, "passes", bytes(r->passes));
	json_object_set_new(o, "pass_ms_median", real(r->pass_ms_median));
	return o;
}

static json_t *json_pipeline(const struct hr_report *r)
{
	json_t *o = json_object();
	json_object_set_new(o, "disk_bytes", bytes(r->disk_bytes));
	json_object_set_new(o, "disk_gbps", real(r->disk_gbps));
	json_object_set_new(o, "link_bytes", bytes(r->link_bytes));
	json_object_set_new(o, "link_gbps", real(r->link_gbps));
	json_object_set_new(o, "compute_ms", real(r->compute_ms));
	json_object_set_new(o, "stall_ms", real(r->stall_ms));
	json_object_set_new(o, "ceiling_ms", real(r->ceiling_ms));
	json_object_set_new(o, "efficiency", real(r->efficiency));
	return o;
}

static json_t *json_memory(const struct hr_report *r)
{
	json_t *o = json_object();
	json_object_set_new(o, "device_peak_bytes", bytes(r->device_peak_bytes));
	json_object_set_new(o, "host_peak_bytes", bytes(r->host_peak_bytes));
	json_object_set_new(o, "rss_peak_bytes", bytes(r->rss_peak_bytes));
	return o;
}

json_t *hr_cli_json_run(const struct hr_model *model, struct hr_session *session, json_t *outputs)
{
	struct hr_report r;
	json_t          *o = json_object();
	char             hash[17];
	hr_session_report(session, &r);
	snprintf(hash, sizeof hash, "%016" PRIx64, r.logits_xxh64);
	json_object_set_new(o, "model", hr_cli_json_model(model));
	json_object_set_new(o, "plan", hr_cli_json_plan(hr_session_plan(session)));
	json_object_set_new(o, "outputs", outputs);
	json_object_set_new(o, "timing", json_timing(&r));
	json_object_set_new(o, "pipeline", json_pipeline(&r));
	json_object_set_new(o, "memory", json_memory(&r));
	json_object_set_new(o, "logits_xxh64", json_string(hash));
	return o;
}
