/* A reader around a reader that makes a slow disk out of a fast one.
 *
 *     submit -> inner reader -> DUE list -> (its time comes) -> done()
 *
 * Every read is given its place on an imagined disk when it is submitted: it
 * starts when the one before it ends, or now if that is over, and is due
 * length / rate later. So the rate is exact while reads are queued, however late
 * a timer fires, and a pause is not caught up on. The inner reader reads as early
 * as it can; what it has is held back until it is due. What it brings late is
 * delivered at once, and later reads keep their times: the imagined disk was not
 * the slow one.
 *
 * The inner reader's done is ours while a read is inside; failures are not held
 * back, nor is anything during a drain. done() runs on the timer's thread.
 *
 * Invariant: the DUE list is sorted by time due. */
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "io/read_queue.h"

#include <errno.h>
#include <pthread.h>
#include <sys/prctl.h>

struct throttle {
	struct hr_reader     reader; /* first */
	struct hr_reader_ops ops;    /* with the inner reader's name */
	struct hr_reader    *inner;
	uint64_t             bytes_per_second;
	pthread_t            timer;

	pthread_mutex_t        lock;    /* of all that follows; never held around inner's functions or done() */
	pthread_cond_t         changed; /* on CLOCK_MONOTONIC: the list, draining, stopping */
	pthread_cond_t         idle;    /* n_open became 0 */
	struct hr_read        *due;
	uint64_t               n_open;      /* submitted, and `done` has not returned */
	uint64_t               last_due_ns; /* when the imagined disk is free */
	uint64_t               last_end_ns; /* until when busy_ns has been counted */
	int                    n_draining;
	bool                   stopping;
	struct hr_reader_stats stats;
};

static uint64_t duration_ns(const struct throttle *t, uint64_t bytes)
{
	return (uint64_t)((unsigned __int128)bytes * 1000000000u / t->bytes_per_second);
}

/* The inner reader has it: queue it by its time. */
static void inner_done(struct hr_read *read)
{
	struct throttle *t = (struct throttle *)read->throttle;
	struct hr_read **link = &t->due;
	pthread_mutex_lock(&t->lock);
	if (read->status)
		read->due_ns = 0;
	while (*link && (*link)->due_ns <= read->due_ns)
		link = &(*link)->next;
	read->next = *link;
	*link = read;
	if (t->due == read)
		pthread_cond_signal(&t->changed);
	pthread_mutex_unlock(&t->lock);
}

/* Spans and figures as the imagined disk would show them. Busy time is exact when reads
 * are delivered by their time; one overtaken for being late may go uncounted in part. Lock held. */
static void account(struct throttle *t, struct hr_read *read)
{
	t->stats.reads++;
	if (read->status)
		return;
	if (read->end_ns < read->due_ns)
		read->end_ns = read->due_ns;
	read->start_ns = read->due_ns - duration_ns(t, read->length);
	t->stats.bytes += read->length;
	if (read->end_ns > t->last_end_ns) {
		t->stats.busy_ns +=
		    read->end_ns - (read->start_ns > t->last_end_ns ? read->start_ns : t->last_end_ns);
		t->last_end_ns = read->end_ns;
	}
}

static void deliver_first(struct throttle *t)
{
	struct hr_read *read = t->due;
	t->due = read->next;
	account(t, read);
	read->done = read->throttled_done;
	pthread_mutex_unlock(&t->lock);
	read->done(read);
	pthread_mutex_lock(&t->lock);
	if (!--t->n_open)
		pthread_cond_broadcast(&t->idle);
}

