/* What the files of the window share. The states, the threads that move them
 * and the guards are explained at the top of window.c. */
#ifndef HR_SCHEDULER_WINDOW_INTERNAL_H
#define HR_SCHEDULER_WINDOW_INTERNAL_H

#include "io/hostmem.h"
#include "scheduler/meter.h"
#include "scheduler/ring.h"
#include "scheduler/window.h"

#include <pthread.h>

enum hr__state { HR__EMPTY, HR__READING, HR__STAGED, HR__COPYING, HR__READY, HR__IN_USE, HR__UNPINNED };

/* Memory for one layer: a place in a slot, a resident, or a piece of the host tier. */
struct hr__place {
	void            *memory;
	bool             in_slot;
	int              layer;      /* that it holds or is being filled with */
	enum hr__state   state;      /* EMPTY, READING, READY, IN_USE; UNPINNED: host tier, before EMPTY */
	int              reads_left; /* direct: until READY */
	struct hr_event *ready;      /* staged: its last copy */
	struct hr_event *released;   /* in a slot: the last kernel that read it */
	struct hr_event *vacated;    /* in a slot: `released` of the last use that lay there; NULL: none did */
};

/* One chunk on its way, with the staging buffer it goes through (none when the
 * read lands in its place directly). The buffers form a ring: chunk n of all
 * chunks ever read uses buffer n % n_buffers. */
struct hr__buffer {
	struct hr_window *w;
	struct hr__place *place; /* that it is read into; staged: NULL unless that is a home */
	int               layer;
	struct hr_read    read;
	uint64_t          mark;   /* of the read */
	void             *memory; /* [chunk_bytes] */
	struct hr_event  *copied; /* the copy out of it */
	enum hr__state    state;  /* EMPTY, READING, STAGED, COPYING */
};

struct hr_window {
	/* Fixed after open. */
	struct hr_window_options o;
	bool                     staged;   /* the host cannot address the device */
	int                     *streamed; /* [n_streamed] layers that go through slots, in order */
	int                      n_streamed;
	bool                     reads;   /* some of them come from disk */
	struct hr__place        *homes;   /* [n_layers]; only those of residents and of the host tier are used */
	struct hr__place        *places;  /* [ring.n_places] of uses of streamed layers, in slots */
	struct hr__buffer       *buffers; /* [n_buffers] */
	int                      n_buffers;
	void                    *residents_memory, *slots_memory; /* device */
	struct hr_hostmem        staging, host_tier;              /* pinned */
	bool                     staging_pinned;
	struct hr_stream        *copy;   /* staged only */
	struct hr_event         *loaded; /* staged only: the last copy into a resident or the host tier */
	struct hr_event         *fence;  /* close: the last work on the compute stream */
	uint64_t                 device_bytes, host_bytes, load_bytes;

	pthread_t fetcher, copier, pinner;
	bool      fetcher_runs, copier_runs, pinner_runs; /* the caller's thread only */

	uint64_t         n_fetched;     /* chunks; the fetcher's own */
	uint64_t         n_copied;      /* chunks; the copier's own */
	struct hr_ring   ring;          /* where uses lie; who opens places owns it, but for n_places */
	uint64_t         n_acquired;    /* uses of streamed layers; the caller's own */
	uint64_t         n_released;    /* of them; the caller's own */
	bool             error_told;    /* the caller's own */
	struct hr__meter compute_meter; /* the caller's */
	struct hr__meter link_meter;    /* the copier's */

	/* Protects all that follows, the states of places and buffers, and
	 * reads_left. Held for a few instructions only: no device call, no submit
	 * and no callback is made under it. It nests with no other lock. */
	pthread_mutex_t mutex;
	pthread_cond_t  changed; /* anything below or any state */
	bool            stopping;
	struct hr_error error; /* the first failure; code 0: none */
	int             reads_in_flight;
	int             homes_left; /* to be loaded */
	uint64_t        loaded_bytes;
	uint64_t        disk_bytes;
};

/* The first failure is kept, everything stops. */
void hr__window_fail(struct hr_window *w, const struct hr_error *error);
/* A device call returned `rc` while it was busy with `layer`. */
void hr__window_fail_device(struct hr_window *w, int rc, const char *doing, int layer);

/* `place` holds its layer. The mutex is held. */
void hr__window_place_ready_locked(struct hr_window *w, struct hr__place *place);

/* Wait until the state of a place or buffer is one of two; false: the window stopped or failed. */
bool hr__window_wait_state(struct hr_window *w, const enum hr__state *state, enum hr__state a,
                           enum hr__state b);

/* Everything that is allocated. Release takes what a failed open left, and
 * whatever used the memory has ended before it. */
int  hr__window_open_memory(struct hr_window *w, struct hr_error *err);
void hr__window_release_memory(struct hr_window *w);
int  hr__window_out_of_memory(struct hr_error *err);

/* The threads. */
void *hr__window_fetch(void *window);
void *hr__window_copy(void *window);
void *hr__window_pin(void *window);

#endif
