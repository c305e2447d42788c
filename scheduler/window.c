/* The window: a ring of slots through which the streamed layers of a model run.
 *
 *     EMPTY -> READING -> STAGED -> COPYING -> READY -> IN_USE -> EMPTY      (and FAILED)
 *
 * That is the road of a layer's weights. EMPTY, READING, READY and IN_USE are
 * states of a place in a slot. Its chunks travel each on its own: a staging buffer is EMPTY, READING,
 * STAGED, COPYING, and then free again. A chunk may be READING or STAGED before its place is READING; it is
 * copied only then.
 * Where the host can address the device there is no staging: chunks land in the
 * place, which is READY with the last one. Layers of the host tier need no
 * reading: their chunks are copied from where they are.
 *
 *     place   EMPTY   -> READING  direct: fetcher, when it comes to the layer (guard 2, direct);
 *                                 staged: copier, when it comes to the layer
 *     buffer  EMPTY   -> READING  fetcher, when it comes to the chunk       (guard 1)
 *     buffer  READING -> STAGED   a thread of the reader: the read is over
 *     buffer  STAGED  -> COPYING  copier: the copy is on the copy stream    (guard 2, staged)
 *     place   READING -> READY    direct: a thread of the reader, the last read is over;
 *                                 staged: copier, the last copy is on the copy stream
 *     place   READY   -> IN_USE   caller, in acquire
 *     place   IN_USE  -> EMPTY    caller, in release
 *     home    UNPINNED -> EMPTY   pinner: the memory is fit for copies      (host tier only)
 *     FAILED  the whole window, by whoever sees the first failure; for good
 *
 * A slot holds one streamed layer, or several small ones, such as the parts of a head:
 * where each use of a streamed layer lies, counted over all passes, is settled in
 * ring.h. The fetcher goes through the uses for ever, so the end of a pass
 * is nothing special to it. With staging it needs no places, only buffers: while the copier waits for a
 * place, or brings layers of the host tier, the drive reads on as far as there is staging.
 *
 * Two resources, two guards. Host and device run apart: a place is EMPTY as soon
 * as its last kernel has been put on the compute stream, and a buffer COPYING
 * as soon as its copy has been put on the copy stream. Neither need have run.
 *   1. A staging buffer is read into only after its `copied` event is complete
 *      as seen by the host.
 *   2. A place is overwritten only after its `released` event. Direct: the
 *      fetcher waits for it on the host before it reads there. Staged:
 *      the copier makes the copy stream wait for it before it copies there.
 * And one the other way round: the compute stream waits for the place's `ready`
 * event before the kernels of the caller.
 *
 * Locks. One mutex guards all states (window_internal.h lists them), one
 * condition variable tells of every change. The mutex is never held during a
 * device call, a submit or a callback. Each meter has a mutex of its own, a
 * leaf; the two kinds never nest. */
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "scheduler/window_internal.h"

#include <stdio.h>

/* ---- Failure --------------------------------------------------------------- */

void hr__window_fail(struct hr_window *w, const struct hr_error *error)
{
	pthread_mutex_lock(&w->mutex);
	if (w->error.code == 0)
		w->error = *error;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->mutex);
}

void hr__window_fail_device(struct hr_window *w, int rc, const char *doing, int layer)
{
	struct hr_error error;
	hr__fail(&error, rc, "Device %s failed while it was %s %s; start the program again.", w->o.device->name,
	         doing, w->o.layers[layer].name);
	hr__window_fail(w, &error);
}

/* Tell the caller of the failure that stopped the window: in full once. */
static int tell_failure(struct hr_window *w, struct hr_error *err)
{
	pthread_mutex_lock(&w->mutex);
	struct hr_error error = w->error;
	pthread_mutex_unlock(&w->mutex);
	bool first = !w->error_told;
	w->error_told = true;
	if (first)
		return hr__fail(err, error.code, "%s", error.message);
	return hr__fail(err, HR_ECANCELED, "No layers are loaded any more since an earlier failure: %.800s",
	                error.message);
}

