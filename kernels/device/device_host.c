/* The host as a device: its memory is ordinary memory, its streams are threads.
 *
 * A stream is a ring of commands and one thread that runs them in order; for a
 * compute stream that thread is number 0 of a pool (host_pool.c). Producers,
 * any number of them, take turns under `put`, and wait when the ring is full:
 * that cannot deadlock, since a command only ever waits for an event whose
 * record was put on a stream before it.
 *
 * An event counts: `recorded` records were put on streams, `completed` is the
 * last one reached. A wait is for the record that was newest when the wait was
 * put. Commands hold a reference to their event, so that it may be freed while
 * they are on their way.
 *
 * Nothing that runs on these streams can fail, so this device never becomes
 * FAILED. */
#include "kernels/device/device.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/topology.h"
#include "kernels/device/host_map.h"
#include "kernels/device/host_memory.h"
#include "kernels/device/host_pool.h"
#include "kernels/device/host_sequence.h"

#include <errno.h>
#include <stdio.h>

#define RING_COMMANDS    2048u
#define PAGE_BYTES       4096u
#define MIB(bytes)       ((double)(bytes) / (1 << 20))
#define MAX_HOST_THREADS 1024

struct block {
	void         *base;
	size_t        bytes;
	struct block *next;
};

struct host_device {
	struct hr_device      base; /* first */
	int                   n_threads;
	bool                  bind;
	uint64_t              budget_bytes;
	struct hr_notice_sink notices;

	pthread_mutex_t lock; /* protects what follows */
	struct block   *blocks;
	uint64_t        allocated_bytes;
	uint64_t        peak_bytes;
};

struct hr_event {
	struct hr__sequence completed;
	_Atomic uint32_t    recorded;
	_Atomic uint64_t    time_ns;
	atomic_int          refs;
};

struct command {
	enum { KERNEL, COPY, RECORD, WAIT, STOP } kind;
	union {
		struct {
			hr_host_kernel fn;
			int64_t        n_items;
			int64_t        grain;
			_Alignas(16) unsigned char args[HR_HOST_ARGS_MAX];
		} kernel;
		struct {
			void       *dst;
			const void *src;
			size_t      bytes;
		} copy;
		struct {
			struct hr_event *event;
			uint32_t         record;
		} mark;
	};
};

struct hr_stream {
	struct hr__sequence written;
	struct hr__sequence read;
	pthread_mutex_t     put; /* held by the producer that fills the next command */
	pthread_t           thread;
	struct hr__pool    *pool; /* NULL: a copy stream */
	struct command      ring[RING_COMMANDS];
};

static struct host_device *host(struct hr_device *device) { return (struct host_device *)device; }

/* ---- memory ---- */

/* Count `bytes` against the budget, or say why not. */
static int reserve(struct host_device *d, size_t bytes, struct hr_error *err)
{
	int                    rc = 0;
	struct hr__host_memory m;
	hr__host_memory_read(&m);
	pthread_mutex_lock(&d->lock);
	uint64_t allocated = d->allocated_bytes;
	uint64_t budget = d->budget_bytes;
	if (bytes > m.free_bytes || (budget && (bytes > budget || allocated > budget - bytes))) {
		rc = HR_EDEVMEM;
	} else {
		d->allocated_bytes += bytes;
		if (d->allocated_bytes > d->peak_bytes)
			d->peak_bytes = d->allocated_bytes;
	}
	pthread_mutex_unlock(&d->lock);
	if (!rc)
		return 0;
	char limit[64] = "no budget set";
	if (budget)
		snprintf(limit, sizeof(limit), "a budget of %.1f MiB", MIB(budget));
	return hr__fail(err, rc,
	                "The CPU device cannot allocate %.1f MiB: %.1f MiB are allocated already, with %s, and "
	                "%.1f of %.1f MiB are free on this machine; use a smaller window, batch or context.",
	                MIB(bytes), MIB(allocated), limit, MIB(m.free_bytes), MIB(m.total_bytes));
}

static void unreserve(struct host_device *d, size_t bytes)
{
	pthread_mutex_lock(&d->lock);
	d->allocated_bytes -= bytes;
	pthread_mutex_unlock(&d->lock);
}

static int host_alloc(struct hr_device *device, void **out, size_t bytes, struct hr_error *err)
{
	struct host_device *d = host(device);
	if (!bytes || bytes > SIZE_MAX / 2)
		return hr__fail(err, HR_EINVAL, "The CPU device was asked for %zu bytes.", bytes);
	bytes = (size_t)hr__align_up(bytes, PAGE_BYTES);
	int rc = reserve(d, bytes, err);
	if (rc)
		return rc;
	struct block *block = calloc(1, sizeof(*block));
	void         *base = block ? hr__host_map(bytes) : NULL;
	if (!base) {
		rc = hr__fail(err, HR_EDEVMEM, "The CPU device cannot allocate %.1f MiB: the system refused (%s).",
		              MIB(bytes), strerror(errno));
		goto done;
	}
	*block = (struct block){base, bytes, NULL};
	pthread_mutex_lock(&d->lock);
	block->next = d->blocks;
	d->blocks = block;
	pthread_mutex_unlock(&d->lock);
	*out = base;
done:
	if (rc) {
		free(block);
		unreserve(d, bytes);
	}
	return rc;
}

