/* The page of a benchmark: one HTML file with its style and figures inside, no script
 * and nothing from elsewhere, so that it can be mailed, kept and printed. */
#include "cli/bench.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char style[] =
    ":root{--bg:#fbfaf7;--card:#fff;--ink:#1d2733;--soft:#66727f;--line:#e4e2dc;--disk:#e2893b;--link:#"
    "8a63b8;"
    "--compute:#1f8a80;--streamed:#66b8ae;--host:#a4adb6;--stall:#d6483a;--a:#2563c9;--b:#c2571a;--c:#2f8f4e;"
    "--d:#8a3ab0;"
    "--e:#a08a00;--f:#b02a5b;--band:#dfe9f7}"
    "@media(prefers-color-scheme:dark){:root{--bg:#12171d;--card:#1a2129;--ink:#e6eaee;--soft:#94a1ad;--line:"
    "#2c3640;"
    "--band:#22344d;--a:#6ea3ff;--b:#f0935a;--c:#6ac98a;--d:#c58be6;--e:#d8c14a;--f:#ee7ba6}}"
    "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);"
    "font:15px/1.5 system-ui,-apple-system,\"Segoe UI\",Roboto,\"DejaVu Sans\",sans-serif}"
    "main{max-width:1160px;margin:0 auto;padding:36px 24px 60px}h1{font-size:26px;margin:0 0 "
    "4px;letter-spacing:-.01em}"
    "h2{font-size:17px;margin:0 0 2px}p.sub{color:var(--soft);margin:0 0 "
    "22px}figure{margin:0;background:var(--card);"
    "border:1px solid var(--line);border-radius:10px;padding:16px 18px "
    "10px}figcaption{color:var(--soft);font-size:13px;"
    "margin:0 0 "
    "10px;max-width:80ch}.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:18px;"
    "margin-bottom:18px}.one{margin-bottom:18px}.keys{display:grid;grid-template-columns:repeat(auto-fit,"
    "minmax(190px,1fr));gap:14px;"
    "margin-bottom:18px}.key{background:var(--card);border:1px solid "
    "var(--line);border-radius:10px;padding:12px 16px}"
    ".key b{display:block;font-size:24px;letter-spacing:-.02em;font-variant-numeric:tabular-nums}.key "
    "span{color:var(--soft);"
    "font-size:13px}svg{display:block;width:100%;height:auto;font-family:inherit}svg "
    "text{fill:var(--ink);font-size:12px}"
    "svg .tick,svg .axis,svg .legend{fill:var(--soft)}svg .value{font-weight:600}svg .label{font-weight:600}"
    "svg "
    ".inside{fill:#fff;font-size:11px;font-weight:600}.grid{stroke:var(--line);stroke-width:1}.mark{stroke:"
    "var(--soft)}"
    ".c0{--k:var(--a)}.c1{--k:var(--b)}.c2{--k:var(--c)}.c3{--k:var(--d)}.c4{--k:var(--e)}.c5{--k:var(--f)}"
    ".point{fill:var(--k)}.spread{stroke:var(--k);stroke-width:2;opacity:.5}polyline{fill:none}"
    ".measured{stroke:var(--k);stroke-width:2.5;stroke-linejoin:round}polyline.predicted{stroke:var(--k);"
    "stroke-width:1.2;"
    "stroke-dasharray:5 "
    "4}circle.predicted{fill:none;stroke:var(--k);stroke-width:1.4}.ceiling{stroke:var(--soft);stroke-width:"
    "1;"
    "stroke-dasharray:1.5 3}.band{fill:var(--band)}.even{stroke:var(--soft);stroke-dasharray:4 3}"
    ".resident{fill:var(--compute)}.slot{fill:var(--streamed)}.kv{fill:var(--a)}.activation{fill:var(--host)}"
    ".compute{fill:var(--compute)}.streamed{fill:var(--streamed)}.wait-disk{fill:var(--disk)}.wait-link{fill:"
    "var(--link)}"
    ".host{fill:var(--host)}.disk{fill:var(--disk);opacity:.62}.link{fill:var(--link);opacity:.85}"
    ".stall{fill:var(--stall);opacity:.16}h3{font-size:14px;margin:14px 0 4px}h3 "
    "small{font-weight:400;color:var(--soft)}"
    ".swatch{display:inline-block;width:11px;height:11px;border-radius:2px;margin:0 5px 0 "
    "12px;vertical-align:-1px}"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:"
    "tabular-nums}"
    "th,td{text-align:right;padding:5px 9px;border-bottom:1px solid var(--line);white-space:nowrap}"
    "th{color:var(--soft);font-weight:500}td:last-child,th:last-child{text-align:left}footer{color:var(--"
    "soft);font-size:13px;margin-top:20px}";

