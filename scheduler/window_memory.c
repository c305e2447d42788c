/* The memory of a window: all of it, device and host, with the events and
 * streams that go with it, is had when the window is opened and kept until it
 * is closed; a pass allocates nothing.
 *
 * Residents lie in one piece of device memory, slots in another; the host tier
 * and the staging buffers in pinned host memory on the device's NUMA node (the host
 * tier is pinned while it is loaded, for that takes long). Where
 * the host can address the device there is neither, and the buffers are only
 * the bookkeeping of reads. */
#include "base/error.h"
#include "base/mem.h"
#include "scheduler/window_internal.h"

#define COMPUTE_RING 256 /* stretches of compute under way before acquire would wait */
#define LINK_RING    64
#define DIRECT_READS 32 /* at least; reads submitted ahead where there is no staging */

int hr__window_out_of_memory(struct hr_error *err)
{
	return hr__fail(err, HR_ENOMEM, "There is no memory for the bookkeeping of the window.");
}

static int open_device_memory(struct hr_window *w, void **out, uint64_t bytes, struct hr_error *err)
{
	w->device_bytes += bytes;
	return bytes ? w->o.device->ops->alloc(w->o.device, out, bytes, err) : 0;
}

static int open_host_memory(struct hr_window *w, struct hr_hostmem *mem, uint64_t bytes, struct hr_error *err)
{
	w->host_bytes += bytes;
	return bytes ? hr_hostmem_init(mem, bytes, w->o.device->numa_node, err) : 0;
}

/* Lay the layers of `tier` out one after the other; returns how far they reach. */
static uint64_t lay_out_homes(struct hr_window *w, enum hr_tier tier, char *base)
{
	uint64_t at = 0;
	for (int i = 0; i < w->o.n_layers; i++) {
		if (w->o.tiers[i] != tier)
			continue;
		w->homes[i] = (struct hr__place){.memory = base ? base + at : NULL,
		                                 .layer = i,
		                                 .ready = w->loaded,
		                                 .state = tier == HR_TIER_HOST ? HR__UNPINNED : HR__EMPTY};
		at += w->o.layers[i].memory_bytes;
	}
	return at;
}

/* Residents and the host tier. */
static int open_homes(struct hr_window *w, struct hr_error *err)
{
	w->homes = hr__calloc((size_t)w->o.n_layers, sizeof *w->homes);
	if (!w->homes)
		return hr__window_out_of_memory(err);
	int rc = open_device_memory(w, &w->residents_memory, lay_out_homes(w, HR_TIER_DEVICE, NULL), err);
	if (rc == 0)
		rc = open_host_memory(w, &w->host_tier, lay_out_homes(w, HR_TIER_HOST, NULL), err);
	if (rc)
		return rc;
	lay_out_homes(w, HR_TIER_DEVICE, w->residents_memory);
	lay_out_homes(w, HR_TIER_HOST, w->host_tier.base);
	for (int i = 0; i < w->o.n_layers; i++) {
		if (w->o.tiers[i] != HR_TIER_DISK) {
			w->homes_left++;
			w->load_bytes += w->o.layers[i].file_bytes;
		}
	}
	return 0;
}

static int open_slots(struct hr_window *w, struct hr_error *err)
{
	struct hr_device *device = w->o.device;
	uint64_t          slot_bytes = 0, smallest = UINT64_MAX;
	for (int i = 0; i < w->n_streamed; i++) {
		uint64_t bytes = w->o.layers[w->streamed[i]].memory_bytes;
		slot_bytes = slot_bytes < bytes ? bytes : slot_bytes;
		smallest = smallest > bytes ? bytes : smallest;
	}
	if (slot_bytes)
		hr_ring_init(&w->ring, w->o.slots, slot_bytes, smallest);
	w->places = hr__calloc((size_t)w->ring.n_places, sizeof *w->places);
	if (!w->places)
		return hr__window_out_of_memory(err);
	uint64_t bytes = slot_bytes * (uint64_t)w->ring.slots;
	int      rc = open_device_memory(w, &w->slots_memory, bytes, err);
	for (int i = 0; i < w->ring.n_places && rc == 0; i++) {
		struct hr__place *place = &w->places[i];
		place->in_slot = true;
		rc = device->ops->event_new(device, &place->released, err);
		if (rc == 0 && w->staged)
			rc = device->ops->event_new(device, &place->ready, err);
	}
	if (rc == 0 && !w->staged && bytes && w->o.reader->ops->register_memory)
		w->o.reader->ops->register_memory(w->o.reader, w->slots_memory, bytes);
	return rc;
}

