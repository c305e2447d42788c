/* The figures of the page, drawn as SVG without a script. Each is a function of the
 * benchmark; what they share is a plot: a rectangle on the page and the ranges that it shows.
 * Colours are CSS variables of the page, so that they suit a light and a dark one. */
#include "cli/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct plot {
	double left, top, width, height;
	double x_min, x_max, y_min, y_max;
	bool   log_x, log_y;
};

static double place(double v, double min, double max, bool logarithmic)
{
	return logarithmic ? log(v / min) / log(max / min) : (v - min) / (max - min);
}

static double px(const struct plot *p, double x)
{
	return p->left + p->width * place(x, p->x_min, p->x_max, p->log_x);
}

static double py(const struct plot *p, double y)
{
	return p->top + p->height * (1 - place(y, p->y_min, p->y_max, p->log_y));
}

/* The step of 1, 2 or 5 times a power of ten that divides `range` into about `n`. */
static double nice_step(double range, int n)
{
	double raw = range / n, power = pow(10, floor(log10(raw))), x = raw / power;
	return power * (x < 1.5 ? 1 : x < 3.5 ? 2 : x < 7.5 ? 5 : 10);
}

void hr_bench_put_text(FILE *f, const char *text)
{
	for (; *text; text++) {
		const char *entity = *text == '<' ? "&lt;" : *text == '&' ? "&amp;" : *text == '"' ? "&quot;" : NULL;
		if (entity)
			fputs(entity, f);
		else
			fputc(*text, f);
	}
}

/* 0.00123, 1.23, 12.3, 123 */
static struct hr_cli_text figures3(double x)
{
	struct hr_cli_text out;
	int                digits = x <= 0 ? 0 : 2 - (int)floor(log10(x) + 1e-9);
	snprintf(out.s, sizeof out.s, "%.*f", digits < 0 ? 0 : digits > 6 ? 6 : digits, x);
	return out;
}

static void begin_svg(FILE *f, const char *id, const char *label, double width, double height)
{
	fprintf(f, "<svg id=\"%s\" viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"%s\">\n", id, width,
	        height, label);
}

static void y_axis(FILE *f, const struct plot *p, const char *title)
{
	double step = nice_step(p->y_max - p->y_min, 5);
	for (double y = p->y_min; y <= p->y_max * 1.0001; y += step) {
		fprintf(f, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", p->left,
		        p->left + p->width, py(p, y), py(p, y));
		fprintf(f, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", p->left - 8,
		        py(p, y) + 4, y);
	}
	fprintf(f, "<text class=\"axis\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", p->left - 34, p->top - 14, title);
}

static void x_tick(FILE *f, const struct plot *p, double x, const char *text)
{
	fprintf(f, "<line class=\"mark\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", px(p, x), px(p, x),
	        p->top + p->height, p->top + p->height + 5);
	fprintf(f, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n", px(p, x),
	        p->top + p->height + 19, text);
}

static void layer_tick(FILE *f, const struct plot *p, int layers)
{
	char text[16];
	snprintf(text, sizeof text, "%d", layers);
	x_tick(f, p, layers, text);
}

static void x_title(FILE *f, const struct plot *p, const char *title)
{
	fprintf(f, "<text class=\"axis\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
	        p->left + p->width, p->top + p->height + 38, title);
}

/* ---- Speed over the window --------------------------------------------------------- */

static bool in_chart(const struct hr_bench_row *row, bool decode) { return row->decode == decode && row->n; }

/* The rows of one test: same batch, prompt and number of tokens. */
static bool same_series(const struct hr_bench_row *a, const struct hr_bench_row *b)
{
	return a->decode == b->decode && a->arm->n_seqs == b->arm->n_seqs &&
	       a->arm->n_prompt == b->arm->n_prompt && a->arm->n_gen == b->arm->n_gen;
}

static int by_window(const void *a, const void *b)
{
	const struct hr_bench_row *x = *(const struct hr_bench_row *const *)a,
	                          *y = *(const struct hr_bench_row *const *)b;
	double d = hr_bench_window(x->arm) - hr_bench_window(y->arm);
	return d < 0 ? -1 : d > 0 ? 1 : x->arm->full - y->arm->full;
}

enum { MAX_SERIES = 6 };

struct series {
	const struct hr_bench_row **rows; /* in order of the window */
	int                         n;
};