static void host_free(struct hr_device *device, void *memory)
{
	struct host_device *d = host(device);
	struct block       *block = NULL;
	pthread_mutex_lock(&d->lock);
	for (struct block **at = &d->blocks; *at; at = &(*at)->next) {
		if ((*at)->base == memory) {
			block = *at;
			*at = block->next;
			d->allocated_bytes -= block->bytes;
			break;
		}
	}
	pthread_mutex_unlock(&d->lock);
	if (block)
		hr__host_unmap(block->base, block->bytes);
	free(block);
}

static int host_pin(struct hr_device *device, void *base, size_t bytes, struct hr_error *err)
{
	(void)device, (void)base, (void)bytes, (void)err;
	return 0;
}

static void host_unpin(struct hr_device *device, void *base) { (void)device, (void)base; }

static int host_memory(struct hr_device *device, struct hr_device_memory *out)
{
	struct host_device    *d = host(device);
	struct hr__host_memory m;
	hr__host_memory_read(&m);
	pthread_mutex_lock(&d->lock);
	*out = (struct hr_device_memory){m.total_bytes, m.free_bytes, 0, d->allocated_bytes, d->peak_bytes};
	pthread_mutex_unlock(&d->lock);
	return 0;
}

/* ---- events ---- */

static int host_event_new(struct hr_device *device, struct hr_event **out, struct hr_error *err)
{
	(void)device;
	struct hr_event *e = aligned_alloc(64, sizeof(*e));
	if (!e)
		return hr__fail(err, HR_ENOMEM, "No memory for an event.");
	memset(e, 0, sizeof(*e));
	atomic_store(&e->refs, 1);
	*out = e;
	return 0;
}

static void unref(struct hr_event *e)
{
	if (atomic_fetch_sub(&e->refs, 1) == 1)
		free(e);
}

static void host_event_free(struct hr_event *event)
{
	if (event)
		unref(event);
}

static int host_event_query(struct hr_event *event)
{
	return hr__sequence_reached(&event->completed, atomic_load(&event->recorded));
}

static int host_event_wait(struct hr_event *event)
{
	hr__sequence_wait(&event->completed, atomic_load(&event->recorded));
	return 0;
}

static uint64_t host_event_time_ns(struct hr_event *event) { return atomic_load(&event->time_ns); }

/* ---- streams ---- */

/* The command to fill; commit() puts it on the stream. */
static struct command *begin(struct hr_stream *s)
{
	pthread_mutex_lock(&s->put);
	uint32_t at = hr__sequence_value(&s->written);
	hr__sequence_wait(&s->read, at + 1 - RING_COMMANDS);
	return &s->ring[at % RING_COMMANDS];
}

static void commit(struct hr_stream *s)
{
	hr__sequence_add(&s->written, 1);
	pthread_mutex_unlock(&s->put);
}

static void put_mark(struct hr_stream *s, int kind, struct hr_event *event, uint32_t record)
{
	struct command *c = begin(s);
	c->kind = kind;
	c->mark.event = event;
	c->mark.record = record;
	atomic_fetch_add(&event->refs, 1);
	commit(s);
}

static int host_event_record(struct hr_event *event, struct hr_stream *stream)
{
	put_mark(stream, RECORD, event, atomic_fetch_add(&event->recorded, 1) + 1);
	return 0;
}

static int host_stream_wait(struct hr_stream *stream, struct hr_event *event)
{
	uint32_t record = atomic_load(&event->recorded);
	if (!hr__sequence_reached(&event->completed, record))
		put_mark(stream, WAIT, event, record);
	return 0;
}

static int host_copy(struct hr_stream *stream, void *dst, const void *src, size_t bytes)
{
	struct command *c = begin(stream);
	c->kind = COPY;
	c->copy.dst = dst;
	c->copy.src = src;
	c->copy.bytes = bytes;
	commit(stream);
	return 0;
}

int hr_host_launch(struct hr_stream *stream, hr_host_kernel fn, const void *args, size_t args_bytes,
                   int64_t n_items, int64_t grain)
{
	if (!stream->pool || args_bytes > HR_HOST_ARGS_MAX || n_items < 0 || grain < 1)
		return HR_EINVAL;
	if (!n_items)
		return 0;
	struct command *c = begin(stream);
	c->kind = KERNEL;
	c->kernel.fn = fn;
	c->kernel.n_items = n_items;
	c->kernel.grain = grain;
	memcpy(c->kernel.args, args, args_bytes);
	commit(stream);
	return 0;
}

