/* Measuring a disk and a link in a second or two.
 *
 * The disk: for every pair of chunk size and depth that a plan may choose, `depth` reads are
 * kept in flight over the file for some milliseconds, with the reader that a session would
 * use; the pairs take turns three times and the median counts, because drives have moods. The
 * pairs that matter most come first: when the time is up, what is missing is missing.
 *
 * The link: copies of pinned memory on a copy stream, one large for the rate and small ones
 * for what each costs. */
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "io/hostmem.h"
#include "scheduler/rates.h"

#include <semaphore.h>
#include <stdatomic.h>

#define ROUNDS    3
#define POINT_NS  25000000u
#define MAX_DEPTH 32

static const struct {
	uint32_t chunk_bytes;
	int      depth;
} points[] = {
    {2 << 20, 8},  {2 << 20, 1},    {2 << 20, 4},   {1 << 20, 8},   {4 << 20, 4},  {4 << 20, 8},
    {1 << 20, 1},  {4 << 20, 1},    {2 << 20, 2},   {2 << 20, 16},  {1 << 20, 16}, {1 << 20, 4},
    {4 << 20, 16}, {256 << 10, 32}, {256 << 10, 8}, {256 << 10, 1}, {8 << 20, 4},  {8 << 20, 1},
};
enum { N_POINTS = sizeof points / sizeof *points };

/* The reads of one point: each one that is done goes on elsewhere in the file. */
struct point_run {
	struct hr_reader *reader;
	uint64_t          chunk_bytes, n_chunks; /* of the file */
	uint64_t          deadline_ns, first;
	uint64_t          least, most; /* reads: so many whatever the time, and no more */
	_Atomic uint64_t  started;
	_Atomic int       status;
	struct hr_read    reads[MAX_DEPTH];
	sem_t             idle;
};

static void go_on(struct hr_read *read)
{
	struct point_run *run = read->user;
	int               none = 0;
	if (read->status)
		atomic_compare_exchange_strong(&run->status, &none, read->status);
	uint64_t n = atomic_fetch_add(&run->started, 1);
	if (run->status || n >= run->most || (n >= run->least && hr__now_ns() >= run->deadline_ns)) {
		sem_post(&run->idle);
		return;
	}
	read->offset = (run->first + n) % run->n_chunks * run->chunk_bytes;
	run->reader->ops->submit(run->reader, read);
}

/* The rate at one point. `*at`: where in the file, in bytes. */
static int measure_point(double *rate, const struct hr_file *file, enum hr_reader_kind kind, int point,
                         const struct hr_hostmem *mem, uint64_t *at, struct hr_error *err)
{
	struct hr_reader_options options = {
	    .kind = kind, .chunk_bytes = points[point].chunk_bytes, .depth = points[point].depth};
	struct hr_reader_stats stats;
	struct point_run      *run = hr__calloc(1, sizeof *run);
	int                    depth = options.depth;
	uint64_t               whole = hr__align_down(file->size_bytes, HR_IO_ALIGN);
	if (!run)
		return hr__fail(err, HR_ENOMEM, "There is no memory to measure the disk.");
	run->chunk_bytes = options.chunk_bytes < whole ? options.chunk_bytes : whole;
	int rc = run->chunk_bytes
	             ? hr_reader_open(&run->reader, &options, err)
	             : hr__fail(err, HR_EINVAL, "%s is too small to measure a disk with.", file->path);
	if (rc)
		goto done;
	if (run->reader->ops->register_memory)
		run->reader->ops->register_memory(run->reader, mem->base, mem->bytes);
	sem_init(&run->idle, 0, 0);
	run->n_chunks = file->size_bytes / run->chunk_bytes;
	run->first = *at / run->chunk_bytes;
	run->least = 2 * (uint64_t)depth;
	run->most = 2 * run->n_chunks + run->least;
	run->deadline_ns = hr__now_ns() + POINT_NS;
	for (int i = 0; i < depth; i++) {
		run->reads[i] =
		    (struct hr_read){.file = file, .length = run->chunk_bytes, .done = go_on, .user = run};
		run->reads[i].dst = (char *)mem->base + (size_t)i * run->chunk_bytes;
		go_on(&run->reads[i]);
	}
	for (int i = 0; i < depth; i++) {
		while (sem_wait(&run->idle))
			;
	}
	run->reader->ops->stats(run->reader, &stats);
	run->reader->ops->close(run->reader);
	sem_destroy(&run->idle);
	*at = (run->first + run->started) * run->chunk_bytes;
	if (run->status)
		rc = hr__fail(err, run->status, "%s could not be read while the disk was measured: %s.", file->path,
		              hr_error_text(run->status));
	else
		*rate = stats.busy_ns ? (double)stats.bytes / (double)stats.busy_ns : 0;
done:
	free(run);
	return rc;
}