/* The first few series of a kind; returns how many. */
static int find_series(const struct hr_bench *b, bool decode, struct series series[MAX_SERIES])
{
	int n = 0;
	for (int i = 0; i < b->n_rows && n < MAX_SERIES; i++) {
		bool known = !in_chart(&b->rows[i], decode);
		for (int s = 0; s < n && !known; s++)
			known = same_series(series[s].rows[0], &b->rows[i]);
		if (known)
			continue;
		struct series *s = &series[n];
		*s = (struct series){.rows = calloc((size_t)b->n_rows, sizeof *s->rows)};
		for (int j = i; s->rows && j < b->n_rows; j++)
			if (in_chart(&b->rows[j], decode) && same_series(&b->rows[i], &b->rows[j]))
				s->rows[s->n++] = &b->rows[j];
		if (s->n) {
			qsort(s->rows, (size_t)s->n, sizeof *s->rows, by_window);
			n++;
		}
	}
	return n;
}

static double speed_of(const struct hr_bench_row *row, double ns)
{
	return ns > 0 ? (double)row->tokens * 1e9 / ns : 0;
}

enum { MEASURED, PREDICTED, CEILING };

static double curve_at(const struct hr_bench_row *row, int curve)
{
	return curve == MEASURED ? row->median_ts
	                         : speed_of(row, curve == PREDICTED ? row->predicted_ns : row->ceiling_ns);
}

static void put_curve(FILE *f, const struct plot *p, const struct series *s, int curve, int colour)
{
	static const char *const classes[] = {"measured", "predicted", "ceiling"};
	fprintf(f, "<polyline class=\"%s c%d\" points=\"", classes[curve], colour);
	for (int i = 0; i < s->n; i++)
		if (curve_at(s->rows[i], curve) > 0)
			fprintf(f, "%.1f,%.1f ", px(p, hr_bench_window(s->rows[i]->arm)),
			        py(p, curve_at(s->rows[i], curve)));
	fprintf(f, "\"/>\n");
}

/* How many other curves have a higher (or lower) point at this window. */
static int count_beyond(const struct series *all, int n, const struct hr_bench_row *row, bool higher)
{
	int count = 0;
	for (int s = 0; s < n; s++)
		for (int i = 0; i < all[s].n; i++) {
			const struct hr_bench_row *other = all[s].rows[i];
			bool same = fabs(hr_bench_window(other->arm) - hr_bench_window(row->arm)) < 0.01;
			bool beyond = higher ? other->median_ts > row->median_ts : other->median_ts < row->median_ts;
			count += same && beyond;
		}
	return count;
}

/* At each window the highest point is labelled above it and the lowest below. */
static void put_points(FILE *f, const struct plot *p, const struct series *all, int n, int colour)
{
	const struct series *s = &all[colour];
	for (int i = 0; i < s->n; i++) {
		const struct hr_bench_row *row = s->rows[i];
		double                     x = px(p, hr_bench_window(row->arm)), y = py(p, row->median_ts);
		bool above = !count_beyond(all, n, row, true), below = !above && !count_beyond(all, n, row, false);
		fprintf(f, "<line class=\"spread c%d\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", colour, x,
		        x, py(p, row->min_ts), py(p, row->max_ts));
		if (row->predicted_ns > 0)
			fprintf(f, "<circle class=\"predicted c%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"6.5\"/>", colour, x,
			        py(p, speed_of(row, row->predicted_ns)));
		fprintf(f,
		        "<circle class=\"point c%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"><title>window %s: %.2f "
		        "tokens/s, predicted "
		        "%.2f, efficiency %.2f</title></circle>",
		        colour, x, y, hr_bench_window_name(row->arm).s, row->median_ts,
		        speed_of(row, row->predicted_ns), row->efficiency);
		double label = above ? fmin(y, py(p, row->max_ts)) - 11 : fmax(y, py(p, row->min_ts)) + 19;
		if (above || below)
			fprintf(f, "<text class=\"value\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n", x,
			        label, figures3(row->median_ts).s);
	}
}

/* The axis of windows: in layers, or with budgets in per cent of the weights. */
static int whole_window(const struct hr_bench *b)
{
	return b->arms[0].by_budget ? 100 : hr_model_info(b->model)->n_layers;
}

static const char *window_title(const struct hr_bench *b)
{
	return b->arms[0].by_budget ? "% of the weights on the device" : "layers on the device";
}

