/* The trace: spans in one array that is allocated once.
 *
 * A recorder takes the next index with one atomic add, fills its span and marks
 * it written; nobody ever waits. Indices beyond the capacity are only counted.
 * Writing reads what is marked, so it may run while others still record.
 *
 * Viewers draw the spans of one thread as a stack, so spans that overlap
 * without nesting (reads in flight at the same time) must not share one: when
 * the file is written, each lane is laid out in as many rows as were busy at
 * the same time, and every row is a thread of its own. */
#include "scheduler/trace.h"

#include "base/error.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define N_LANES  4
#define MAX_ROWS 64 /* per lane; spans beyond share the last */

static const char *const lane_names[N_LANES] = {"disk", "link", "compute", "host"};

struct span {
	atomic_bool  written;
	enum hr_lane lane;
	int          row; /* given when the trace is written */
	uint64_t     begin_ns, end_ns, bytes;
	char         name[64];
};

struct hr_trace {
	int           capacity;
	atomic_ullong n_spans; /* asked for; may exceed capacity */
	struct span   spans[];
};

const char *hr_trace_lane_name(enum hr_lane lane) { return lane_names[lane]; }

int hr_trace_new(struct hr_trace **out, int max_spans, struct hr_error *err)
{
	if (max_spans < 1)
		return hr__fail(err, HR_EINVAL, "A trace needs room for at least one span, not %d.", max_spans);
	struct hr_trace *t = calloc(1, sizeof *t + (size_t)max_spans * sizeof t->spans[0]);
	if (!t)
		return hr__fail(err, HR_ENOMEM, "There is no memory for a trace of %d spans; ask for fewer.",
		                max_spans);
	t->capacity = max_spans;
	*out = t;
	return 0;
}

void hr_trace_free(struct hr_trace *trace) { free(trace); }

void hr_trace_span(struct hr_trace *trace, enum hr_lane lane, const char *name, uint64_t begin_ns,
                   uint64_t end_ns, uint64_t bytes)
{
	if (!trace)
		return;
	unsigned long long i = atomic_fetch_add_explicit(&trace->n_spans, 1, memory_order_relaxed);
	if (i >= (unsigned long long)trace->capacity)
		return;
	struct span *s = &trace->spans[i];
	s->lane = lane;
	s->begin_ns = begin_ns;
	s->end_ns = end_ns > begin_ns ? end_ns : begin_ns;
	s->bytes = bytes;
	snprintf(s->name, sizeof s->name, "%s", name);
	atomic_store_explicit(&s->written, true, memory_order_release);
}

static int by_begin(const void *a, const void *b)
{
	const struct span *x = *(struct span *const *)a, *y = *(struct span *const *)b;
	return (x->begin_ns > y->begin_ns) - (x->begin_ns < y->begin_ns);
}

/* The written spans, sorted by their begin. */
static int collect(struct hr_trace *t, struct span **sorted)
{
	unsigned long long asked = atomic_load(&t->n_spans);
	int                n = 0, limit = asked < (unsigned long long)t->capacity ? (int)asked : t->capacity;
	for (int i = 0; i < limit; i++) {
		if (atomic_load_explicit(&t->spans[i].written, memory_order_acquire))
			sorted[n++] = &t->spans[i];
	}
	qsort(sorted, (size_t)n, sizeof *sorted, by_begin);
	return n;
}

/* First row of its lane that is free when the span begins. */
static void lay_out(struct span **sorted, int n, int n_rows[N_LANES])
{
	uint64_t busy_until[N_LANES][MAX_ROWS] = {0};
	for (int i = 0; i < n; i++) {
		struct span *s = sorted[i];
		uint64_t    *busy = busy_until[s->lane];
		int          row = 0;
		while (row < MAX_ROWS - 1 && busy[row] > s->begin_ns)
			row++;
		s->row = row;
		if (busy[row] < s->end_ns)
			busy[row] = s->end_ns;
		if (n_rows[s->lane] <= row)
			n_rows[s->lane] = row + 1;
	}
}