/* ---- Figures at the top ------------------------------------------------------------- */

static void put_key(FILE *f, const char *value, const char *what)
{
	fprintf(f, "<div class=\"key\"><b>%s</b><span>%s</span></div>\n", value, what);
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

/* The smallest window that streamed, and the full load or what stands in for it. */
static void put_keys(FILE *f, const struct hr_bench *b)
{
	const struct hr_bench_row *full = NULL, *small = NULL;
	double                    *errors = calloc((size_t)b->n_rows + 1, sizeof *errors), efficiency = 0;
	int                        n_errors = 0, n_streamed = 0;
	char                       value[64], what[160];
	for (int i = 0; i < b->n_rows; i++) {
		const struct hr_bench_row *row = &b->rows[i];
		bool                       first = row->decode || !b->rows[0].arm->n_gen;
		if (first && row->arm->full && !full)
			full = row;
		if (first && row->n && !row->arm->full &&
		    (!small || row->arm->info.device_bytes < small->arm->info.device_bytes))
			small = row;
		if (row->n && row->predicted_ns > 0 && errors)
			errors[n_errors++] = fabs(row->predicted_ns / row->median_ns - 1);
		if (row->n && row->disk_bytes > 0) {
			efficiency += row->efficiency;
			n_streamed++;
		}
	}
	fprintf(f, "<div class=\"keys\">\n");
	if (full) {
		snprintf(value, sizeof value, "%.1f tokens/s", full->median_ts);
		put_key(f, value, full->n ? "full load" : "ceiling: the full load does not fit");
	}
	if (small) {
		snprintf(value, sizeof value, "%.1f tokens/s", small->median_ts);
		int n = 0;
		if (full && full->n && full->median_ts > 0)
			n = snprintf(what, sizeof what, "%.0f %% of that, ", 100 * small->median_ts / full->median_ts);
		snprintf(what + n, sizeof what - (size_t)n, "with %s of %s of weights on the device",
		         hr_cli_bytes(small->arm->info.device_bytes).s,
		         hr_cli_bytes(hr_model_info(b->model)->weight_bytes).s);
		put_key(f, value, what);
	}
	if (n_streamed) {
		snprintf(value, sizeof value, "%.0f %%", 100 * efficiency / n_streamed);
		put_key(f, value, "of the ceiling reached, on average over the settings that stream");
	}
	if (n_errors) {
		qsort(errors, (size_t)n_errors, sizeof *errors, compare_doubles);
		snprintf(value, sizeof value, "%.1f %%", 100 * errors[n_errors / 2]);
		put_key(f, value, "between predicted and measured time, median");
	}
	fprintf(f, "</div>\n");
	free(errors);
}

/* ---- The parts of the page ------------------------------------------------------------- */

static void put_head(FILE *f, const struct hr_bench *b)
{
	const struct hr_model_info *m = hr_model_info(b->model);
	const char                 *slash = strrchr(m->path, '/');
	const struct hr_bench_arm  *ran = b->arms;
	for (int i = 0; i < b->n_arms; i++)
		if (b->arms[i].device_name[0])
			ran = &b->arms[i];
	fprintf(f, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
	           "content=\"width=device-width,initial-scale=1\"><link rel=\"icon\" "
	           "href=\"data:,\"><title>headrace bench: ");
	hr_bench_put_text(f, slash ? slash + 1 : m->path);
	fprintf(f, "</title>\n<style>%s</style></head>\n<body><main>\n<h1>", style);
	hr_bench_put_text(f, slash ? slash + 1 : m->path);
	fprintf(f, "</h1>\n<p class=\"sub\">%s %s, %d layers, %s of weights, on ", m->family, m->dtype,
	        m->n_layers, hr_cli_bytes(m->weight_bytes).s);
	hr_bench_put_text(f, ran->device_name);
	fprintf(f, "; medians of %d repetitions in turns%s%s</p>\n", b->repetitions,
	        b->rows[0].test_time[0] ? ", " : "", b->rows[b->n_rows - 1].test_time);
}

static bool has_kind(const struct hr_bench *b, bool decode)
{
	for (int i = 0; i < b->n_rows; i++)
		if (b->rows[i].decode == decode && b->rows[i].n)
			return true;
	return false;
}

static void put_speed(FILE *f, const struct hr_bench *b)
{
	fprintf(f, "<div class=\"two\">\n");
	for (int decode = 1; decode >= 0; decode--) {
		if (!has_kind(b, decode))
			continue;
		fprintf(f,
		        "<figure><h2>%s speed over the window</h2><figcaption>Dots are medians, bars reach from the "
		        "slowest to the "
		        "fastest repetition; rings are predictions, the dotted line is the ceiling.</figcaption>\n",
		        decode ? "Decode" : "Prefill");
		hr_bench_chart_speed(f, b, decode);
		fprintf(f, "</figure>\n");
	}
	fprintf(f,
	        "</div>\n<figure class=\"one\"><h2>Where the time of a pass goes</h2><figcaption>One bar for "
	        "each window, one pass "
	        "of the decode (else of the prefill), %d sequence%s.</figcaption>\n",
	        b->arms[0].n_seqs, b->arms[0].n_seqs > 1 ? "s" : "");
	hr_bench_chart_share(f, b);
	fprintf(f, "</figure>\n<div class=\"two\">\n<figure><h2>Memory over the window</h2><figcaption>What a "
	           "plan takes on the device: layers that stay, "
	           "the ring of slots, and what it computes with.</figcaption>\n");
	hr_bench_chart_memory(f, b);
	fprintf(f, "</figure>\n<figure><h2>Predicted against measured</h2><figcaption>Every setting; in the band "
	           "the simulator is within "
	           "10 %%.</figcaption>\n");
	hr_bench_chart_prediction(f, b);
	fprintf(f, "</figure>\n</div>\n");
}

/* Up to three arms that stream: the smallest window, one in the middle, the largest. */
static int choose_arms(const struct hr_bench *b, const struct hr_bench_arm *arms[3])
{
	const struct hr_bench_arm *all[64];
	int                        n = 0;
	for (int i = 0; i < b->n_arms && n < 64; i++)
		if (b->arms[i].fits && b->arms[i].info.slots && b->arms[i].measured.n &&
		    b->arms[i].n_seqs == b->arms[0].n_seqs)
			all[n++] = &b->arms[i];
	for (int i = 0; i < n; i++)
		for (int j = i; j > 0 && hr_bench_window(all[j]) < hr_bench_window(all[j - 1]); j--) {
			const struct hr_bench_arm *t = all[j];
			all[j] = all[j - 1];
			all[j - 1] = t;
		}
	int picks[] = {0, n / 2, n - 1}, n_picked = 0;
	for (int i = 0; i < 3 && n; i++)
		if (!n_picked || arms[n_picked - 1] != all[picks[i]])
			arms[n_picked++] = all[picks[i]];
	return n_picked;
}

static void put_passes(FILE *f, const struct hr_bench *b)
{
	const struct hr_bench_arm *arms[3];
	int                        n = choose_arms(b, arms);
	if (!n)
		return;
	fprintf(f, "<figure class=\"one\" id=\"passes\"><h2>One pass in time</h2><figcaption>"
	           "<span class=\"swatch\" style=\"background:var(--disk);margin-left:0\"></span>reads"
	           "<span class=\"swatch\" style=\"background:var(--link)\"></span>copies"
	           "<span class=\"swatch\" style=\"background:var(--compute)\"></span>layers that stay"
	           "<span class=\"swatch\" style=\"background:var(--streamed)\"></span>layers that are streamed"
	           "<span class=\"swatch\" style=\"background:var(--stall);opacity:.3\"></span>compute "
	           "waits</figcaption>\n");
	for (int i = 0; i < n; i++) {
		const struct hr_bench_pass *m = &arms[i]->measured, *p = &arms[i]->predicted;
		double                      axis = fmax(m->ms, p->ms);
		fprintf(f, "<h3>Window %s: %s, %d slots <small>measured, %.1f ms</small></h3>\n",
		        hr_bench_window_name(arms[i]).s, hr_cli_residents(&arms[i]->info).s, arms[i]->info.slots,
		        m->ms);
		hr_bench_chart_pass(f, arms[i], m, axis);
		if (p->n) {
			fprintf(f, "<h3><small>predicted, %.1f ms</small></h3>\n", p->ms);
			hr_bench_chart_pass(f, arms[i], p, axis);
		}
	}
	fprintf(f, "</figure>\n");
}

static void put_row(FILE *f, const struct hr_bench_row *row)
{
	const struct hr_plan_info *p = &row->arm->info;
	fprintf(f, "<tr><td>%s</td><td>%d</td><td>%s</td>", hr_bench_window_name(row->arm).s, row->arm->n_seqs,
	        hr_bench_test_name(row).s);
	if (!row->n) {
		fprintf(f, "<td colspan=\"10\" style=\"text-align:left\">");
		hr_bench_put_text(f, row->arm->why_not);
		fprintf(f, "</td></tr>\n");
		return;
	}
	fprintf(f, "<td>%s + %d</td><td>%.2f</td><td>± %.2f</td>", hr_bench_residents(p).s, p->slots,
	        row->median_ts, row->stddev_ts);
	if (row->vs_full > 0)
		fprintf(f, "<td>%.3f</td>", row->vs_full);
	else
		fprintf(f, "<td></td>");
	fprintf(f, "<td>%.2f</td><td>%.0f</td><td>%.2f</td><td>%s</td>", row->efficiency, row->stall_ns * 1e-6,
	        row->disk_gbps, hr_cli_bytes(row->device_peak_bytes).s);
	if (row->predicted_ns > 0)
		fprintf(f, "<td>%.2f</td>", row->predicted_ns / row->median_ns);
	else
		fprintf(f, "<td></td>");
	fprintf(f, "<td>%s</td></tr>\n", hr_bench_cache_state(row->arm).s);
}

static void put_table(FILE *f, const struct hr_bench *b)
{
	fprintf(f, "<figure class=\"one\" id=\"table\"><h2>All settings</h2><div "
	           "class=\"scroll\"><table><thead><tr><th>window</th><th>sequences</th>"
	           "<th>test</th><th>stay + slots</th><th>tokens/s</th><th></th><th>vs "
	           "full</th><th>efficiency</th><th>stall ms</th>"
	           "<th>disk GB/s</th><th>device peak</th><th>predicted / measured</th><th>page "
	           "cache</th></tr></thead><tbody>\n");
	for (int i = 0; i < b->n_rows; i++)
		put_row(f, &b->rows[i]);
	fprintf(f, "</tbody></table></div></figure>\n");
}

int hr_bench_write_page(const struct hr_bench *b, const char *path)
{
	char *temporary = NULL;
	FILE *f = asprintf(&temporary, "%s.%d.tmp", path, (int)getpid()) < 0 ? NULL : fopen(temporary, "we");
	int   error = f ? 0 : errno;
	if (f) {
		put_head(f, b);
		put_keys(f, b);
		put_speed(f, b);
		put_passes(f, b);
		put_table(f, b);
		fprintf(f, "<footer>headrace %s</footer>\n</main></body></html>\n", hr_version());
		if (fflush(f) || ferror(f))
			error = errno ? errno : EIO;
		if (fclose(f) && !error)
			error = errno;
		if (!error && rename(temporary, path))
			error = errno;
		if (error)
			unlink(temporary);
	}
	free(temporary);
	return error ? hr_cli_fail("The page cannot be written to %s: %s.", path, strerror(error)) : HR_EXIT_OK;
}
