/* See fake_reader.h. */
#include "tests/fake_reader.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "tests/fake_device.h"

#include <pthread.h>
#include <unistd.h>

#define MAX_THREADS 16

struct fake_reader {
	struct hr_reader           reader;
	struct fake_reader_options o;
	pthread_mutex_t            mutex;
	pthread_cond_t             changed;
	struct hr_read            *queue;
	struct hr_read            *running[MAX_THREADS];
	int                        n_running, n_submitted, n_started, n_misuses;
	bool                       closing;
	uint32_t                   random;
	pthread_t                  threads[MAX_THREADS];
	struct hr_reader_stats     stats;
};

/* ---- Content --------------------------------------------------------------- */

static uint64_t word(const struct hr_file *file, uint64_t index)
{
	uint64_t x = (uint64_t)file->mtime_ns * 0x9E3779B97F4A7C15u + index;
	x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
	x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
	return x ^ (x >> 31);
}

uint8_t fake_file_byte(const struct hr_file *file, uint64_t offset)
{
	return (uint8_t)(word(file, offset / 8) >> (8 * (offset % 8)));
}

void fake_file_fill(const struct hr_file *file, uint64_t offset, void *memory, uint64_t bytes)
{
	uint8_t *p = memory;
	uint64_t i = 0;
	for (; i < bytes && (offset + i) % 8; i++)
		p[i] = fake_file_byte(file, offset + i);
	for (; i + 8 <= bytes; i += 8) {
		uint64_t w = word(file, (offset + i) / 8);
		memcpy(p + i, &w, 8);
	}
	for (; i < bytes; i++)
		p[i] = fake_file_byte(file, offset + i);
}

int fake_file_compare(const struct hr_file *file, uint64_t offset, const void *memory, uint64_t bytes)
{
	const uint8_t *p = memory;
	uint64_t       i = 0;
	for (; i < bytes && (offset + i) % 8; i++) {
		if (p[i] != fake_file_byte(file, offset + i))
			return 1;
	}
	for (; i + 8 <= bytes; i += 8) {
		uint64_t w = word(file, (offset + i) / 8);
		if (memcmp(p + i, &w, 8))
			return 1;
	}
	for (; i < bytes; i++) {
		if (p[i] != fake_file_byte(file, offset + i))
			return 1;
	}
	return 0;
}

/* ---- Reading --------------------------------------------------------------- */

static char *superset(const struct hr_read *r, size_t *bytes)
{
	uint64_t lead = r->offset % HR_IO_ALIGN;
	*bytes = hr__align_up(lead + r->length, HR_IO_ALIGN);
	return (char *)r->dst - lead;
}

static struct hr_read *take_locked(struct fake_reader *f)
{
	int n = 0, pick = 0;
	for (struct hr_read *r = f->queue; r; r = r->next)
		n++;
	f->random = f->random * 1664525u + 1013904223u;
	if (f->o.reorder)
		pick = (int)((f->random >> 8) % (uint32_t)n);
	struct hr_read **p = &f->queue;
	while (pick--)
		p = &(*p)->next;
	struct hr_read *r = *p;
	*p = r->next;
	return r;
}

static void check_use_locked(struct fake_reader *f, const struct hr_read *read)
{
	size_t bytes, other_bytes;
	char  *base = superset(read, &bytes);
	if ((uintptr_t)base % HR_IO_ALIGN || read->length == 0 || bytes > f->reader.chunk_bytes)
		f->n_misuses++;
	for (int i = 0; i < MAX_THREADS; i++) {
		if (!f->running[i])
			continue;
		char *other = superset(f->running[i], &other_bytes);
		f->n_misuses += base < other + other_bytes && other < base + bytes;
	}
}

static void run_read(struct fake_reader *f, struct hr_read *r, int delay_us, bool fails)
{
	size_t bytes;
	char  *base = superset(r, &bytes);
	r->start_ns = hr__now_ns();
	if (f->o.device)
		fake_device_check_write(f->o.device, base, bytes);
	memset(base, 0xBB, bytes);
	if (delay_us)
		usleep((useconds_t)delay_us);
	if (f->o.device)
		fake_device_check_write(f->o.device, base, bytes);
	r->status = fails ? f->o.fail_code : 0;
	if (fails)
		hr__fail(&r->error, r->status, "%s: the read at %llu failed on request.", r->file->path,
		         (unsigned long long)r->offset);
	else
		fake_file_fill(r->file, r->offset - r->offset % HR_IO_ALIGN, base, bytes);
	r->end_ns = hr__now_ns();
}

