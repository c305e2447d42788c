/* The threads that fill places: the fetcher, which reads, the copier, which moves
 * what was read on to the device, and while loading the pinner, which is ahead of
 * both where there is a host tier. See window.c for the whole.
 *
 * Fetcher and copier walk the same endless list: first the homes to be loaded, then the
 * streamed layers in cyclic order, and within a layer its chunks. Because they
 * agree on that list, a count of chunks is all they need to meet at the same
 * buffer, and nothing is queued between them. */
#include "scheduler/window_internal.h"

#include "base/error.h"
#include "base/mem.h"

/* ---- Walking the list ------------------------------------------------------ */

typedef bool (*fill_fn)(struct hr_window *w, struct hr__place *place, int layer);

static void walk(struct hr_window *w, fill_fn fill)
{
	for (int i = 0; i < w->o.n_layers; i++) {
		if (w->o.tiers[i] != HR_TIER_DISK && !fill(w, &w->homes[i], i))
			return;
	}
	for (uint64_t use = 0; w->n_streamed; use++) {
		struct hr__place *place = &w->places[use % (uint64_t)w->ring.n_places];
		if (!fill(w, place, w->streamed[use % (uint64_t)w->n_streamed]))
			return;
	}
}

/* ---- Fetcher --------------------------------------------------------------- */

static int count_chunks(const struct hr_window *w, const struct hr_layer *layer)
{
	struct hr_layer_cursor at = {0};
	struct hr_chunk        chunk;
	int                    n = 0;
	while (hr_layer_next_chunk(layer, &at, w->o.chunk_bytes, &chunk))
		n++;
	return n;
}

/* A read is over; on a thread of the reader. */
static void read_done(struct hr_read *read)
{
	struct hr__buffer *b = read->user;
	struct hr_window  *w = b->w;
	struct hr__place  *place = b->place;
	hr_device_mark_end(w->o.device, b->mark);
	if (read->status == 0)
		hr_trace_span(w->o.trace, HR_LANE_DISK, w->o.layers[b->layer].name, read->start_ns, read->end_ns,
		              read->length);

	pthread_mutex_lock(&w->mutex);
	w->reads_in_flight--;
	if (read->status) {
		if (w->error.code == 0 && !w->stopping)
			w->error = read->error;
	} else {
		*(place && !place->in_slot ? &w->loaded_bytes : &w->disk_bytes) += read->length;
		b->state = w->staged ? HR__STAGED : HR__EMPTY;
		if (!w->staged && --place->reads_left == 0)
			hr__window_place_ready_locked(w, place);
	}
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->mutex); /* the window may be gone after this */
}

/* Lay the next use of a streamed layer into a slot, once the host has released all that lies there. */
static bool lay_in_slot(struct hr_window *w, struct hr__place *place, int layer)
{
	uint64_t         n_over = w->ring.n_over;
	char            *memory = w->slots_memory;
	struct hr_event *vacated = NULL;
	memory += hr_ring_place(&w->ring, w->o.layers[layer].memory_bytes);
	if (w->ring.n_over > n_over) {
		struct hr__place *last = &w->places[(w->ring.n_over - 1) % (uint64_t)w->ring.n_places];
		if (!hr__window_wait_state(w, &last->state, HR__EMPTY, HR__EMPTY))
			return false;
		vacated = last->released;
	}
	if (vacated && !w->staged) {
		/* Guard 2, direct: the kernels that read what lay there have ended. */
		int rc = w->o.device->ops->event_wait(vacated);
		if (rc) {
			hr__window_fail_device(w, rc, "computing with the layer before", layer);
			return false;
		}
	}
	place->memory = memory;
	place->vacated = vacated;
	return true;
}

/* EMPTY -> READING, once nothing reads the old bytes any more: by the fetcher, or of a place in a slot with
 * staging by the copier. */
static bool open_place(struct hr_window *w, struct hr__place *place, int layer)
{
	if (!(place->in_slot ? lay_in_slot(w, place, layer)
	                     : hr__window_wait_state(w, &place->state, HR__EMPTY, HR__EMPTY)))
		return false;
	int n_chunks = count_chunks(w, &w->o.layers[layer]);
	pthread_mutex_lock(&w->mutex);
	place->layer = layer;
	place->state = HR__READING;
	place->reads_left = n_chunks;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->mutex);
	return true;
}

/* The next buffer of the ring, READING, once nothing is copied out of it any more. */
static struct hr__buffer *open_buffer(struct hr_window *w, int layer)
{
	struct hr__buffer *b = &w->buffers[w->n_fetched++ % (uint64_t)w->n_buffers];
	if (!hr__window_wait_state(w, &b->state, HR__EMPTY, HR__COPYING))
		return NULL;
	if (w->staged) {
		/* Guard 1: the copy out of the buffer is complete. */
		int rc = w->o.device->ops->event_wait(b->copied);
		if (rc) {
			bool used = w->n_fetched > (uint64_t)w->n_buffers;
			hr__window_fail_device(w, rc, "receiving", used ? b->layer : layer);
			return NULL;
		}
	}
	pthread_mutex_lock(&w->mutex);
	bool go_on = !w->stopping && w->error.code == 0;
	if (go_on) {
		b->state = HR__READING;
		w->reads_in_flight++;
	}
	pthread_mutex_unlock(&w->mutex);
	return go_on ? b : NULL;
}