void hr_bench_chart_speed(FILE *f, const struct hr_bench *b, bool decode)
{
	struct series series[MAX_SERIES];
	int           n = find_series(b, decode, series), most = whole_window(b);
	struct plot   p = {.left = 62, .top = 40, .width = 440, .height = 240, .x_max = most, .y_max = 1e-3};
	for (int s = 0; s < n; s++)
		for (int i = 0; i < series[s].n; i++)
			p.y_max =
			    fmax(fmax(p.y_max, series[s].rows[i]->max_ts),
			         fmax(curve_at(series[s].rows[i], CEILING), curve_at(series[s].rows[i], PREDICTED)));
	double step = nice_step(p.y_max, 5);
	p.y_max = ceil(p.y_max * 1.12 / step) * step; /* room for the label of the highest point */
	begin_svg(f, decode ? "speed-decode" : "speed-prefill",
	          decode ? "decode speed over the window" : "prefill speed over the window", 530, 330 + 20 * n);
	y_axis(f, &p, "tokens/s");
	double x_step = fmax(1, nice_step(most, 6));
	for (double x = 0; x < most - x_step / 2; x += x_step)
		layer_tick(f, &p, (int)x);
	layer_tick(f, &p, most); /* the full load */
	x_title(f, &p, window_title(b));
	for (int s = 0; s < n; s++) {
		put_curve(f, &p, &series[s], CEILING, s);
		put_curve(f, &p, &series[s], PREDICTED, s);
		put_curve(f, &p, &series[s], MEASURED, s);
		put_points(f, &p, series, n, s);
		double y = p.top + p.height + 58 + 20 * s;
		fprintf(f,
		        "<circle class=\"point c%d\" cx=\"70\" cy=\"%.1f\" r=\"4\"/><text class=\"legend\" x=\"82\" "
		        "y=\"%.1f\">%s, %d "
		        "sequence%s</text>\n",
		        s, y - 4, y, hr_bench_test_name(series[s].rows[0]).s, series[s].rows[0]->arm->n_seqs,
		        series[s].rows[0]->arm->n_seqs > 1 ? "s" : "");
	}
	for (int s = 0; s < n; s++)
		free(series[s].rows);
	fprintf(f, "</svg>\n");
}

/* ---- Memory over the window ----------------------------------------------------------- */

/* The arms that ran, one for each window: those of the first series. */
static int find_arms(const struct hr_bench *b, const struct hr_bench_row **rows)
{
	struct series series[MAX_SERIES];
	int           n = 0, n_series = find_series(b, true, series);
	if (!n_series)
		n_series = find_series(b, false, series);
	for (int s = 0; s < n_series; s++) {
		for (int i = 0; i < series[s].n && !s; i++)
			rows[n++] = series[s].rows[i];
		free(series[s].rows);
	}
	return n;
}

void hr_bench_chart_memory(FILE *f, const struct hr_bench *b)
{
	static const char *const    names[] = {"residents", "slots", "KV cache", "activations"};
	static const char *const    classes[] = {"resident", "slot", "kv", "activation"};
	const struct hr_bench_row **rows = calloc((size_t)b->n_rows + 1, sizeof *rows);
	int                         n = rows ? find_arms(b, rows) : 0;
	struct plot p = {.left = 62, .top = 40, .width = 440, .height = 240, .x_max = n ? n : 1, .y_max = 1e-3};
	for (int i = 0; i < n; i++) {
		const struct hr_plan_info *info = &rows[i]->arm->info;
		p.y_max =
		    fmax(p.y_max, (double)(info->device_bytes + info->kv_bytes + info->activation_bytes) * 1e-9);
	}
	double step = nice_step(p.y_max, 5);
	p.y_max = ceil(p.y_max * 1.04 / step) * step;
	begin_svg(f, "memory", "memory over the window", 530, 350);
	y_axis(f, &p, "GB");
	for (int i = 0; i < n; i++) {
		const struct hr_plan_info *info = &rows[i]->arm->info;
		double parts[] = {(double)info->resident_bytes, (double)info->slot_bytes * info->slots,
		                  (double)info->kv_bytes, (double)info->activation_bytes};
		double sum = 0, left = px(&p, i + 0.18), width = px(&p, i + 0.82) - left;
		for (int k = 0; k < 4; k++) {
			double next = sum + parts[k] * 1e-9;
			if (parts[k] > 0)
				fprintf(f,
				        "<rect class=\"%s\" x=\"%.1f\" width=\"%.1f\" y=\"%.1f\" height=\"%.1f\"><title>%s: "
				        "%s</title></rect>",
				        classes[k], left, width, py(&p, next), fmax(0.5, py(&p, sum) - py(&p, next)),
				        names[k], hr_cli_bytes((uint64_t)parts[k]).s);
			sum = next;
		}
		fprintf(f, "<text class=\"value\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n",
		        px(&p, i + 0.5), py(&p, sum) - 6, hr_cli_bytes((uint64_t)(sum * 1e9)).s);
		x_tick(f, &p, i + 0.5, hr_bench_window_name(rows[i]->arm).s);
	}
	x_title(f, &p, window_title(b));
	for (int k = 0; k < 4; k++)
		fprintf(f,
		        "<rect class=\"%s\" x=\"%d\" y=\"%.1f\" width=\"11\" height=\"11\"/><text class=\"legend\" "
		        "x=\"%d\" y=\"%.1f\">%s</text>\n",
		        classes[k], 66 + 108 * k, p.top + p.height + 50, 82 + 108 * k, p.top + p.height + 60,
		        names[k]);
	fprintf(f, "</svg>\n");
	free(rows);
}

