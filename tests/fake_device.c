/* See fake_device.h. One mutex for the whole device: a fake can afford it, and
 * it makes the order of things plain. Data moves outside of it. */
#include "tests/fake_device.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

enum op_kind { OP_COPY, OP_RECORD, OP_WAIT, OP_KERNEL };

struct hr_event {
	struct hr_device *device;
	uint64_t          recorded, completed; /* counts of records */
	uint64_t          time_ns;
};

struct op {
	enum op_kind     kind;
	void            *dst;
	const void      *src;
	size_t           bytes;
	struct hr_event *event;
	uint64_t         record; /* RECORD, WAIT: which record of the event */
	int              delay_us;
	void (*check)(void *user, const void *weights);
	void *user;
};

#define MAX_OPS 4096
struct hr_stream {
	struct hr_device *device;
	struct hr_stream *next;
	pthread_t         thread;
	struct op         ops[MAX_OPS]; /* ring */
	uint64_t          n_put, n_done;
	bool              closing;
};

struct block {
	char  *base;
	size_t bytes;
	bool   is_pin;
};

#define MAX_BLOCKS 64
struct fake_device {
	struct hr_device           device;
	struct fake_device_options o;
	pthread_mutex_t            mutex;
	pthread_cond_t             changed;
	struct hr_stream          *streams;
	struct block               blocks[MAX_BLOCKS];
	uint64_t                   allocated, live;
	int                        n_copies, n_violations;
	bool                       failed;
	char                       violation[200];
	uint32_t                   random;
};

static struct fake_device *fake_of(struct hr_device *device) { return (struct fake_device *)device; }

static bool overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes)
{
	return (const char *)a < (const char *)b + b_bytes && (const char *)b < (const char *)a + a_bytes;
}

static void violate(struct fake_device *d, const char *what)
{
	if (d->n_violations++ == 0)
		snprintf(d->violation, sizeof d->violation, "%s", what);
}

static uint32_t random_next(struct fake_device *d)
{
	return (d->random = d->random * 1664525u + 1013904223u) >> 8;
}

/* Who reads here right now: copies that were put and are not over, the kernel
 * that runs. What is on the writer's `own` stream is ordered and left out. */
static void check_write_locked(struct fake_device *d, const void *base, size_t bytes,
                               const struct hr_stream *own)
{
	for (struct hr_stream *s = d->streams; s; s = s->next) {
		for (uint64_t i = s->n_done; i < s->n_put; i++) {
			const struct op *op = &s->ops[i % MAX_OPS];
			if (s == own || !overlap(op->src, op->bytes, base, bytes))
				continue;
			if (op->kind == OP_COPY)
				violate(d, "memory was overwritten before the copy out of it was complete");
			if (op->kind == OP_KERNEL && i == s->n_done)
				violate(d, "memory was overwritten while a kernel read it");
		}
	}
}

void fake_device_check_write(struct hr_device *device, const void *base, size_t bytes)
{
	struct fake_device *d = fake_of(device);
	pthread_mutex_lock(&d->mutex);
	check_write_locked(d, base, bytes, NULL);
	pthread_mutex_unlock(&d->mutex);
}

static bool is_known_locked(struct fake_device *d, const void *base, size_t bytes)
{
	for (int i = 0; i < MAX_BLOCKS; i++) {
		const struct block *b = &d->blocks[i];
		if (b->base && (const char *)base >= b->base && (const char *)base + bytes <= b->base + b->bytes)
			return true;
	}
	return false;
}

/* ---- Streams --------------------------------------------------------------- */

static void run_copy(struct hr_stream *s, struct op *op)
{
	struct fake_device *d = fake_of(s->device);
	pthread_mutex_lock(&d->mutex);
	check_write_locked(d, op->dst, op->bytes, s);
	if (!is_known_locked(d, op->dst, op->bytes) || !is_known_locked(d, op->src, op->bytes))
		violate(d, "a copy touched memory that is neither the device's nor pinned");
	int  delay = d->o.copy_delay_us;
	bool fails = d->o.fail_copy && ++d->n_copies == d->o.fail_copy;
	delay = delay ? delay / 2 + (int)(random_next(d) % (uint32_t)(delay / 2 + 1)) : 0;
	if (fails) {
		d->failed = true;
		pthread_cond_broadcast(&d->changed);
	}
	pthread_mutex_unlock(&d->mutex);
	if (fails)
		return;
	memset(op->dst, 0xEE, op->bytes);
	if (delay)
		usleep((useconds_t)delay);
	memcpy(op->dst, op->src, op->bytes);
}