static bool has_stopped_locked(const struct hr_window *w) { return w->stopping || w->error.code; }

static bool has_failed(struct hr_window *w)
{
	pthread_mutex_lock(&w->mutex);
	bool failed = has_stopped_locked(w);
	pthread_mutex_unlock(&w->mutex);
	return failed;
}

bool hr__window_wait_state(struct hr_window *w, const enum hr__state *state, enum hr__state a,
                           enum hr__state b)
{
	pthread_mutex_lock(&w->mutex);
	while (!has_stopped_locked(w) && *state != a && *state != b)
		pthread_cond_wait(&w->changed, &w->mutex);
	bool reached = !has_stopped_locked(w);
	pthread_mutex_unlock(&w->mutex);
	return reached;
}

void hr__window_place_ready_locked(struct hr_window *w, struct hr__place *place)
{
	place->state = HR__READY;
	w->homes_left -= !place->in_slot;
}

/* ---- Open: budgets become memory ------------------------------------------- */

static int check_options(const struct hr_window_options *o, struct hr_error *err)
{
	bool any_streamed = false;
	for (int i = 0; i < o->n_layers; i++) {
		int rc = hr_layer_check(&o->layers[i], err);
		if (rc)
			return rc;
		if (o->tiers[i] == HR_TIER_HOST && o->device->host_addressable)
			return hr__fail(err, HR_EINVAL,
			                "Layer %s is placed in host memory, which on device %s is device memory.",
			                o->layers[i].name, o->device->name);
		any_streamed |= o->tiers[i] != HR_TIER_DEVICE;
	}
	if (any_streamed && o->slots < 1)
		return hr__fail(err, HR_EINVAL, "Layers are to be streamed, but there is no slot; give at least 1.");
	if (o->chunk_bytes == 0 || o->chunk_bytes % HR_IO_ALIGN)
		return hr__fail(err, HR_EINVAL, "A chunk of %zu bytes is no multiple of %u.", o->chunk_bytes,
		                HR_IO_ALIGN);
	if (!o->device->host_addressable && o->staging_buffers < 1)
		return hr__fail(err, HR_EINVAL, "Device %s needs at least one staging buffer.", o->device->name);
	return 0;
}

static int list_streamed(struct hr_window *w, struct hr_error *err)
{
	w->streamed = hr__calloc((size_t)w->o.n_layers, sizeof *w->streamed);
	if (!w->streamed)
		return hr__window_out_of_memory(err);
	for (int i = 0; i < w->o.n_layers; i++) {
		if (w->o.tiers[i] != HR_TIER_DEVICE)
			w->streamed[w->n_streamed++] = i;
		w->reads |= w->o.tiers[i] == HR_TIER_DISK;
	}
	return 0;
}

int hr_window_open(struct hr_window **out, const struct hr_window_options *options, struct hr_error *err)
{
	int rc = check_options(options, err);
	if (rc)
		return rc;
	struct hr_window *w = hr__calloc(1, sizeof *w);
	if (!w)
		return hr__window_out_of_memory(err);
	w->o = *options;
	w->staged = !options->device->host_addressable;
	pthread_mutex_init(&w->mutex, NULL);
	pthread_cond_init(&w->changed, NULL);
	rc = list_streamed(w, err);
	if (rc == 0)
		rc = hr__window_open_memory(w, err);
	if (rc)
		hr_window_close(w);
	else
		*out = w;
	return rc;
}

/* ---- Load ------------------------------------------------------------------ */

/* Stop all threads; returns when they have ended. */
static void stop_threads(struct hr_window *w)
{
	pthread_mutex_lock(&w->mutex);
	w->stopping = true;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->mutex);
	if (w->fetcher_runs)
		pthread_join(w->fetcher, NULL);
	if (w->copier_runs)
		pthread_join(w->copier, NULL);
	if (w->pinner_runs)
		pthread_join(w->pinner, NULL);
	w->fetcher_runs = w->copier_runs = w->pinner_runs = false;
}

