/* The window: the layers of a pass, each handed out when its weights are on the
 * device, whatever their tier. See window.c for the state machine and guards.
 *
 *     hr_window_open()                  budgets become memory
 *     hr_window_load()                  threads start; residents and the host tier are read
 *     for every pass, for every layer, in order:
 *         hr_window_acquire()           may block; the weights' address
 *         ... put kernels on the compute stream ...
 *         hr_window_release()           does not block
 *     hr_window_close()                 drains whatever is in flight
 *
 * The prefetcher runs on the cyclic order and crosses the end of a pass: while
 * the last layers compute, the first streamed ones of the next pass are on
 * their way.
 *
 * Threads: open, load, acquire, release and close on one thread at a time.
 * stats may be called from any thread. */
#ifndef HR_SCHEDULER_WINDOW_H
#define HR_SCHEDULER_WINDOW_H

#include "io/reader.h"
#include "kernels/device/device.h"
#include "scheduler/layer.h"
#include "scheduler/trace.h"

struct hr_window;

struct hr_window_options {
	struct hr_device *device; /* borrowed, as all below, until close */
	struct hr_reader *reader;
	struct hr_stream *compute; /* the stream that reads the weights */
	struct hr_layer  *layers;  /* [n_layers], in the order of a pass */
	enum hr_tier     *tiers;   /* [n_layers] */
	int               n_layers;
	int               slots;       /* >= 1 when anything is streamed (2 to overlap) */
	size_t            chunk_bytes; /* of a read and of a copy; multiple of HR_IO_ALIGN */
	int staging_buffers;           /* >= 1 (2 to overlap), each chunk_bytes; unused when host_addressable */
	struct hr_trace *trace;        /* NULL: no trace */
};

/* Reading progress while loading; called on the loading thread. Return 0 to go on,
 * anything else to stop: hr_window_load() then drains and returns HR_ECANCELED. */
typedef int (*hr_window_progress)(void *user, uint64_t done_bytes, uint64_t total_bytes);

struct hr_window_stats {
	uint64_t disk_bytes; /* read for passes, with what is already read ahead into slots and staging */
	uint64_t link_bytes; /* staging or host tier -> slot */
	uint64_t link_busy_ns;
	uint64_t compute_ns;   /* the layers' own time on the compute stream, acquire to release */
	uint64_t stall_ns;     /* compute stream idle, waiting for weights */
	uint64_t device_bytes; /* held: residents and slots */
	uint64_t host_bytes;   /* held: staging and the host tier */
};

/* HR_EINVAL (a layer off the grid, a chunk of no whole pages, no slot), HR_EDEVMEM, HR_ENOMEM. */
int hr_window_open(struct hr_window **out, const struct hr_window_options *options, struct hr_error *err);

/* Once, before the first acquire. Blocks; the reader's error, HR_EDEVICE,
 * HR_ECANCELED. After a failure the window can only be closed. */
int hr_window_load(struct hr_window *w, hr_window_progress progress, void *user, struct hr_error *err);

/* The weights of `layer`, readable by kernels put on the compute stream from
 * now on until the release. A resident may be acquired at any time, as often as
 * one likes, and need not be released. Streamed layers must be acquired in the
 * order of the pass, all of them (a layer that is not needed is released at
 * once), with at most `slots` held, and released in that order: HR_EINVAL otherwise.
 * Blocks until the weights are there or a failure is known; a failed read
 * reaches the caller here, once, as the reader's own error; HR_ECANCELED from then on. */
int hr_window_acquire(struct hr_window *w, int layer, void **weights, struct hr_error *err);
/* The weights of a resident, without any accounting; they stay where they are from load to close. */
const void *hr_window_resident(const struct hr_window *w, int layer);
/* Kernels put on the compute stream so far are the last to read `layer`. */
void hr_window_release(struct hr_window *w, int layer);

/* Compute and stall times are known only for layers whose kernels have ended;
 * call after waiting for the compute stream for exact figures. */
void hr_window_stats(struct hr_window *w, struct hr_window_stats *out);
void hr_window_close(struct hr_window *w);

#endif
