/* `headrace bench`: settings against the full load, in the same run and in turns.
 *
 * This file makes the list of settings and the figures out of samples; measuring, the table and
 * the page have files of their own. Where the full load does not fit its row says so, and what
 * its kernels alone would take stands in for it: the ceiling of every window. */
#include "cli/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LIST = 32, DEFAULT_PROMPT = 512, DEFAULT_GEN = 32, DEFAULT_REPETITIONS = 3 };

struct list {
	long long x[MAX_LIST];
	int       n;
};

/* "1,2,8": numbers, "full" as -1 where `words`, sizes where `sizes`. */
static int read_list(struct list *list, const char *flag, const char *text, bool words, bool sizes,
                     long long least)
{
	char *copy = strdup(text ? text : ""), *rest = copy;
	int   code = copy ? HR_EXIT_OK : hr_cli_fail("There is no memory for a list.");
	list->n = 0;
	for (char *word; !code && text && (word = strsep(&rest, ","));) {
		uint64_t  bytes = 0;
		long long n = -1;
		bool      good = words && !strcmp(word, "full");
		if (!good && sizes) {
			good = hr_cli_parse_size(word, &bytes);
			n = (long long)bytes;
		} else if (!good) {
			good = hr_cli_parse_int(word, least, 1 << 20, &n);
		}
		if (!good || list->n == MAX_LIST)
			code = hr_cli_fail_usage("%s wants a list such as %s, of at most %d, not \"%s\".", flag,
			                         sizes   ? "1GiB,2GiB"
			                         : words ? "2,8,full"
			                                 : "1,8",
			                         MAX_LIST, text);
		else
			list->x[list->n++] = n;
	}
	free(copy);
	return code;
}

/* Without a list: the smallest window, some in between and the full load. */
static void choose_windows(struct list *list, int n_layers)
{
	int parts[] = {2, n_layers / 4, n_layers / 2, 3 * n_layers / 4};
	for (int i = 0; i < 4; i++)
		if (parts[i] >= 2 && (!list->n || parts[i] > list->x[list->n - 1]))
			list->x[list->n++] = parts[i];
}

/* For sequences that all decode together, those that began early too. */
static void make_room(struct hr_bench_arm *arm)
{
	struct hr_plan_options *p = &arm->plan;
	p->n_seqs = arm->n_seqs;
	if (!p->n_batch)
		p->n_batch = arm->n_prompt > 512 || arm->n_prompt < 1 ? 512 : arm->n_prompt;
	if (p->n_batch < arm->n_seqs)
		p->n_batch = arm->n_seqs;
	int passes = (arm->n_prompt * arm->n_seqs + p->n_batch - 1) / p->n_batch;
	int need = arm->n_prompt + arm->n_gen + passes + arm->n_seqs + 8;
	if (p->n_ctx < need)
		p->n_ctx = need;
}

static void add_arm(struct hr_bench *b, const struct hr_cli_options *o, bool full, int window,
                    uint64_t budget, int n_seqs, int n_prompt, int n_gen)
{
	struct hr_bench_arm *arm = &b->arms[b->n_arms++];
	*arm = (struct hr_bench_arm){
	    .plan = o->plan, .full = full, .n_prompt = n_prompt, .n_gen = n_gen, .fits = true};
	arm->plan.full = full;
	arm->plan.window_layers = window;
	arm->plan.device_memory_bytes = budget;
	if (full) {
		arm->plan.resident_layers = arm->plan.slots = HR_AUTO;
		arm->plan.no_fallback = true;
	}
	arm->n_seqs = n_seqs;
	arm->encoder = hr_model_info(b->model)->encoder;
	arm->weight_bytes = (double)hr_model_info(b->model)->weight_bytes;
	arm->by_budget = o->budgets && !o->windows;
	if (!arm->encoder)
		make_room(arm);
	arm->plan.trace = true;
	arm->plan.on_notice = NULL;
	arm->plan.on_progress = NULL;
	for (int decode = 0; decode < 2; decode++) {
		int n = decode ? n_gen : n_prompt;
		if (n)
			b->rows[b->n_rows++] =
			    (struct hr_bench_row){.arm = arm, .decode = decode, .tokens = (uint64_t)n * (uint64_t)n_seqs};
	}
}

static int usual_tokens(const struct hr_model_info *m)
{
	return m->max_tokens > 0 && m->max_tokens < HR_CLI_ENCODER_TOKENS ? m->max_tokens : HR_CLI_ENCODER_TOKENS;
}