static double median(double *x, int n)
{
	for (int i = 1; i < n; i++) {
		for (int j = i; j > 0 && x[j] < x[j - 1]; j--) {
			double t = x[j];
			x[j] = x[j - 1];
			x[j - 1] = t;
		}
	}
	return n ? (x[(n - 1) / 2] + x[n / 2]) / 2 : 0;
}

int hr_rates_measure_disk(struct hr_rates *rates, const struct hr_file *file, enum hr_reader_kind kind,
                          double seconds, struct hr_error *err)
{
	double            samples[N_POINTS][ROUNDS];
	int               n[N_POINTS] = {0}, rc;
	uint64_t          at = 0, end_ns = hr__now_ns() + (uint64_t)(seconds * 1e9);
	struct hr_hostmem mem = {0};
	rc = hr_hostmem_init(&mem, MAX_DEPTH * (2u << 20), -1, err); /* depth * chunk is never more */
	for (int round = 0; round < ROUNDS && !rc; round++) {
		for (int p = 0; p < N_POINTS && !rc && (hr__now_ns() < end_ns || (!round && !p)); p++) {
			double rate = 0;
			rc = measure_point(&rate, file, kind, p, &mem, &at, err);
			if (!rc && rate > 0)
				samples[p][n[p]++] = rate;
		}
	}
	hr_hostmem_release(&mem);
	if (rc)
		return rc;
	rates->n_disk = 0;
	for (int p = 0; p < N_POINTS; p++) {
		if (n[p])
			rates->disk[rates->n_disk++] =
			    (struct hr_disk_point){points[p].chunk_bytes, points[p].depth, median(samples[p], n[p])};
	}
	return 0;
}

/* ---- The link ------------------------------------------------------------------ */

/* The time from first to last of `n` copies of `bytes` each. */
static int time_copies(struct hr_device *d, struct hr_stream *s, struct hr_event *marks[2], void *to,
                       const void *from, size_t bytes, int n, double *ns)
{
	int rc = d->ops->event_record(marks[0], s);
	for (int i = 0; i < n && !rc; i++)
		rc = d->ops->copy(s, to, from, bytes);
	if (!rc)
		rc = d->ops->event_record(marks[1], s);
	if (!rc)
		rc = d->ops->event_wait(marks[1]);
	if (!rc)
		*ns = (double)(d->ops->event_time_ns(marks[1]) - d->ops->event_time_ns(marks[0]));
	return rc;
}

int hr_rates_measure_link(struct hr_rates *rates, struct hr_device *device, struct hr_error *err)
{
	enum { LARGE = 32 << 20, SMALL = 64 << 10, N_SMALL = 64 };
	const struct hr_device_ops *ops = device->ops;
	struct hr_hostmem           mem = {0};
	struct hr_stream           *stream = NULL;
	struct hr_event            *marks[2] = {NULL, NULL};
	void                       *to = NULL;
	bool                        pinned = false;
	double                      large[ROUNDS + 1], small = 0;
	int                         rc = hr_hostmem_init(&mem, LARGE, device->numa_node, err);
	if (!rc && !(rc = ops->pin(device, mem.base, mem.bytes, err)))
		pinned = true;
	if (!rc)
		rc = ops->alloc(device, &to, LARGE, err);
	if (!rc)
		rc = ops->stream_new(device, &stream, false, err);
	for (int i = 0; i < 2 && !rc; i++)
		rc = ops->event_new(device, &marks[i], err);
	if (rc)
		goto done;
	for (int i = 0; i <= ROUNDS && !rc; i++) /* the first warms up */
		rc = time_copies(device, stream, marks, to, mem.base, LARGE, 1, &large[i]);
	if (!rc)
		rc = time_copies(device, stream, marks, to, mem.base, SMALL, N_SMALL, &small);
	if (rc) {
		hr__fail(err, rc, "Device %s failed while its link was measured.", device->name);
		goto done;
	}
	double ns = median(large + 1, ROUNDS);
	rates->link_rate = ns > 0 ? LARGE / ns : 0;
	double each = small / N_SMALL - SMALL / rates->link_rate;
	rates->link_latency_ns = each > 0 ? each : 0;
done:
	for (int i = 0; i < 2; i++)
		if (marks[i])
			ops->event_free(marks[i]);
	if (stream)
		ops->stream_free(stream);
	if (to)
		ops->free(device, to);
	if (pinned)
		ops->unpin(device, mem.base);
	hr_hostmem_release(&mem);
	return rc;
}