/* ---- Where the time of a pass goes ------------------------------------------------------ */

struct pass_time {
	double total, parts[4]; /* ms: compute, waiting for the disk, for the link, the rest */
};

/* Of the repetition in the middle: parts of several ones need not add up. */
static struct pass_time time_of_pass(const struct hr_bench_row *row)
{
	int middle = 0;
	for (int i = 1; i < row->n; i++)
		if (fabs(row->ns[i] - row->median_ns) < fabs(row->ns[middle] - row->median_ns))
			middle = i;
	const struct hr_report *r = &row->reports[middle];
	double                  passes = (double)r->passes, total = row->ns[middle] * 1e-6 / passes;
	double compute = fmin(r->compute_ms / passes, total), stall = fmin(r->stall_ms / passes, total - compute),
	       link = stall * row->stall_link_share;
	return (struct pass_time){total, {compute, stall - link, link, total - compute - stall}};
}

void hr_bench_chart_share(FILE *f, const struct hr_bench *b)
{
	static const char *const    names[] = {"compute", "waiting for the disk", "waiting for the link",
	                                       "the host's turn"};
	static const char *const    classes[] = {"compute", "wait-disk", "wait-link", "host"};
	const struct hr_bench_row **rows = calloc((size_t)b->n_rows + 1, sizeof *rows);
	int                         n = rows ? find_arms(b, rows) : 0;
	double                      longest = 1e-9;
	for (int i = 0; i < n; i++)
		longest = fmax(longest, time_of_pass(rows[i]).total);
	begin_svg(f, "share", "where the time of a pass goes", 1090, 66 + 34.0 * n);
	for (int i = 0; i < n; i++) {
		struct pass_time t = time_of_pass(rows[i]);
		double           at = 90, y = 8 + 34.0 * i;
		fprintf(f, "<text class=\"label\" x=\"78\" y=\"%.1f\" text-anchor=\"end\">%s</text>", y + 16,
		        hr_bench_window_name(rows[i]->arm).s);
		for (int k = 0; k < 4; k++) {
			double width = 770 * t.parts[k] / longest;
			if (width < 0.3)
				continue;
			fprintf(f,
			        "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"24\"><title>%s: %s "
			        "ms</title></rect>",
			        classes[k], at, y, width, names[k], figures3(t.parts[k]).s);
			if (width > 60)
				fprintf(f, "<text class=\"inside\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s ms</text>",
				        at + width / 2, y + 16, figures3(t.parts[k]).s);
			at += width;
		}
		fprintf(f, "<text class=\"value\" x=\"%.1f\" y=\"%.1f\">%s ms, %s tokens/s</text>\n", at + 9, y + 16,
		        figures3(t.total).s, figures3(rows[i]->median_ts).s);
	}
	for (int k = 0; k < 4; k++)
		fprintf(f,
		        "<rect class=\"%s\" x=\"%d\" y=\"%.1f\" width=\"11\" height=\"11\"/><text class=\"legend\" "
		        "x=\"%d\" y=\"%.1f\">%s</text>\n",
		        classes[k], 90 + 180 * k, 34.0 * n + 28, 107 + 180 * k, 34.0 * n + 38, names[k]);
	fprintf(f, "</svg>\n");
	free(rows);
}

/* ---- Predicted against measured ----------------------------------------------------------- */