/* An encoder takes texts of a certain length, and generates nothing. */
static int check_texts(const struct hr_model_info *m, const struct list *prompts, const struct list *gens)
{
	for (int i = 0; i < gens->n; i++)
		if (gens->x[i])
			return hr_cli_fail_usage(
			    "%s is an encoder and generates nothing: leave -n out; -p says how many tokens "
			    "a text has, --batch how many texts there are.",
			    m->path);
	for (int i = 0; i < prompts->n; i++)
		if (m->max_tokens > 0 && prompts->x[i] > m->max_tokens)
			return hr_cli_fail_usage("-p %lld is longer than a text can be, which is %d tokens for %s.",
			                         prompts->x[i], m->max_tokens, m->path);
	return HR_EXIT_OK;
}

static int make_arms(struct hr_bench *b, const struct hr_cli_options *o)
{
	struct list windows = {0}, budgets, batches, prompts, gens;
	const bool  encoder = hr_model_info(b->model)->encoder;
	char        tokens[16] = "512";
	if (encoder)
		snprintf(tokens, sizeof tokens, "%d", usual_tokens(hr_model_info(b->model)));
	int code = read_list(&windows, "--window", o->windows, true, false, 1);
	if (!code)
		code = read_list(&budgets, "--device-memory", o->budgets, true, true, 1);
	if (!code)
		code = read_list(&batches, "--batch",
		                 o->batches ? o->batches
		                 : encoder  ? "64"
		                            : "1",
		                 false, false, 1);
	if (!code)
		code = read_list(&prompts, "-p", o->prompts ? o->prompts : tokens, false, false, 0);
	if (!code)
		code = read_list(&gens, "-n", o->gens ? o->gens : encoder ? "0" : "32", false, false, 0);
	if (!code && encoder)
		code = check_texts(hr_model_info(b->model), &prompts, &gens);
	if (code)
		return code;
	if (!windows.n && !budgets.n)
		choose_windows(&windows, hr_model_info(b->model)->n_layers);
	int n_settings = (windows.n ? windows.n : 1) * (budgets.n ? budgets.n : 1) + 1;
	int most = n_settings * batches.n * prompts.n * gens.n;
	b->arms = calloc((size_t)most, sizeof *b->arms);
	b->rows = calloc(2 * (size_t)most, sizeof *b->rows);
	if (!b->arms || !b->rows)
		return hr_cli_fail("There is no memory for %d settings.", most);
	for (int p = 0; p < prompts.n; p++)
		for (int g = 0; g < gens.n; g++)
			for (int s = 0; s < batches.n; s++) {
				int n_seqs = (int)batches.x[s], n_prompt = (int)prompts.x[p], n_gen = (int)gens.x[g];
				if (!n_prompt && !n_gen)
					continue;
				for (int m = 0; m < (budgets.n ? budgets.n : 1); m++)
					for (int w = 0; w < (windows.n ? windows.n : 1); w++) {
						uint64_t budget = budgets.n && budgets.x[m] > 0 ? (uint64_t)budgets.x[m] : 0;
						bool     full = (windows.n && windows.x[w] < 0) || (budgets.n && budgets.x[m] < 0);
						if (!full)
							add_arm(b, o, false, windows.n ? (int)windows.x[w] : HR_AUTO, budget, n_seqs,
							        n_prompt, n_gen);
					}
				if (!o->no_full)
					add_arm(b, o, true, HR_AUTO, 0, n_seqs, n_prompt, n_gen);
			}
	for (int i = 0; i < b->n_rows; i++) {
		b->rows[i].ns = calloc((size_t)b->repetitions, sizeof *b->rows[i].ns);
		b->rows[i].reports = calloc((size_t)b->repetitions, sizeof *b->rows[i].reports);
		if (!b->rows[i].ns || !b->rows[i].reports)
			return hr_cli_fail("There is no memory for %d repetitions.", b->repetitions);
	}
	return b->n_rows ? HR_EXIT_OK : hr_cli_fail_usage("-p and -n are both 0: there is nothing to time.");
}

static void release(struct hr_bench *b)
{
	for (int i = 0; i < b->n_rows; i++) {
		free(b->rows[i].ns);
		free(b->rows[i].reports);
	}
	for (int i = 0; i < b->n_arms; i++) {
		free(b->arms[i].measured.spans);
		free(b->arms[i].predicted.spans);
	}
	free(b->arms);
	free(b->rows);
}

