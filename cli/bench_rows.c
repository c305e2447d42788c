/* The rows of a bench: the figures that follow from their samples, and their names.
 *
 * Where the full load does not fit its row says so, and what its kernels alone would take
 * stands in for it: the ceiling of every window. */
#include "cli/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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
	if (p->kept_share >= HR_CLI_KEPT_SHOWN)
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