static void run_kernel(struct op *op)
{
	op->check(op->user, op->src);
	if (op->delay_us)
		usleep((useconds_t)op->delay_us);
	op->check(op->user, op->src);
}

static void *run_stream(void *arg)
{
	struct hr_stream   *s = arg;
	struct fake_device *d = fake_of(s->device);
	pthread_mutex_lock(&d->mutex);
	for (;;) {
		while (s->n_done == s->n_put && !s->closing)
			pthread_cond_wait(&d->changed, &d->mutex);
		if (s->n_done == s->n_put)
			break;
		struct op *op = &s->ops[s->n_done % MAX_OPS];
		if (op->kind == OP_RECORD && !d->failed) {
			op->event->completed = op->record;
			op->event->time_ns = hr__now_ns();
		}
		/* A failed device's waits are over, and its events may be gone. */
		while (op->kind == OP_WAIT && !d->failed && op->event->completed < op->record)
			pthread_cond_wait(&d->changed, &d->mutex);
		bool failed = d->failed;
		pthread_mutex_unlock(&d->mutex);
		if (op->kind == OP_COPY && !failed)
			run_copy(s, op);
		if (op->kind == OP_KERNEL && !failed)
			run_kernel(op);
		pthread_mutex_lock(&d->mutex);
		s->n_done++;
		pthread_cond_broadcast(&d->changed);
	}
	pthread_mutex_unlock(&d->mutex);
	return NULL;
}

static int put(struct hr_stream *s, struct op op)
{
	struct fake_device *d = fake_of(s->device);
	pthread_mutex_lock(&d->mutex);
	while (s->n_put - s->n_done == MAX_OPS && !d->failed)
		pthread_cond_wait(&d->changed, &d->mutex);
	int rc = d->failed ? HR_EDEVICE : 0;
	if (rc == 0) {
		if (op.kind == OP_RECORD)
			op.event->recorded++;
		if (op.event)
			op.record = op.event->recorded;
		s->ops[s->n_put++ % MAX_OPS] = op;
		pthread_cond_broadcast(&d->changed);
	}
	pthread_mutex_unlock(&d->mutex);
	return rc;
}

static int stream_new(struct hr_device *device, struct hr_stream **out, bool compute, struct hr_error *err)
{
	(void)compute;
	struct fake_device *d = fake_of(device);
	struct hr_stream   *s = calloc(1, sizeof *s);
	if (!s)
		return hr__fail(err, HR_ENOMEM, "No memory for a stream.");
	s->device = device;
	pthread_mutex_lock(&d->mutex);
	s->next = d->streams;
	d->streams = s;
	d->live++;
	pthread_mutex_unlock(&d->mutex);
	pthread_create(&s->thread, NULL, run_stream, s);
	*out = s;
	return 0;
}

static void stream_free(struct hr_stream *s)
{
	struct fake_device *d = fake_of(s->device);
	pthread_mutex_lock(&d->mutex);
	s->closing = true;
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->mutex);
	pthread_join(s->thread, NULL);
	pthread_mutex_lock(&d->mutex);
	for (struct hr_stream **p = &d->streams; *p; p = &(*p)->next) {
		if (*p == s) {
			*p = s->next;
			break;
		}
	}
	d->live--;
	pthread_mutex_unlock(&d->mutex);
	free(s);
}

static int copy(struct hr_stream *stream, void *dst, const void *src, size_t bytes)
{
	return put(stream, (struct op){.kind = OP_COPY, .dst = dst, .src = src, .bytes = bytes});
}