static int start_threads(struct hr_window *w, struct hr_error *err)
{
	w->fetcher_runs = pthread_create(&w->fetcher, NULL, hr__window_fetch, w) == 0;
	if (w->staged)
		w->copier_runs = pthread_create(&w->copier, NULL, hr__window_copy, w) == 0;
	if (w->host_tier.base)
		w->pinner_runs = pthread_create(&w->pinner, NULL, hr__window_pin, w) == 0;
	if (w->fetcher_runs && w->copier_runs == w->staged && w->pinner_runs == (w->host_tier.base != NULL))
		return 0;
	return hr__fail(err, HR_ENOMEM,
	                "The threads that bring the weights could not be started; allow more threads.");
}

/* Wait until every home is loaded or the window has failed, telling of the progress. */
static void wait_loaded(struct hr_window *w, hr_window_progress progress, void *user)
{
	uint64_t        told = UINT64_MAX;
	struct hr_error error = {0};
	pthread_mutex_lock(&w->mutex);
	while (!w->error.code && (w->homes_left || w->loaded_bytes != told)) {
		if (w->loaded_bytes == told) {
			pthread_cond_wait(&w->changed, &w->mutex);
			continue;
		}
		told = w->loaded_bytes;
		pthread_mutex_unlock(&w->mutex);
		if (progress && progress(user, told, w->load_bytes)) {
			hr__fail(&error, HR_ECANCELED, "Loading was stopped by the caller after %llu of %llu bytes.",
			         (unsigned long long)told, (unsigned long long)w->load_bytes);
			hr__window_fail(w, &error);
		}
		pthread_mutex_lock(&w->mutex);
	}
	pthread_mutex_unlock(&w->mutex);
}

int hr_window_load(struct hr_window *w, hr_window_progress progress, void *user, struct hr_error *err)
{
	struct hr_error error;
	int             rc = start_threads(w, &error);
	if (rc == 0) {
		wait_loaded(w, progress, user);
		rc = w->staged ? w->o.device->ops->event_wait(w->loaded) : 0;
		if (rc)
			hr__fail(&error, rc, "Device %s failed while it was receiving the resident layers.",
			         w->o.device->name);
	}
	if (rc)
		hr__window_fail(w, &error);
	if (!has_failed(w))
		return 0;
	stop_threads(w);
	w->o.reader->ops->drain(w->o.reader);
	return tell_failure(w, err);
}

/* ---- Acquire and release --------------------------------------------------- */

/* READY -> IN_USE for the place of the next use, which must be `layer`'s. */
static int take_place(struct hr_window *w, int layer, struct hr__place **out, struct hr_error *err)
{
	int               expected = w->streamed[w->n_acquired % (uint64_t)w->n_streamed];
	struct hr__place *place = &w->places[w->n_acquired % (uint64_t)w->ring.n_places];
	if (layer != expected)
		return hr__fail(err, HR_EINVAL, "Layer %s was acquired out of order; the next streamed layer is %s.",
		                w->o.layers[layer].name, w->o.layers[expected].name);
	int most = w->o.slots < w->ring.n_places ? w->o.slots : w->ring.n_places;
	if (w->n_acquired - w->n_released == (uint64_t)most)
		return hr__fail(
		    err, HR_EINVAL,
		    "Layer %s was acquired while %d are held, as many as there are slots; release one first.",
		    w->o.layers[layer].name, most);

	uint64_t begin_ns = 0;
	pthread_mutex_lock(&w->mutex);
	while (!has_stopped_locked(w) && place->state != HR__READY) {
		begin_ns = begin_ns ? begin_ns : hr__now_ns();
		pthread_cond_wait(&w->changed, &w->mutex);
	}
	bool failed = has_stopped_locked(w);
	if (!failed)
		place->state = HR__IN_USE;
	pthread_mutex_unlock(&w->mutex);
	if (failed)
		return tell_failure(w, err);

	if (begin_ns && w->o.trace) {
		char name[64 + 8];
		snprintf(name, sizeof name, "stall %s", w->o.layers[layer].name);
		hr_trace_span(w->o.trace, HR_LANE_HOST, name, begin_ns, hr__now_ns(), 0);
	}
	w->n_acquired++;
	*out = place;
	return 0;
}