static void put_string(FILE *f, const char *text)
{
	fputc('"', f);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		if (c == '"' || c == '\\')
			fputc('\\', f);
		fputc(c < 0x20 || c > 0x7e ? '?' : c, f);
	}
	fputc('"', f);
}

static int thread_of(int lane, int row) { return lane * MAX_ROWS + row + 1; }

static void put_json(FILE *f, struct span **sorted, int n, const int n_rows[N_LANES],
                     unsigned long long dropped)
{
	fprintf(f, "{\"displayTimeUnit\":\"ms\",\"otherData\":{\"dropped_spans\":%llu},\"traceEvents\":[\n",
	        dropped);
	fprintf(f,
	        "{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1,\"tid\":0,\"args\":{\"name\":\"headrace\"}}");
	for (int lane = 0; lane < N_LANES; lane++) {
		for (int row = 0; row < n_rows[lane]; row++) {
			fprintf(f,
			        ",\n{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":%d,\"args\":{\"name\":\"%s "
			        "%d\"}}",
			        thread_of(lane, row), lane_names[lane], row);
			fprintf(f,
			        ",\n{\"name\":\"thread_sort_index\",\"ph\":\"M\",\"pid\":1,\"tid\":%d,\"args\":{\"sort_"
			        "index\":%d}}",
			        thread_of(lane, row), thread_of(lane, row));
		}
	}
	for (int i = 0; i < n; i++) {
		const struct span *s = sorted[i];
		fputs(",\n{\"name\":", f);
		put_string(f, s->name);
		fprintf(f,
		        ",\"cat\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f,\"args\":{"
		        "\"bytes\":%llu}}",
		        lane_names[s->lane], thread_of((int)s->lane, s->row),
		        (double)(s->begin_ns - sorted[0]->begin_ns) / 1e3, (double)(s->end_ns - s->begin_ns) / 1e3,
		        (unsigned long long)s->bytes);
	}
	fputs("\n]}\n", f);
}

int hr_trace_visit(struct hr_trace *trace, hr_trace_fn fn, void *user, struct hr_error *err)
{
	struct span **sorted = hr__calloc((size_t)trace->capacity, sizeof *sorted);
	if (!sorted)
		return hr__fail(err, HR_ENOMEM, "There is no memory to look through a trace.");
	int n = collect(trace, sorted);
	for (int i = 0; i < n; i++)
		fn(user, sorted[i]->lane, sorted[i]->name, sorted[i]->begin_ns, sorted[i]->end_ns, sorted[i]->bytes);
	free(sorted);
	return 0;
}

int hr_trace_write(struct hr_trace *trace, const char *path, struct hr_error *err)
{
	int           rc = 0, n_rows[N_LANES] = {0};
	char         *temporary = NULL;
	FILE         *f = NULL;
	struct span **sorted = hr__calloc((size_t)trace->capacity, sizeof *sorted);
	if (!sorted || asprintf(&temporary, "%s.%d.tmp", path, (int)getpid()) < 0) {
		temporary = NULL;
		rc = hr__fail(err, HR_ENOMEM, "There is no memory to write the trace %s.", path);
		goto done;
	}
	int                n = collect(trace, sorted);
	unsigned long long asked = atomic_load(&trace->n_spans), capacity = (unsigned long long)trace->capacity;
	lay_out(sorted, n, n_rows);

	f = fopen(temporary, "we");
	if (!f) {
		rc = hr__fail(err, HR_EIO, "The trace cannot be written to %s: %s.", path, strerror(errno));
		goto done;
	}
	put_json(f, sorted, n, n_rows, asked > capacity ? asked - capacity : 0);
	bool bad = ferror(f);
	if (fclose(f) || bad || rename(temporary, path)) {
		rc = hr__fail(err, HR_EIO, "The trace cannot be written to %s: %s.", path, strerror(errno));
		unlink(temporary);
	}
done:
	free(temporary);
	free(sorted);
	return rc;
}