int fake_device_launch(struct hr_stream *stream, const void *weights, size_t bytes, int delay_us,
                       void (*check)(void *user, const void *weights), void *user)
{
	return put(stream, (struct op){.kind = OP_KERNEL,
	                               .src = weights,
	                               .bytes = bytes,
	                               .delay_us = delay_us,
	                               .check = check,
	                               .user = user});
}

/* ---- Events ---------------------------------------------------------------- */

static int event_new(struct hr_device *device, struct hr_event **out, struct hr_error *err)
{
	struct fake_device *d = fake_of(device);
	struct hr_event    *e = calloc(1, sizeof *e);
	if (!e)
		return hr__fail(err, HR_ENOMEM, "No memory for an event.");
	e->device = device;
	pthread_mutex_lock(&d->mutex);
	d->live++;
	pthread_mutex_unlock(&d->mutex);
	*out = e;
	return 0;
}

static void event_free(struct hr_event *e)
{
	struct fake_device *d = fake_of(e->device);
	pthread_mutex_lock(&d->mutex);
	d->live--;
	pthread_mutex_unlock(&d->mutex);
	free(e);
}

static int event_record(struct hr_event *event, struct hr_stream *stream)
{
	return put(stream, (struct op){.kind = OP_RECORD, .event = event});
}

static int stream_wait(struct hr_stream *stream, struct hr_event *event)
{
	return put(stream, (struct op){.kind = OP_WAIT, .event = event});
}

static int event_wait(struct hr_event *e)
{
	struct fake_device *d = fake_of(e->device);
	pthread_mutex_lock(&d->mutex);
	uint64_t record = e->recorded;
	while (e->completed < record && !d->failed)
		pthread_cond_wait(&d->changed, &d->mutex);
	int rc = d->failed ? HR_EDEVICE : 0;
	pthread_mutex_unlock(&d->mutex);
	return rc;
}

static int event_query(struct hr_event *e)
{
	struct fake_device *d = fake_of(e->device);
	pthread_mutex_lock(&d->mutex);
	int rc = d->failed ? HR_EDEVICE : e->completed == e->recorded;
	pthread_mutex_unlock(&d->mutex);
	return rc;
}

static uint64_t event_time_ns(struct hr_event *e)
{
	struct fake_device *d = fake_of(e->device);
	pthread_mutex_lock(&d->mutex);
	uint64_t t = e->time_ns;
	pthread_mutex_unlock(&d->mutex);
	return t;
}

/* ---- Memory ---------------------------------------------------------------- */

static int add_block_locked(struct fake_device *d, void *base, size_t bytes, bool is_pin)
{
	for (int i = 0; i < MAX_BLOCKS; i++) {
		if (!d->blocks[i].base) {
			d->blocks[i] = (struct block){base, bytes, is_pin};
			d->live++;
			return 0;
		}
	}
	return HR_ENOMEM;
}

static bool is_idle_locked(const struct fake_device *d)
{
	for (const struct hr_stream *s = d->streams; s; s = s->next)
		if (s->n_done != s->n_put)
			return false;
	return true;
}

/* Forget the block at `base`; its size. Nobody can wait for the work of a device that
 * failed, so that giving memory back does: what had begun ends first. */
static size_t drop_block_locked(struct fake_device *d, void *base, bool is_pin)
{
	while (d->failed && !is_idle_locked(d))
		pthread_cond_wait(&d->changed, &d->mutex);
	for (int i = 0; i < MAX_BLOCKS; i++) {
		struct block *b = &d->blocks[i];
		if (b->base != base || b->is_pin != is_pin)
			continue;
		for (struct hr_stream *s = d->streams; s; s = s->next) {
			for (uint64_t k = s->n_done; k < s->n_put; k++) {
				const struct op *op = &s->ops[k % MAX_OPS];
				if (overlap(op->src, op->bytes, b->base, b->bytes) ||
				    overlap(op->dst, op->bytes, b->base, b->bytes))
					violate(d, "memory was freed or unpinned while work under way uses it");
			}
		}
		size_t bytes = b->bytes;
		*b = (struct block){0};
		d->live--;
		return bytes;
	}
	violate(d, "memory was freed or unpinned that was not allocated or pinned");
	return 0;
}