int hr_window_acquire(struct hr_window *w, int layer, void **weights, struct hr_error *err)
{
	const struct hr_layer *l = &w->o.layers[layer];
	uint64_t               asked_ns = hr__now_ns();
	struct hr__place      *place = &w->homes[layer];
	int                    rc = 0;
	if (has_failed(w))
		return tell_failure(w, err);
	if (w->o.tiers[layer] != HR_TIER_DEVICE) {
		rc = take_place(w, layer, &place, err);
		if (rc)
			return rc;
		if (w->staged)
			rc = w->o.device->ops->stream_wait(w->o.compute, place->ready);
	}
	if (rc == 0)
		rc = hr__meter_begin(&w->compute_meter, l->name, place->in_slot ? asked_ns : 0, l->file_bytes);
	if (rc) {
		hr__window_fail_device(w, rc, "waiting for", layer);
		return tell_failure(w, err);
	}
	*weights = place->memory;
	return 0;
}

const void *hr_window_resident(const struct hr_window *w, int layer) { return w->homes[layer].memory; }

/* IN_USE -> EMPTY for the place that is held the longest, which must be `layer`'s. */
static int vacate_place(struct hr_window *w, int layer)
{
	struct hr__place *place = &w->places[w->n_released % (uint64_t)w->ring.n_places];
	if (w->n_released == w->n_acquired || place->layer != layer) {
		struct hr_error error;
		hr__fail(&error, HR_EINVAL, "Layer %s was released out of order.", w->o.layers[layer].name);
		hr__window_fail(w, &error);
		return 0;
	}
	w->n_released++;
	int rc = w->o.device->ops->event_record(place->released, w->o.compute);
	pthread_mutex_lock(&w->mutex);
	if (rc == 0)
		place->state = HR__EMPTY;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->mutex);
	return rc;
}

void hr_window_release(struct hr_window *w, int layer)
{
	int rc = hr__meter_end(&w->compute_meter);
	if (rc == 0 && w->o.tiers[layer] != HR_TIER_DEVICE)
		rc = vacate_place(w, layer);
	if (rc)
		hr__window_fail_device(w, rc, "computing with", layer);
}

void hr_window_stats(struct hr_window *w, struct hr_window_stats *out)
{
	struct hr__meter_totals compute, link;
	hr__meter_read(&w->compute_meter, &compute);
	hr__meter_read(&w->link_meter, &link);
	pthread_mutex_lock(&w->mutex);
	*out = (struct hr_window_stats){
	    .disk_bytes = w->disk_bytes,
	    .link_bytes = link.bytes,
	    .link_busy_ns = link.busy_ns,
	    .compute_ns = compute.busy_ns,
	    .stall_ns = compute.stall_ns,
	    .device_bytes = w->device_bytes,
	    .host_bytes = w->host_bytes,
	};
	pthread_mutex_unlock(&w->mutex);
}

/* ---- Close ----------------------------------------------------------------- */

/* Nothing reads or writes the window's memory any more when this returns: no
 * read, no copy, no kernel. */
static void drain(struct hr_window *w)
{
	const struct hr_device_ops *ops = w->o.device->ops;
	stop_threads(w); /* first: no submits after the drain */
	w->o.reader->ops->drain(w->o.reader);
	pthread_mutex_lock(&w->mutex);
	while (w->reads_in_flight)
		pthread_cond_wait(&w->changed, &w->mutex);
	pthread_mutex_unlock(&w->mutex);
	if (w->fence && ops->event_record(w->fence, w->o.compute) == 0)
		ops->event_wait(w->fence);
	if (w->copy)
		ops->stream_free(w->copy);
}

void hr_window_close(struct hr_window *w)
{
	if (!w)
		return;
	drain(w);
	hr__window_release_memory(w);
	free(w->streamed);
	pthread_cond_destroy(&w->changed);
	pthread_mutex_destroy(&w->mutex);
	free(w);
}