static double pass_ms(const struct hr_bench_row *row, double ns)
{
	return ns * 1e-6 / (double)row->reports[0].passes;
}

void hr_bench_chart_prediction(FILE *f, const struct hr_bench *b)
{
	double least = INFINITY, most = 0;
	for (int i = 0; i < b->n_rows; i++) {
		const struct hr_bench_row *row = &b->rows[i];
		if (!row->n || !(row->predicted_ns > 0))
			continue;
		least = fmin(least, fmin(pass_ms(row, row->median_ns), pass_ms(row, row->predicted_ns)));
		most = fmax(most, fmax(pass_ms(row, row->median_ns), pass_ms(row, row->predicted_ns)));
	}
	begin_svg(f, "prediction", "predicted against measured time of a pass", 530, 350);
	if (!(most > 0)) {
		fprintf(f, "<text class=\"label\" x=\"60\" y=\"60\">Nothing was predicted.</text></svg>\n");
		return;
	}
	least = pow(10, floor(log10(least) * 2) / 2);
	most = pow(10, ceil(log10(most) * 2) / 2);
	struct plot p = {62, 40, 440, 240, least, most, least, most, true, true};
	fprintf(
	    f,
	    "<polygon class=\"band\" points=\"%.1f,%.1f %.1f,%.1f %.1f,%.1f %.1f,%.1f %.1f,%.1f %.1f,%.1f\"/>\n",
	    p.left, p.top + p.height, px(&p, least * 1.1), p.top + p.height, p.left + p.width, py(&p, most / 1.1),
	    p.left + p.width, p.top, px(&p, most / 1.1), p.top, p.left, py(&p, least * 1.1));
	fprintf(f, "<line class=\"even\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", p.left,
	        p.top + p.height, p.left + p.width, p.top);
	for (double decade = pow(10, floor(log10(least))); decade <= most; decade *= 10)
		for (int k = 1; k <= 5; k += k == 1 ? 1 : 3) {
			double v = decade * k;
			if (v < least * 0.999 || v > most * 1.001)
				continue;
			char text[32];
			snprintf(text, sizeof text, "%g", v);
			x_tick(f, &p, v, text);
			fprintf(f, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", p.left,
			        p.left + p.width, py(&p, v), py(&p, v));
			fprintf(f, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
			        p.left - 8, py(&p, v) + 4, text);
		}
	fprintf(f, "<text class=\"axis\" x=\"%.1f\" y=\"%.1f\">predicted, ms a pass</text>\n", p.left - 34,
	        p.top - 14);
	x_title(f, &p, "measured, ms a pass");
	for (int i = 0; i < b->n_rows; i++) {
		const struct hr_bench_row *row = &b->rows[i];
		if (!row->n || !(row->predicted_ns > 0))
			continue;
		fprintf(f,
		        "<circle class=\"point %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"5\"><title>window %s, %s, %d "
		        "sequences: predicted / "
		        "measured %.3f</title></circle>\n",
		        row->decode ? "c0" : "c1", px(&p, pass_ms(row, row->median_ns)),
		        py(&p, pass_ms(row, row->predicted_ns)), hr_bench_window_name(row->arm).s,
		        hr_bench_test_name(row).s, row->arm->n_seqs, row->predicted_ns / row->median_ns);
	}
	fprintf(f, "<circle class=\"point c0\" cx=\"70\" cy=\"336\" r=\"5\"/><text class=\"legend\" x=\"82\" "
	           "y=\"340\">decode</text>"
	           "<circle class=\"point c1\" cx=\"150\" cy=\"336\" r=\"5\"/><text class=\"legend\" x=\"162\" "
	           "y=\"340\">prefill</text>"
	           "<rect class=\"band\" x=\"228\" y=\"330\" width=\"16\" height=\"11\"/><text class=\"legend\" "
	           "x=\"250\" y=\"340\">within "
	           "10 %%</text></svg>\n");
}

/* ---- One pass in time ------------------------------------------------------------------------ */

/* Does this layer travel? Reads and copies carry its name. */
static bool travels(const struct hr_bench_arm *arm, const char *name)
{
	const struct hr_bench_pass *passes[] = {&arm->predicted, &arm->measured};
	for (int k = 0; k < 2; k++)
		for (int i = 0; i < passes[k]->n; i++)
			if ((passes[k]->spans[i].lane == 'd' || passes[k]->spans[i].lane == 'l') &&
			    !strcmp(passes[k]->spans[i].name, name))
				return true;
	return false;
}

