/* The table of a benchmark: one list of fields, in four forms. Names that llama-bench has
 * mean what they mean there. */
#include "cli/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static json_t *real_or_null(double x, bool known)
{
	return known && isfinite(x) ? json_real(x) : json_null();
}

static json_t *samples(const struct hr_bench_row *row, bool speed)
{
	json_t *list = json_array();
	for (int i = 0; i < row->n; i++)
		json_array_append_new(list, speed ? json_real((double)row->tokens * 1e9 / row->ns[i])
		                                  : json_integer((json_int_t)llround(row->ns[i])));
	return list;
}

static json_t *row_to_json(const struct hr_bench *b, const struct hr_bench_row *row)
{
	const struct hr_model_info *m = hr_model_info(b->model);
	const struct hr_bench_arm  *arm = row->arm;
	const struct hr_plan_info  *p = &arm->info;
	json_t                     *o = json_object();
	bool                        ran = row->n > 0, gpu = !strncmp(arm->device, "cuda", 4);
#define SET(key, value) json_object_set_new(o, key, value)
#define INTEGER(x)      json_integer((json_int_t)(x))
	SET("build_commit", json_string(hr_version()));
	SET("cpu_info", hr_cli_json_text(gpu ? "" : arm->device_name));
	SET("gpu_info", hr_cli_json_text(gpu ? arm->device_name : ""));
	SET("model_filename", hr_cli_json_text(m->path));
	SET("model_type", json_sprintf("%s %s", m->family, m->dtype));
	SET("model_size", INTEGER(m->weight_bytes));
	SET("model_n_params", INTEGER(m->n_params));
	SET("n_batch", json_integer(ran ? p->n_batch : arm->plan.n_batch));
	SET("n_threads", json_integer(p->n_threads));
	SET("n_seqs", json_integer(arm->n_seqs));
	SET("n_prompt", json_integer(row->decode ? 0 : arm->n_prompt));
	SET("n_gen", json_integer(row->decode ? arm->n_gen : 0));
	SET("n_depth", json_integer(row->decode ? arm->n_prompt : 0));
	SET("test_time", json_string(row->test_time));
	SET("avg_ns", INTEGER(row->avg_ns));
	SET("stddev_ns", INTEGER(row->stddev_ns));
	SET("avg_ts", json_real(row->avg_ts));
	SET("stddev_ts", json_real(row->stddev_ts));
	SET("median_ns", INTEGER(row->median_ns));
	SET("median_ts", json_real(row->median_ts));
	SET("samples_ns", samples(row, false));
	SET("samples_ts", samples(row, true));
	SET("device", hr_cli_json_text(arm->device));
	SET("full", json_boolean(arm->full));
	SET("window_layers", json_integer(arm->fits   ? p->window_layers
	                                  : arm->full ? m->n_layers
	                                              : arm->plan.window_layers));
	SET("resident_layers", json_integer(p->resident_layers));
	SET("kept_share", json_real(p->kept_share));
	SET("slots", json_integer(p->slots));
	SET("host_layers", json_integer(p->host_layers));
	SET("disk_layers", json_integer(p->disk_layers));
	SET("chunk_bytes", INTEGER(p->chunk_bytes));
	SET("read_depth", json_integer(p->read_depth));
	SET("reader", hr_cli_json_text(arm->reader));
	SET("device_budget_bytes", INTEGER(p->device_budget_bytes));
	SET("device_bytes", INTEGER(p->device_bytes));
	SET("device_peak_bytes", INTEGER(row->device_peak_bytes));
	SET("host_peak_bytes", INTEGER(row->host_peak_bytes));
	SET("disk_bytes", INTEGER(row->disk_bytes));
	SET("disk_gbps", json_real(row->disk_gbps));
	SET("link_gbps", json_real(row->link_gbps));
	SET("stall_ns", INTEGER(row->stall_ns));
	SET("stall_disk_ns", INTEGER(row->stall_ns * (1 - row->stall_link_share)));
	SET("stall_link_ns", INTEGER(row->stall_ns * row->stall_link_share));
	SET("ceiling_ns", INTEGER(row->ceiling_ns));
	SET("efficiency", real_or_null(row->efficiency, ran));
	SET("predicted_ns", real_or_null(row->predicted_ns, row->predicted_ns > 0));
	SET("predicted_vs_measured",
	    real_or_null(row->predicted_ns / row->median_ns, ran && row->predicted_ns > 0));
	SET("cache_state", json_string(hr_bench_cache_state(arm).s));
	SET("vs_full", real_or_null(row->vs_full, row->vs_full > 0));
	SET("note",
	    row->stand_in
	        ? json_sprintf("The ceiling stands in for the full load, which does not fit: %s", arm->why_not)
	    : arm->fits ? json_null()
	                : hr_cli_json_text(arm->why_not));
#undef SET
#undef INTEGER
	return o;
}