static void complete(struct hr_event *e, uint32_t record)
{
	atomic_store(&e->time_ns, hr__now_ns());
	hr__sequence_raise(&e->completed, record);
}

static void execute(struct hr_stream *s, struct command *c)
{
	switch (c->kind) {
	case KERNEL:
		hr__pool_run(s->pool, c->kernel.fn, c->kernel.args, c->kernel.n_items, c->kernel.grain);
		break;
	case COPY:
		memcpy(c->copy.dst, c->copy.src, c->copy.bytes);
		break;
	case RECORD:
		complete(c->mark.event, c->mark.record);
		unref(c->mark.event);
		break;
	case WAIT:
		hr__sequence_wait(&c->mark.event->completed, c->mark.record);
		unref(c->mark.event);
		break;
	case STOP:
		break;
	}
}

static void *stream_main(void *arg)
{
	struct hr_stream *s = arg;
	bool              stop = false;
	if (s->pool)
		hr__pool_join(s->pool);
	for (uint32_t at = 0; !stop; at++) {
		hr__sequence_wait(&s->written, at + 1);
		struct command *c = &s->ring[at % RING_COMMANDS];
		stop = c->kind == STOP;
		execute(s, c);
		hr__sequence_add(&s->read, 1);
	}
	return NULL;
}

static void release_stream(struct hr_stream *s)
{
	hr__pool_free(s->pool);
	pthread_mutex_destroy(&s->put);
	free(s);
}

static int host_stream_new(struct hr_device *device, struct hr_stream **out, bool compute,
                           struct hr_error *err)
{
	struct host_device *d = host(device);
	int                 rc = 0;
	struct hr_stream   *s = aligned_alloc(64, sizeof(*s));
	if (!s)
		return hr__fail(err, HR_ENOMEM, "No memory for a stream.");
	memset(s, 0, offsetof(struct hr_stream, ring));
	pthread_mutex_init(&s->put, NULL);
	if (compute)
		rc = hr__pool_new(&s->pool, d->n_threads, d->bind, &d->notices, err);
	if (!rc && hr__host_thread_start(&s->thread, compute ? "hr-compute-0" : "hr-copy", stream_main, s))
		rc = hr__fail(err, HR_ENOMEM, "The thread of a stream could not be started.");
	if (rc)
		release_stream(s);
	else
		*out = s;
	return rc;
}

static void host_stream_free(struct hr_stream *s)
{
	if (!s)
		return;
	begin(s)->kind = STOP;
	commit(s);
	pthread_join(s->thread, NULL);
	release_stream(s);
}

/* ---- the device ---- */

int hr_host_n_threads(const struct hr_device *device)
{
	return ((const struct host_device *)device)->n_threads;
}

static void host_close(struct hr_device *device)
{
	struct host_device *d = host(device);
	while (d->blocks)
		host_free(device, d->blocks->base);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

static const struct hr_device_ops host_ops = {
    .alloc = host_alloc,
    .free = host_free,
    .pin = host_pin,
    .unpin = host_unpin,
    .memory = host_memory,
    .stream_new = host_stream_new,
    .stream_free = host_stream_free,
    .event_new = host_event_new,
    .event_free = host_event_free,
    .event_record = host_event_record,
    .stream_wait = host_stream_wait,
    .event_wait = host_event_wait,
    .event_query = host_event_query,
    .event_time_ns = host_event_time_ns,
    .copy = host_copy,
    .close = host_close,
};

/* "model name : ..." of /proc/cpuinfo, where there is one. */
static void read_cpu_name(char *name, size_t size)
{
	char  line[256], found[128];
	FILE *f = fopen("/proc/cpuinfo", "re");
	snprintf(name, size, "CPU");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "model name : %127[^\n]", found) == 1) {
			snprintf(name, size, "%s", found);
			break;
		}
	}
	if (f)
		fclose(f);
}

int hr_device_host_open(struct hr_device **out, const struct hr_device_host_options *options,
                        struct hr_error *err)
{
	if (options->n_threads < 0 || options->n_threads > MAX_HOST_THREADS)
		return hr__fail(err, HR_EINVAL,
		                "%d compute threads were asked for; give 1 to %d, or 0 for one per core.",
		                options->n_threads, MAX_HOST_THREADS);
	struct host_device *d = calloc(1, sizeof(*d));
	if (!d)
		return hr__fail(err, HR_ENOMEM, "No memory for the CPU device.");
	d->base = (struct hr_device){.ops = &host_ops, .kind = "cpu", .host_addressable = true, .numa_node = -1};
	d->n_threads = options->n_threads ? options->n_threads : hr_topology_n_cores();
	d->bind = options->bind;
	d->budget_bytes = options->budget_bytes;
	d->notices = options->notices;
	pthread_mutex_init(&d->lock, NULL);
	read_cpu_name(d->base.name, sizeof(d->base.name));
	*out = &d->base;
	return 0;
}
