/* `headrace bench`: settings against the full load, in the same run and in turns.
 *
 * This file makes the list of settings and runs the others: measuring, the rows, the table and
 * the page have files of their own. */
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