static void *run_thread(void *arg)
{
	struct fake_reader *f = arg;
	pthread_mutex_lock(&f->mutex);
	for (;;) {
		while (!f->queue && !f->closing)
			pthread_cond_wait(&f->changed, &f->mutex);
		if (!f->queue)
			break;
		struct hr_read *r = take_locked(f);
		int             slot = 0, latency = f->o.latency_us;
		check_use_locked(f, r);
		while (f->running[slot])
			slot++;
		f->running[slot] = r;
		f->n_running++;
		bool fails = ++f->n_started == f->o.fail_read;
		int  delay = latency ? latency / 2 + (int)((f->random >> 8) % (uint32_t)(latency / 2 + 1)) : 0;
		pthread_mutex_unlock(&f->mutex);
		run_read(f, r, delay, fails);
		uint64_t length = r->length;
		pthread_mutex_lock(&f->mutex);
		f->running[slot] = NULL; /* before done: the memory may be read into again from then on */
		f->stats.bytes += length;
		f->stats.reads++;
		pthread_mutex_unlock(&f->mutex);
		r->done(r);
		pthread_mutex_lock(&f->mutex);
		f->n_running--;
		pthread_cond_broadcast(&f->changed);
	}
	pthread_mutex_unlock(&f->mutex);
	return NULL;
}

static void submit(struct hr_reader *reader, struct hr_read *read)
{
	struct fake_reader *f = (struct fake_reader *)reader;
	pthread_mutex_lock(&f->mutex);
	struct hr_read **p = &f->queue;
	while (*p)
		p = &(*p)->next;
	read->next = NULL;
	*p = read;
	f->n_submitted++;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->mutex);
}

static void drain(struct hr_reader *reader)
{
	struct fake_reader *f = (struct fake_reader *)reader;
	pthread_mutex_lock(&f->mutex);
	while (f->queue || f->n_running) {
		struct hr_read *r = f->queue;
		if (!r) {
			pthread_cond_wait(&f->changed, &f->mutex);
			continue;
		}
		f->queue = r->next;
		pthread_mutex_unlock(&f->mutex);
		r->status = hr__fail(&r->error, HR_ECANCELED, "%s: the read was canceled.", r->file->path);
		r->done(r);
		pthread_mutex_lock(&f->mutex);
	}
	pthread_mutex_unlock(&f->mutex);
}

static void stats(struct hr_reader *reader, struct hr_reader_stats *out)
{
	struct fake_reader *f = (struct fake_reader *)reader;
	pthread_mutex_lock(&f->mutex);
	*out = f->stats;
	pthread_mutex_unlock(&f->mutex);
}

static void close_reader(struct hr_reader *reader)
{
	struct fake_reader *f = (struct fake_reader *)reader;
	drain(reader);
	pthread_mutex_lock(&f->mutex);
	f->closing = true;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->mutex);
	for (int i = 0; i < f->o.n_threads; i++)
		pthread_join(f->threads[i], NULL);
	pthread_cond_destroy(&f->changed);
	pthread_mutex_destroy(&f->mutex);
	free(f);
}

int fake_reader_n_submitted(struct hr_reader *reader)
{
	struct fake_reader *f = (struct fake_reader *)reader;
	pthread_mutex_lock(&f->mutex);
	int n = f->n_submitted;
	pthread_mutex_unlock(&f->mutex);
	return n;
}

int fake_reader_n_misuses(struct hr_reader *reader)
{
	struct fake_reader *f = (struct fake_reader *)reader;
	pthread_mutex_lock(&f->mutex);
	int n = f->n_misuses;
	pthread_mutex_unlock(&f->mutex);
	return n;
}

struct hr_reader *fake_reader_open(const struct fake_reader_options *options)
{
	static const struct hr_reader_ops ops = {
	    .name = "fake", .submit = submit, .drain = drain, .stats = stats, .close = close_reader};
	struct fake_reader *f = calloc(1, sizeof *f);
	if (!f)
		abort();
	f->reader = (struct hr_reader){.ops = &ops, .chunk_bytes = 1u << 30, .depth = 4};
	f->o = *options;
	if (!f->o.n_threads)
		f->o.n_threads = 4;
	f->random = options->seed;
	pthread_mutex_init(&f->mutex, NULL);
	pthread_cond_init(&f->changed, NULL);
	for (int i = 0; i < f->o.n_threads; i++)
		pthread_create(&f->threads[i], NULL, run_thread, f);
	return &f->reader;
}