/* ---- Figures out of samples -------------------------------------------------------- */

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static double median_of(double *x, int n)
{
	qsort(x, (size_t)n, sizeof *x, compare_doubles);
	return n ? (x[(n - 1) / 2] + x[n / 2]) / 2 : 0;
}

/* The median over the repetitions of a field of their reports. */
#define MEDIAN(row, field) median_field(row, offsetof(struct hr_report, field))

static double median_field(const struct hr_bench_row *row, size_t offset)
{
	double *x = calloc((size_t)row->n + 1, sizeof *x);
	for (int i = 0; x && i < row->n; i++)
		x[i] = *(const double *)((const char *)&row->reports[i] + offset);
	double m = x ? median_of(x, row->n) : 0;
	free(x);
	return m;
}

static void settle_row(struct hr_bench_row *row)
{
	double *x = calloc((size_t)row->n + 1, sizeof *x), ts2 = 0, ns2 = 0;
	if (!row->n || !x)
		goto done;
	memcpy(x, row->ns, (size_t)row->n * sizeof *x);
	row->median_ns = median_of(x, row->n);
	row->max_ts = (double)row->tokens * 1e9 / x[0];
	row->min_ts = (double)row->tokens * 1e9 / x[row->n - 1];
	for (int i = 0; i < row->n; i++) {
		row->avg_ns += row->ns[i] / row->n;
		row->avg_ts += (double)row->tokens * 1e9 / row->ns[i] / row->n;
	}
	for (int i = 0; i < row->n; i++) {
		ns2 += pow(row->ns[i] - row->avg_ns, 2);
		ts2 += pow((double)row->tokens * 1e9 / row->ns[i] - row->avg_ts, 2);
	}
	row->stddev_ns = row->n > 1 ? sqrt(ns2 / (row->n - 1)) : 0;
	row->stddev_ts = row->n > 1 ? sqrt(ts2 / (row->n - 1)) : 0;
	row->median_ts = (double)row->tokens * 1e9 / row->median_ns;
	row->efficiency = MEDIAN(row, efficiency);
	row->stall_ns = MEDIAN(row, stall_ms) * 1e6;
	row->ceiling_ns = MEDIAN(row, ceiling_ms) * 1e6;
	row->disk_gbps = MEDIAN(row, disk_gbps);
	row->link_gbps = MEDIAN(row, link_gbps);
	row->disk_bytes = (double)row->reports[row->n - 1].disk_bytes;
	double stall = row->arm->measured.stall_disk_ms + row->arm->measured.stall_link_ms;
	row->stall_link_share = stall > 0 ? row->arm->measured.stall_link_ms / stall : 0;
done:
	free(x);
}

static bool same_test(const struct hr_bench_row *a, const struct hr_bench_row *b)
{
	return a->decode == b->decode && a->arm->n_prompt == b->arm->n_prompt && a->arm->n_gen == b->arm->n_gen &&
	       a->arm->n_seqs == b->arm->n_seqs;
}

/* The full load does not fit: the least that the kernels took in any window stands in. */
static void stand_in(struct hr_bench *b, struct hr_bench_row *full)
{
	double least = INFINITY;
	for (int i = 0; i < b->n_rows; i++)
		if (b->rows[i].n && same_test(&b->rows[i], full))
			least = fmin(least, MEDIAN(&b->rows[i], compute_ms) * 1e6);
	if (!isfinite(least) || !(least > 0))
		return;
	full->stand_in = true;
	full->median_ns = full->ceiling_ns = least;
	full->median_ts = (double)full->tokens * 1e9 / least;
}

void hr_bench_settle(struct hr_bench *b)
{
	for (int i = 0; i < b->n_rows; i++)
		settle_row(&b->rows[i]);
	for (int i = 0; i < b->n_rows; i++)
		if (b->rows[i].arm->full && !b->rows[i].arm->fits)
			stand_in(b, &b->rows[i]);
	for (int i = 0; i < b->n_rows; i++)
		for (int j = 0; j < b->n_rows; j++)
			if (b->rows[j].arm->full && same_test(&b->rows[i], &b->rows[j]) && b->rows[j].median_ts > 0 &&
			    b->rows[i].n)
				b->rows[i].vs_full = b->rows[i].median_ts / b->rows[j].median_ts;
}

struct hr_cli_text hr_bench_test_name(const struct hr_bench_row *row)
{
	struct hr_cli_text out;
	snprintf(out.s, sizeof out.s, "%s%d", row->decode ? "tg" : "pp",
	         row->decode ? row->arm->n_gen : row->arm->n_prompt);
	return out;
}