static bool fetch(struct hr_window *w, struct hr__place *place, int layer)
{
	if (place->in_slot && w->o.tiers[layer] == HR_TIER_HOST)
		return w->reads; /* nothing to read: the copier takes it out of its home */
	if (place->in_slot && w->staged)
		place = NULL; /* the copier's to open, when it has come so far */
	else if (!open_place(w, place, layer))
		return false;

	struct hr_layer_cursor at = {0};
	struct hr_chunk        chunk;
	while (hr_layer_next_chunk(&w->o.layers[layer], &at, w->o.chunk_bytes, &chunk)) {
		struct hr__buffer *b = open_buffer(w, layer);
		if (!b)
			return false;
		char *dst = w->staged ? (char *)b->memory + chunk.offset % HR_IO_ALIGN
		                      : (char *)place->memory + chunk.memory_offset;
		b->place = place;
		b->layer = layer;
		b->mark =
		    hr_device_mark_begin(w->o.device, hr_trace_lane_name(HR_LANE_DISK), w->o.layers[layer].name);
		b->read = (struct hr_read){.file = chunk.file,
		                           .offset = chunk.offset,
		                           .length = chunk.length,
		                           .dst = dst,
		                           .done = read_done,
		                           .user = b};
		w->o.reader->ops->submit(w->o.reader, &b->read);
	}
	return true;
}

void *hr__window_fetch(void *window)
{
	pthread_setname_np(pthread_self(), "hr-fetch");
	walk(window, fetch);
	return NULL;
}

/* ---- Pinner ---------------------------------------------------------------- */

/* UNPINNED -> EMPTY for every home of the host tier. A system pins a few GB a
 * second, so this goes on while the first ones are already being read. */
void *hr__window_pin(void *window)
{
	struct hr_window *w = window;
	struct hr_device *device = w->o.device;
	pthread_setname_np(pthread_self(), "hr-pin");
	for (int i = 0; i < w->o.n_layers; i++) {
		struct hr__place *home = &w->homes[i];
		struct hr_error   error;
		if (w->o.tiers[i] != HR_TIER_HOST)
			continue;
		if (!hr__window_wait_state(w, &home->state, HR__UNPINNED, HR__UNPINNED))
			break;
		if (device->ops->pin(device, home->memory, (size_t)w->o.layers[i].memory_bytes, &error)) {
			hr__window_fail(w, &error);
			break;
		}
		pthread_mutex_lock(&w->mutex);
		home->state = HR__EMPTY;
		pthread_cond_broadcast(&w->changed);
		pthread_mutex_unlock(&w->mutex);
	}
	return NULL;
}

/* ---- Copier ---------------------------------------------------------------- */

/* Put a copy on the copy stream, timed when it is part of a pass. */
static int put_copy(struct hr_window *w, struct hr__place *place, int layer, uint64_t memory_offset,
                    const void *src, uint64_t bytes)
{
	const struct hr_device_ops *ops = w->o.device->ops;
	int                         rc = 0;
	if (place->in_slot)
		rc = hr__meter_begin(&w->link_meter, w->o.layers[layer].name, 0, bytes);
	if (rc == 0)
		rc = ops->copy(w->copy, (char *)place->memory + memory_offset, src, bytes);
	if (rc == 0 && place->in_slot)
		rc = hr__meter_end(&w->link_meter);
	return rc;
}

/* The next chunk, out of its staging buffer: STAGED -> COPYING. */
static int copy_staged_chunk(struct hr_window *w, struct hr__place *place, int layer,
                             const struct hr_chunk *chunk)
{
	struct hr__buffer *b = &w->buffers[w->n_copied++ % (uint64_t)w->n_buffers];
	if (!hr__window_wait_state(w, &b->state, HR__STAGED, HR__STAGED))
		return HR_ECANCELED;
	int rc = put_copy(w, place, layer, chunk->memory_offset, b->read.dst, chunk->length);
	if (rc == 0)
		rc = w->o.device->ops->event_record(b->copied, w->copy);
	if (rc)
		return rc;
	pthread_mutex_lock(&w->mutex);
	b->state = HR__COPYING;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->mutex);
	return 0;
}

static int copy_layer(struct hr_window *w, struct hr__place *place, int layer)
{
	const struct hr_device_ops *ops = w->o.device->ops;
	bool                        from_host = place->in_slot && w->o.tiers[layer] == HR_TIER_HOST;
	struct hr_layer_cursor      at = {0};
	struct hr_chunk             chunk;
	if (!(place->in_slot ? open_place(w, place, layer)
	                     : hr__window_wait_state(w, &place->state, HR__READING, HR__READING)))
		return HR_ECANCELED;
	/* Guard 2, staged: copies run only after the kernels that read what lay there. */
	int rc = place->vacated ? ops->stream_wait(w->copy, place->vacated) : 0;
	while (rc == 0 && hr_layer_next_chunk(&w->o.layers[layer], &at, w->o.chunk_bytes, &chunk)) {
		if (from_host)
			rc = put_copy(w, place, layer, chunk.memory_offset,
			              (char *)w->homes[layer].memory + chunk.memory_offset, chunk.length);
		else
			rc = copy_staged_chunk(w, place, layer, &chunk);
	}
	return rc ? rc : ops->event_record(place->ready, w->copy);
}

static bool copy(struct hr_window *w, struct hr__place *place, int layer)
{
	int rc = copy_layer(w, place, layer);
	if (rc) {
		if (rc != HR_ECANCELED)
			hr__window_fail_device(w, rc, "receiving", layer);
		return false;
	}
	pthread_mutex_lock(&w->mutex);
	hr__window_place_ready_locked(w, place);
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->mutex);
	return true;
}

void *hr__window_copy(void *window)
{
	pthread_setname_np(pthread_self(), "hr-copy");
	walk(window, copy);
	return NULL;
}