static int alloc(struct hr_device *device, void **out, size_t bytes, struct hr_error *err)
{
	struct fake_device *d = fake_of(device);
	void               *base = NULL;
	pthread_mutex_lock(&d->mutex);
	bool fits = !d->o.budget_bytes || d->allocated + bytes <= d->o.budget_bytes;
	if (fits && posix_memalign(&base, 4096, bytes) == 0 && add_block_locked(d, base, bytes, false) == 0)
		d->allocated += bytes;
	else
		fits = false;
	pthread_mutex_unlock(&d->mutex);
	if (!fits)
		return hr__fail(err, HR_EDEVMEM, "The fake device has no %zu bytes.", bytes);
	memset(base, 0xA5, bytes);
	*out = base;
	return 0;
}

static void free_memory(struct hr_device *device, void *memory)
{
	struct fake_device *d = fake_of(device);
	pthread_mutex_lock(&d->mutex);
	size_t bytes = drop_block_locked(d, memory, false);
	d->allocated -= bytes;
	pthread_mutex_unlock(&d->mutex);
	memset(memory, 0xDD, bytes);
	free(memory);
}

static int pin(struct hr_device *device, void *base, size_t bytes, struct hr_error *err)
{
	struct fake_device *d = fake_of(device);
	pthread_mutex_lock(&d->mutex);
	int rc = add_block_locked(d, base, bytes, true);
	pthread_mutex_unlock(&d->mutex);
	return rc ? hr__fail(err, rc, "The fake device can pin no more.") : 0;
}

static void unpin(struct hr_device *device, void *base)
{
	struct fake_device *d = fake_of(device);
	pthread_mutex_lock(&d->mutex);
	drop_block_locked(d, base, true);
	pthread_mutex_unlock(&d->mutex);
}

static int memory(struct hr_device *device, struct hr_device_memory *out)
{
	struct fake_device *d = fake_of(device);
	*out = (struct hr_device_memory){.allocated_bytes = d->allocated};
	return 0;
}

static void close_device(struct hr_device *device)
{
	struct fake_device *d = fake_of(device);
	pthread_cond_destroy(&d->changed);
	pthread_mutex_destroy(&d->mutex);
	free(d);
}

int fake_device_violations(struct hr_device *device)
{
	struct fake_device *d = fake_of(device);
	pthread_mutex_lock(&d->mutex);
	int n = d->n_violations;
	pthread_mutex_unlock(&d->mutex);
	return n;
}

const char *fake_device_first_violation(struct hr_device *device) { return fake_of(device)->violation; }

uint64_t fake_device_live_allocations(struct hr_device *device)
{
	struct fake_device *d = fake_of(device);
	pthread_mutex_lock(&d->mutex);
	uint64_t n = d->live;
	pthread_mutex_unlock(&d->mutex);
	return n;
}

struct hr_device *fake_device_open(const struct fake_device_options *options)
{
	static const struct hr_device_ops ops = {
	    .alloc = alloc,
	    .free = free_memory,
	    .pin = pin,
	    .unpin = unpin,
	    .memory = memory,
	    .stream_new = stream_new,
	    .stream_free = stream_free,
	    .event_new = event_new,
	    .event_free = event_free,
	    .event_record = event_record,
	    .stream_wait = stream_wait,
	    .event_wait = event_wait,
	    .event_query = event_query,
	    .event_time_ns = event_time_ns,
	    .copy = copy,
	    .close = close_device,
	};
	struct fake_device *d = calloc(1, sizeof *d);
	if (!d)
		abort();
	d->device.ops = &ops;
	d->device.kind = "fake";
	snprintf(d->device.name, sizeof d->device.name, "fake");
	d->device.host_addressable = options->host_addressable;
	d->device.numa_node = -1;
	d->o = *options;
	d->random = options->seed;
	pthread_mutex_init(&d->mutex, NULL);
	pthread_cond_init(&d->changed, NULL);
	return &d->device;
}
