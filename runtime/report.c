/* The report: rates, ceiling and efficiency out of counters.
 *
 *     disk rate  = bytes streamed / time in which a read was in flight
 *     link rate  = bytes copied / time in which a copy ran
 *     ceiling    = max(bytes streamed / disk rate, bytes copied / link rate, compute time)
 *     efficiency = ceiling / time of the passes
 *
 * Under a throttle the disk rate is the throttle's, so the ceiling is exact. */
#include "runtime/report.h"

#include "base/mem.h"

#include <math.h>

void hr__measure_pass(struct hr_measure *m, double ms, int prefill_tokens, int decode_tokens)
{
	struct hr_pass_times *t = prefill_tokens ? &m->prefill : &m->decode;
	t->ms[t->n++ % HR_PASS_SAMPLES] = ms;
	t->total_ms += ms;
	m->prefill_tokens += (uint64_t)prefill_tokens;
	m->decode_tokens += (uint64_t)decode_tokens;
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

/* Median of the kept samples of one or two kinds; 0 when there are none. */
static double median(const struct hr_pass_times *a, const struct hr_pass_times *b)
{
	size_t  na = a->n < HR_PASS_SAMPLES ? a->n : HR_PASS_SAMPLES;
	size_t  nb = !b ? 0 : b->n < HR_PASS_SAMPLES ? b->n : HR_PASS_SAMPLES;
	size_t  n = na + nb;
	double *all = n ? hr__calloc(n, sizeof *all) : NULL;
	if (!all)
		return 0;
	memcpy(all, a->ms, na * sizeof *all);
	if (nb)
		memcpy(all + na, b->ms, nb * sizeof *all);
	qsort(all, n, sizeof *all, compare_doubles);
	double m = (all[(n - 1) / 2] + all[n / 2]) / 2;
	free(all);
	return m;
}

static double gbps(uint64_t bytes, uint64_t busy_ns) { return busy_ns ? (double)bytes / (double)busy_ns : 0; }

/* Milliseconds for `bytes` at `rate` GB/s. */
static double ms_at(uint64_t bytes, double rate) { return rate > 0 ? (double)bytes / rate * 1e-6 : 0; }

void hr__measure_report(const struct hr_measure *m, const struct hr_window_stats *w,
                        const struct hr_reader_stats *r, uint64_t max_disk_rate, struct hr_report *out)
{
	out->load_ms = m->load_ms;
	out->prefill_tokens = m->prefill_tokens;
	out->decode_tokens = m->decode_tokens;
	out->passes = m->prefill.n + m->decode.n;
	out->prefill_ms = m->prefill.total_ms;
	out->decode_ms = m->decode.total_ms;
	out->pass_ms_median = median(&m->prefill, &m->decode);
	out->decode_pass_ms_median = median(&m->decode, NULL);
	out->disk_bytes = w->disk_bytes - m->window0.disk_bytes;
	out->link_bytes = w->link_bytes - m->window0.link_bytes;
	out->disk_gbps = out->disk_bytes ? gbps(r->bytes - m->reader0.bytes, r->busy_ns - m->reader0.busy_ns) : 0;
	out->link_gbps = gbps(out->link_bytes, w->link_busy_ns - m->window0.link_busy_ns);
	out->compute_ms = (double)(w->compute_ns - m->window0.compute_ns) * 1e-6;
	out->stall_ms = (double)(w->stall_ns - m->window0.stall_ns) * 1e-6;
	double disk_rate = max_disk_rate ? (double)max_disk_rate * 1e-9 : out->disk_gbps;
	out->ceiling_ms = fmax(out->compute_ms,
	                       fmax(ms_at(out->disk_bytes, disk_rate), ms_at(out->link_bytes, out->link_gbps)));
	double total_ms = out->prefill_ms + out->decode_ms;
	out->efficiency = total_ms > 0 ? out->ceiling_ms / total_ms : 0;
}