/* Text that a spreadsheet takes as one field. */
static void put_csv_value(FILE *out, const json_t *value)
{
	char *text = json_is_string(value)
	                 ? strdup(json_string_value(value))
	                 : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9));
	bool  null = json_is_null(value);
	fputc('"', out);
	for (const char *p = text && !null ? text : ""; *p; p++)
		fputs(*p == '"' ? "\"\"" : (char[2]){*p, 0}, out);
	fputc('"', out);
	free(text);
}

static bool print_csv(const struct hr_bench *b)
{
	char  *text = NULL;
	size_t bytes = 0;
	FILE  *out = open_memstream(&text, &bytes);
	for (int i = 0; out && i < b->n_rows; i++) {
		json_t     *row = row_to_json(b, &b->rows[i]), *value;
		const char *key, *comma = "";
		for (int line = i ? 1 : 0; line < 2; line++, comma = "") {
			json_object_foreach(row, key, value)
			{
				fputs(comma, out);
				comma = ",";
				if (line)
					put_csv_value(out, value);
				else
					fputs(key, out);
			}
			fputc('\n', out);
		}
		json_decref(row);
	}
	if (out)
		fclose(out);
	bool written = text && hr_cli_write(text, bytes);
	free(text);
	return written;
}

static void put_md_row(FILE *out, const struct hr_bench_row *row)
{
	const struct hr_bench_arm *arm = row->arm;
	const struct hr_plan_info *p = &arm->info;
	char                       speed[64] = "", ratio[16] = "", predicted[16] = "", split[64] = "";
	if (row->n)
		snprintf(speed, sizeof speed, "%.2f ± %.2f", row->median_ts, row->stddev_ts);
	else if (row->stand_in)
		snprintf(speed, sizeof speed, "(at most %.2f)", row->median_ts);
	if (row->vs_full > 0)
		snprintf(ratio, sizeof ratio, "%.3f", row->vs_full);
	if (row->predicted_ns > 0 && row->n)
		snprintf(predicted, sizeof predicted, "%.2f", row->predicted_ns / row->median_ns);
	if (row->n && p->slots)
		snprintf(split, sizeof split, "%s + %d", hr_bench_residents(p).s, p->slots);
	fprintf(out, "| %6s | %8s | %5d | %6s | %17s | %7s | %10.2f | %9.0f | %10.2f | %9s | %9s | %s |\n",
	        hr_bench_window_name(arm).s, split, arm->n_seqs, hr_bench_test_name(row).s, speed, ratio,
	        row->efficiency, row->stall_ns * 1e-6, row->disk_gbps, hr_cli_bytes(row->device_peak_bytes).s,
	        predicted, row->n ? hr_bench_cache_state(arm).s : "does not fit");
}

static bool print_md(const struct hr_bench *b)
{
	const struct hr_model_info *m = hr_model_info(b->model);
	char                       *text = NULL;
	size_t                      bytes = 0;
	FILE                       *out = open_memstream(&text, &bytes);
	if (!out)
		return false;
	fprintf(out, "%s: %s %s, %d layers, %s; medians of %d\n\n", m->path, m->family, m->dtype, m->n_layers,
	        hr_cli_bytes(m->weight_bytes).s, b->repetitions);
	fprintf(out,
	        "| window |    split | seqs  |   test |          tokens/s | vs_full | efficiency |  stall ms |"
	        "  disk GB/s |    device | predicted | cache |\n"
	        "| -----: | -------: | ----: | -----: | ----------------: | ------: | ---------: | --------: |"
	        " ---------: | --------: | --------: | :---- |\n");
	for (int i = 0; i < b->n_rows; i++)
		put_md_row(out, &b->rows[i]);
	fprintf(out, "\nsplit: layers that stay (share of each other one that stays) + slots\n");
	for (int i = 0; i < b->n_arms; i++)
		if (!b->arms[i].fits)
			fprintf(out, "\nwindow %s: %s\n", hr_bench_window_name(&b->arms[i]).s, b->arms[i].why_not);
	fclose(out);
	bool written = hr_cli_write(text, bytes);
	free(text);
	return written;
}

bool hr_bench_print(const struct hr_bench *b, const char *format)
{
	if (!strcmp(format, "md"))
		return print_md(b);
	if (!strcmp(format, "csv"))
		return print_csv(b);
	bool    lines = !strcmp(format, "jsonl"), written = true;
	json_t *all = json_array();
	for (int i = 0; i < b->n_rows; i++) {
		if (lines)
			written &= hr_cli_write_json(row_to_json(b, &b->rows[i]), true);
		else
			json_array_append_new(all, row_to_json(b, &b->rows[i]));
	}
	if (!lines)
		return hr_cli_write_json(all, false);
	json_decref(all);
	return written;
}
