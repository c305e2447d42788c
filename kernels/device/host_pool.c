/* Compute threads: one kernel at a time is divided among them.
 *
 * Thread 0 publishes a kernel by opening the door (`door` = OPEN) and counting
 * `published` up; helpers that are awake enter (door + 1), take pieces from a
 * shared counter until none is left, and leave (`left` + 1). Thread 0 takes
 * pieces too. When none is left it closes the door, learns from it how many
 * entered, and waits until as many have left: that is the barrier at the end of
 * a kernel. A helper that was asleep, or late, finds the door closed and is not
 * waited for.
 *
 * The job is written only while the door is closed and everybody has left, and
 * read only between entering and leaving. */
#include "kernels/device/host_pool.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/topology.h"
#include "kernels/device/host_sequence.h"

#include <signal.h>
#include <stdio.h>

#define DOOR_OPEN 0x80000000u

struct helper {
	struct hr__pool *pool;
	pthread_t        thread;
	int              index; /* 1 .. n_threads - 1 */
	void            *scratch;
};

struct hr__pool {
	_Alignas(64) _Atomic int64_t next;  /* first item that nobody has taken */
	_Alignas(64) _Atomic uint32_t door; /* DOOR_OPEN | how many entered */
	struct hr__sequence published;
	struct hr__sequence left;
	uint32_t            n_entered; /* in all jobs so far; thread 0 only */
	atomic_bool         stop;

	hr_host_kernel fn; /* the job */
	const void    *args;
	int64_t        n_items;
	int64_t        grain;

	int                   n_threads;
	bool                  bind;
	atomic_flag           bind_failed; /* said once */
	struct hr_notice_sink notices;
	void                 *scratch; /* of thread 0 */
	int                   n_helpers;
	struct helper         helpers[];
};

static _Thread_local void *thread_scratch;

void *hr_host_scratch(void) { return thread_scratch; }

int hr__host_thread_start(pthread_t *out, const char *name, void *(*fn)(void *), void *arg)
{
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = pthread_create(out, NULL, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return HR_ENOMEM;
	pthread_setname_np(*out, name);
	return 0;
}

static void take_pieces(struct hr__pool *p)
{
	for (;;) {
		int64_t begin = atomic_fetch_add_explicit(&p->next, p->grain, memory_order_relaxed);
		if (begin >= p->n_items)
			return;
		int64_t rest = p->n_items - begin;
		p->fn(p->args, begin, begin + (rest < p->grain ? rest : p->grain));
	}
}

static bool enter(struct hr__pool *p)
{
	uint32_t door = atomic_load(&p->door);
	while (door & DOOR_OPEN) {
		if (atomic_compare_exchange_weak(&p->door, &door, door + 1))
			return true;
	}
	return false;
}

static void prepare_thread(struct hr__pool *p, int index, void *scratch)
{
	thread_scratch = scratch;
	if (p->bind && hr_topology_bind_thread_to_core(index) && !atomic_flag_test_and_set(&p->bind_failed))
		hr__notice(&p->notices,
		           "Compute threads could not be bound to cores; the system places them instead.");
}

static void *helper_main(void *arg)
{
	struct helper   *h = arg;
	struct hr__pool *p = h->pool;
	prepare_thread(p, h->index, h->scratch);
	for (uint32_t seen = 0;;) {
		hr__sequence_wait(&p->published, seen + 1);
		seen = hr__sequence_value(&p->published);
		if (atomic_load(&p->stop))
			return NULL;
		if (enter(p)) {
			take_pieces(p);
			hr__sequence_add(&p->left, 1);
		}
	}
}

void hr__pool_join(struct hr__pool *p) { prepare_thread(p, 0, p->scratch); }

void hr__pool_run(struct hr__pool *p, hr_host_kernel fn, const void *args, int64_t n_items, int64_t grain)
{
	p->fn = fn;
	p->args = args;
	p->n_items = n_items;
	p->grain = grain;
	atomic_store_explicit(&p->next, 0, memory_order_relaxed);
	if (n_items <= grain || !p->n_helpers) {
		take_pieces(p);
		return;
	}
	atomic_store(&p->door, DOOR_OPEN);
	hr__sequence_add(&p->published, 1);
	take_pieces(p);
	p->n_entered += atomic_exchange(&p->door, 0) & ~DOOR_OPEN;
	hr__sequence_wait(&p->left, p->n_entered);
}

int hr__pool_new(struct hr__pool **out, int n_threads, bool bind, const struct hr_notice_sink *notices,
                 struct hr_error *err)
{
	int              rc = 0;
	size_t           bytes = sizeof(struct hr__pool) + (size_t)n_threads * sizeof(struct helper);
	struct hr__pool *p = aligned_alloc(64, hr__align_up(bytes, 64));
	if (!p)
		return hr__fail(err, HR_ENOMEM, "No memory for %d compute threads.", n_threads);
	memset(p, 0, bytes);
	p->n_threads = n_threads;
	p->bind = bind;
	p->notices = *notices;
	atomic_flag_clear(&p->bind_failed);
	p->scratch = aligned_alloc(64, HR_HOST_SCRATCH_BYTES);
	if (!p->scratch) {
		rc = hr__fail(err, HR_ENOMEM, "No memory for the scratch space of a compute thread.");
		goto done;
	}
	for (int i = 1; i < n_threads; i++) {
		struct helper *h = &p->helpers[p->n_helpers];
		char           name[16];
		snprintf(name, sizeof(name), "hr-compute-%d", i % 1000);
		*h = (struct helper){.pool = p, .index = i, .scratch = aligned_alloc(64, HR_HOST_SCRATCH_BYTES)};
		if (!h->scratch || hr__host_thread_start(&h->thread, name, helper_main, h)) {
			free(h->scratch);
			rc = hr__fail(err, HR_ENOMEM,
			              "Compute thread %d of %d could not be started; ask for fewer threads.", i + 1,
			              n_threads);
			goto done;
		}
		p->n_helpers++;
	}
	*out = p;
done:
	if (rc)
		hr__pool_free(p);
	return rc;
}

void hr__pool_free(struct hr__pool *p)
{
	if (!p)
		return;
	atomic_store(&p->stop, true);
	hr__sequence_add(&p->published, 1);
	for (int i = 0; i < p->n_helpers; i++) {
		pthread_join(p->helpers[i].thread, NULL);
		free(p->helpers[i].scratch);
	}
	free(p->scratch);
	free(p);
}