struct hr_cli_text hr_bench_residents(const struct hr_plan_info *p)
{
	struct hr_cli_text text;
	int                n = snprintf(text.s, sizeof text.s, "%d", p->resident_layers);
	if (p->kept_share > 0)
		snprintf(text.s + n, sizeof text.s - (size_t)n, " (%.0f %%)", 100 * p->kept_share);
	return text;
}

double hr_bench_window(const struct hr_bench_arm *arm)
{
	double share = (double)arm->info.device_bytes / arm->weight_bytes;
	return !arm->by_budget ? arm->info.window_layers : arm->full || share > 1 ? 100 : 100 * share;
}

struct hr_cli_text hr_bench_window_name(const struct hr_bench_arm *arm)
{
	struct hr_cli_text out;
	if (arm->full)
		snprintf(out.s, sizeof out.s, "full");
	else if (arm->by_budget && arm->fits)
		snprintf(out.s, sizeof out.s, "%.0f %%", hr_bench_window(arm));
	else if (arm->by_budget)
		return hr_cli_bytes(arm->plan.device_memory_bytes);
	else
		snprintf(out.s, sizeof out.s, "%d", arm->fits ? arm->info.window_layers : arm->plan.window_layers);
	return out;
}

struct hr_cli_text hr_bench_cache_state(const struct hr_bench_arm *arm)
{
	struct hr_cli_text out;
	bool               absent = arm->cached_share <= 0.02;
	if (!arm->fits)
		out.s[0] = 0;
	else if (absent)
		snprintf(out.s, sizeof out.s, "%s", arm->direct ? "bypassed" : "dropped");
	else
		snprintf(out.s, sizeof out.s, "%s, %.0f %% cached", arm->direct ? "direct" : "warm",
		         100 * arm->cached_share);
	return out;
}

/* ---- The command --------------------------------------------------------------------- */

/* Rates for the predictions, measured now unless they are known; with the largest of the budgets.
 * Where even that is too small, the rows will say so. */
static int find_rates(const struct hr_bench *b)
{
	struct hr_plan_options o = b->arms[b->n_arms - 1].plan;
	for (int i = 0; i < b->n_arms && o.device_memory_bytes; i++)
		if (!b->arms[i].plan.device_memory_bytes ||
		    b->arms[i].plan.device_memory_bytes > o.device_memory_bytes)
			o.device_memory_bytes = b->arms[i].plan.device_memory_bytes;
	struct hr_plan *plan;
	struct hr_error err;
	o.measure = true;
	o.full = false;
	o.window_layers = HR_AUTO;
	if (!hr_plan_new(&plan, b->model, &o, &err)) {
		hr_plan_free(plan);
		return HR_EXIT_OK;
	}
	return err.code == HR_EBUDGET ? HR_EXIT_OK : hr_cli_fail_error(&err);
}

/* A setting that does not fit is a row that says so, but where it is the only one. */
static int check_ran(const struct hr_bench *b)
{
	return b->n_arms > 1 || b->rows[0].n ? HR_EXIT_OK : hr_cli_fail("%s", b->arms[0].why_not);
}

int hr_cli_bench(struct hr_cli_options *o)
{
	struct hr_model *model = NULL;
	char            *map = NULL;
	struct hr_bench  b = {.repetitions = o->repetitions ? o->repetitions : DEFAULT_REPETITIONS};
	int              code = hr_cli_resolve(o, &map);
	if (!code)
		code = hr_cli_open_model(&model, o);
	b.model = model;
	if (!code)
		code = make_arms(&b, o);
	if (!code && !o->no_predict && !hr_model_info(model)->encoder)
		code = find_rates(&b);
	if (!code)
		hr_cli_hold_interrupts(true);
	for (int r = 0; r < b.repetitions && !code; r++)
		code = hr_bench_repeat(&b, r);
	hr_cli_on_progress(NULL, 1, 1);
	if (!code)
		code = check_ran(&b);
	if (!code || code == HR_EXIT_INTERRUPTED) {
		hr_bench_settle(&b);
		hr_bench_print(&b, o->json ? "json" : o->format ? o->format : "md");
		int failed = o->html ? hr_bench_write_page(&b, o->html) : HR_EXIT_OK;
		code = code ? code : failed;
	}
	release(&b);
	hr_model_close(model);
	free(map);
	return code;
}