/* "model.layers.12" -> "12", "lm_head.1" -> "head" */
static const char *short_name(const char *name)
{
	const char *dot = strrchr(name, '.');
	return !strncmp(name, "lm_head", 7) ? "head" : dot ? dot + 1 : name;
}

static void put_span(FILE *f, const struct plot *p, const struct hr_bench_arm *arm,
                     const struct hr_bench_span *s, double top, double height)
{
	double left = px(p, fmax(0, s->begin)), right = px(p, fmin(p->x_max, s->end));
	bool   moves = s->lane == 'c' && travels(arm, s->name);
	if (right <= left)
		return;
	fprintf(f, "<rect class=\"%s\" x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\"><title>",
	        s->lane == 'd'   ? "disk"
	        : s->lane == 'l' ? "link"
	        : s->lane == 'h' ? "host"
	        : moves          ? "streamed"
	                         : "compute",
	        left, top, fmax(0.4, right - left - (s->lane == 'd' ? 0 : 0.4)), height);
	hr_bench_put_text(f, s->name);
	fprintf(f, ", %s ms</title></rect>", figures3(s->end - s->begin).s);
	if (s->lane == 'c' && right - left > 17)
		fprintf(f, "<text class=\"inside\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>",
		        (left + right) / 2, top + height / 2 + 4, short_name(s->name));
}

/* Compute idle is drawn too: that is what a pass loses. */
static void put_stalls(FILE *f, const struct plot *p, const struct hr_bench_pass *pass, double top,
                       double height)
{
	double last = 0;
	for (int i = 0; i < pass->n; i++) {
		const struct hr_bench_span *s = &pass->spans[i];
		if (s->lane != 'c' || s->end <= 0)
			continue;
		if (s->begin > last + 0.002 * p->x_max)
			fprintf(f,
			        "<rect class=\"stall\" x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" "
			        "height=\"%.1f\"><title>waiting, %s ms</title></rect>",
			        px(p, last), top, px(p, s->begin) - px(p, last), height, figures3(s->begin - last).s);
		last = fmax(last, s->end);
	}
}

static int by_begin(const void *a, const void *b)
{
	const struct hr_bench_span *x = a, *y = b;
	return (x->begin > y->begin) - (x->begin < y->begin);
}

void hr_bench_chart_pass(FILE *f, const struct hr_bench_arm *arm, const struct hr_bench_pass *pass,
                         double axis_ms)
{
	static const char        lanes[] = "dlch";
	static const char *const names[] = {"disk", "link", "compute", "host"};
	struct plot              p = {.left = 70, .top = 6, .width = 1000, .height = 0, .x_max = axis_ms};
	double                   tops[4], at = p.top;
	bool                     used[4] = {0};
	if (pass->n)
		qsort(pass->spans, (size_t)pass->n, sizeof *pass->spans, by_begin);
	for (int i = 0; i < pass->n; i++)
		for (int k = 0; k < 4; k++)
			used[k] |= pass->spans[i].lane == lanes[k];
	for (int k = 0; k < 4; k++) {
		tops[k] = at;
		at += used[k] ? (k == 2 ? 34 : k == 3 ? 14 : 24) : 0;
	}
	p.height = at - p.top;
	fprintf(f,
	        "<svg class=\"pass\" viewBox=\"0 0 1090 %.0f\" role=\"img\" aria-label=\"one pass in time\">\n",
	        at + 26);
	double step = nice_step(axis_ms, 10);
	for (double x = 0; x <= axis_ms * 1.0001; x += step) {
		fprintf(f, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", px(&p, x),
		        px(&p, x), p.top, at);
		bool last = x + step > axis_ms * 1.0001;
		fprintf(f, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%g%s</text>\n", px(&p, x),
		        at + 16, last ? "end" : "middle", x, last ? " ms" : "");
	}
	put_stalls(f, &p, pass, tops[2], 30);
	for (int k = 0; k < 4; k++) {
		if (!used[k])
			continue;
		double height = k == 2 ? 30 : k == 3 ? 10 : 20;
		fprintf(f, "<text class=\"label\" x=\"60\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
		        tops[k] + height / 2 + 4, names[k]);
		for (int i = 0; i < pass->n; i++)
			if (pass->spans[i].lane == lanes[k])
				put_span(f, &p, arm, &pass->spans[i], tops[k], height);
		fputc('\n', f);
	}
	fprintf(f, "</svg>\n");
}