static void *timer_thread(void *arg)
{
	struct throttle *t = arg;
	prctl(PR_SET_TIMERSLACK, 1ul); /* ns; the default makes every wait 50 us too long */
	pthread_mutex_lock(&t->lock);
	while (t->due || !t->stopping) {
		if (!t->due) {
			pthread_cond_wait(&t->changed, &t->lock);
		} else if (t->n_draining || t->due->due_ns <= hr__now_ns()) {
			deliver_first(t);
		} else {
			uint64_t        ns = t->due->due_ns;
			struct timespec at = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
			pthread_cond_timedwait(&t->changed, &t->lock, &at);
		}
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

/* A drain must not be kept going by a done() that submits. */
static void cancel(struct hr_read *read)
{
	read->start_ns = read->end_ns = hr__now_ns();
	read->status = hr__fail(&read->error, HR_ECANCELED, "A read was canceled: the reader is being drained.");
	inner_done(read);
}

static void throttle_submit(struct hr_reader *reader, struct hr_read *read)
{
	struct throttle *t = (struct throttle *)reader;
	pthread_mutex_lock(&t->lock);
	bool     draining = t->n_draining;
	uint64_t now = hr__now_ns();
	t->last_due_ns = (now > t->last_due_ns ? now : t->last_due_ns) + duration_ns(t, read->length);
	read->due_ns = t->last_due_ns;
	t->n_open++;
	pthread_mutex_unlock(&t->lock);

	read->throttle = reader;
	read->throttled_done = read->done;
	read->done = inner_done;
	if (draining)
		cancel(read);
	else
		t->inner->ops->submit(t->inner, read);
}

static void throttle_register_memory(struct hr_reader *reader, void *base, size_t bytes)
{
	struct hr_reader *inner = ((struct throttle *)reader)->inner;
	if (inner->ops->register_memory)
		inner->ops->register_memory(inner, base, bytes);
}

static void throttle_drain(struct hr_reader *reader)
{
	struct throttle *t = (struct throttle *)reader;
	pthread_mutex_lock(&t->lock);
	t->n_draining++;
	pthread_cond_signal(&t->changed);
	pthread_mutex_unlock(&t->lock);

	t->inner->ops->drain(t->inner);

	pthread_mutex_lock(&t->lock);
	while (t->n_open)
		pthread_cond_wait(&t->idle, &t->lock);
	t->n_draining--;
	t->last_due_ns = 0;
	pthread_mutex_unlock(&t->lock);
}

static void throttle_stats(struct hr_reader *reader, struct hr_reader_stats *out)
{
	struct throttle *t = (struct throttle *)reader;
	pthread_mutex_lock(&t->lock);
	*out = t->stats;
	pthread_mutex_unlock(&t->lock);
}

static void free_throttle(struct throttle *t)
{
	pthread_cond_destroy(&t->idle);
	pthread_cond_destroy(&t->changed);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

static void throttle_close(struct hr_reader *reader)
{
	struct throttle *t = (struct throttle *)reader;
	throttle_drain(reader);
	pthread_mutex_lock(&t->lock);
	t->stopping = true;
	pthread_cond_signal(&t->changed);
	pthread_mutex_unlock(&t->lock);
	pthread_join(t->timer, NULL);
	t->inner->ops->close(t->inner);
	free_throttle(t);
}

static const struct hr_reader_ops throttle_ops = {
    .name = NULL, /* the inner reader's */
    .submit = throttle_submit,
    .register_memory = throttle_register_memory,
    .drain = throttle_drain,
    .stats = throttle_stats,
    .close = throttle_close,
};

static void init_sync(struct throttle *t)
{
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&t->changed, &attr);
	pthread_condattr_destroy(&attr);
	pthread_cond_init(&t->idle, NULL);
	pthread_mutex_init(&t->lock, NULL);
}

int hr__reader_throttle_open(struct hr_reader **out, struct hr_reader *inner, uint64_t bytes_per_second,
                             struct hr_error *err)
{
	struct throttle *t = hr__calloc(1, sizeof *t);
	int              error = ENOMEM;
	if (t) {
		t->ops = throttle_ops;
		t->ops.name = inner->ops->name;
		t->reader = (struct hr_reader){&t->ops, inner->chunk_bytes, inner->depth};
		t->inner = inner;
		t->bytes_per_second = bytes_per_second;
		init_sync(t);
		error = pthread_create(&t->timer, NULL, timer_thread, t);
		if (error)
			free_throttle(t);
	}
	if (error) {
		inner->ops->close(inner);
		return hr__fail(err, HR_ENOMEM, "The reader cannot start its timer: %s.", strerror(error));
	}
	*out = &t->reader;
	return 0;
}