static int open_buffers(struct hr_window *w, struct hr_error *err)
{
	struct hr_device *device = w->o.device;
	int               rc = 0;
	w->n_buffers = w->o.staging_buffers;
	if (!w->staged)
		w->n_buffers = 4 * w->o.reader->depth > DIRECT_READS ? 4 * w->o.reader->depth : DIRECT_READS;
	w->buffers = hr__calloc((size_t)w->n_buffers, sizeof *w->buffers);
	if (!w->buffers)
		return hr__window_out_of_memory(err);
	if (w->staged)
		rc = open_host_memory(w, &w->staging, (uint64_t)w->n_buffers * w->o.chunk_bytes, err);
	if (rc == 0 && w->staged) {
		rc = device->ops->pin(device, w->staging.base, w->staging.bytes, err);
		w->staging_pinned = rc == 0;
	}
	for (int i = 0; i < w->n_buffers && rc == 0; i++) {
		struct hr__buffer *b = &w->buffers[i];
		b->w = w;
		if (w->staged) {
			b->memory = (char *)w->staging.base + (size_t)i * w->o.chunk_bytes;
			rc = device->ops->event_new(device, &b->copied, err);
		}
	}
	if (rc == 0 && w->staged && w->o.reader->ops->register_memory)
		w->o.reader->ops->register_memory(w->o.reader, w->staging.base,
		                                  (size_t)w->n_buffers * w->o.chunk_bytes);
	return rc;
}

static int open_streams(struct hr_window *w, struct hr_error *err)
{
	struct hr_device *device = w->o.device;
	int               rc = device->ops->event_new(device, &w->fence, err);
	if (rc == 0)
		rc = hr__meter_init(&w->compute_meter, device, w->o.compute, w->o.trace, HR_LANE_COMPUTE,
		                    COMPUTE_RING, err);
	if (rc || !w->staged)
		return rc;
	rc = device->ops->stream_new(device, &w->copy, false, err);
	if (rc == 0)
		rc = device->ops->event_new(device, &w->loaded, err);
	if (rc == 0)
		rc = hr__meter_init(&w->link_meter, device, w->copy, w->o.trace, HR_LANE_LINK, LINK_RING, err);
	return rc;
}

int hr__window_open_memory(struct hr_window *w, struct hr_error *err)
{
	int rc = open_streams(w, err);
	if (rc == 0)
		rc = open_homes(w, err);
	if (rc == 0)
		rc = open_slots(w, err);
	if (rc == 0)
		rc = open_buffers(w, err);
	return rc;
}

static void free_event(struct hr_window *w, struct hr_event *event)
{
	if (event)
		w->o.device->ops->event_free(event);
}

void hr__window_release_memory(struct hr_window *w)
{
	struct hr_device *device = w->o.device;
	hr__meter_release(&w->compute_meter);
	hr__meter_release(&w->link_meter);
	for (int i = 0; w->places && i < w->ring.n_places; i++) {
		free_event(w, w->places[i].released);
		free_event(w, w->places[i].ready);
	}
	for (int i = 0; w->buffers && i < w->n_buffers; i++)
		free_event(w, w->buffers[i].copied);
	free_event(w, w->loaded);
	free_event(w, w->fence);
	if (w->residents_memory)
		device->ops->free(device, w->residents_memory);
	if (w->slots_memory)
		device->ops->free(device, w->slots_memory);
	if (w->staging_pinned)
		device->ops->unpin(device, w->staging.base);
	for (int i = 0; w->homes && i < w->o.n_layers; i++) {
		if (w->o.tiers[i] == HR_TIER_HOST && w->homes[i].memory && w->homes[i].state != HR__UNPINNED)
			device->ops->unpin(device, w->homes[i].memory);
	}
	hr_hostmem_release(&w->staging);
	hr_hostmem_release(&w->host_tier);
	free(w->places);
	free(w->homes);
	free(w->buffers);
}
