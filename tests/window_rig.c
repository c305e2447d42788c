/* See window_rig.h. */
#include "tests/window_rig.h"

#include "base/error.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

struct rig_check {
	struct rig *rig;
	int         layer;
};

uint32_t rig_random(uint32_t *state, uint32_t below)
{
	*state = *state * 1664525u + 1013904223u;
	return (*state >> 8) % below;
}

/* Extents of odd offsets and lengths, in both files. */
static void make_layer(struct rig *r, struct hr_layer *layer, int index, uint32_t *random)
{
	uint64_t about = index && r->part_bytes ? r->part_bytes : r->layer_bytes;
	snprintf(layer->name, sizeof layer->name, "layer.%d", index);
	layer->n_extents = 1 + (int)rig_random(random, 4);
	layer->extents = hr__calloc((size_t)layer->n_extents, sizeof *layer->extents);
	for (int i = 0; i < layer->n_extents; i++) {
		uint32_t          most = (uint32_t)(2 * about / (uint64_t)layer->n_extents);
		struct hr_extent *e = &layer->extents[i];
		e->file = (r->files ? r->files : r->fake_files) + rig_random(random, 2);
		e->length = 1 + rig_random(random, most);
		e->offset = rig_random(random, RIG_FILE_BYTES - (uint32_t)e->length);
		if (rig_random(random, 4) == 0)
			e->offset = hr__align_down(e->offset, HR_IO_ALIGN);
		e->memory_offset = layer->memory_bytes;
		layer->file_bytes += e->length;
		layer->memory_bytes += hr__align_up(e->offset % HR_IO_ALIGN + e->length, HR_IO_ALIGN);
	}
}

int rig_open(struct rig *r, struct hr_error *err)
{
	uint32_t random = r->seed;
	for (int i = 0; i < 2; i++)
		r->fake_files[i] = (struct hr_file){
		    .path = i ? "fake.1" : "fake.0", .mtime_ns = i + 1, .size_bytes = RIG_FILE_BYTES};
	r->checks = hr__calloc((size_t)r->n_layers, sizeof *r->checks);
	for (int i = 0; i < r->n_layers; i++) {
		make_layer(r, &r->layers[i], i, &random);
		r->checks[i] = (struct rig_check){r, i};
	}
	r->own_device = !r->device;
	r->own_reader = !r->reader;
	if (r->own_device)
		r->device = fake_device_open(&r->device_options);
	if (r->own_reader) {
		r->reader_options.device = r->own_device ? r->device : NULL;
		r->reader = fake_reader_open(&r->reader_options);
		r->reader->chunk_bytes = r->chunk_bytes;
	}
	int rc = r->device->ops->stream_new(r->device, &r->compute, true, err);
	assert_int_equal(rc, 0);
	struct hr_window_options options = {
	    .device = r->device,
	    .reader = r->reader,
	    .compute = r->compute,
	    .layers = r->layers,
	    .tiers = r->tiers,
	    .n_layers = r->n_layers,
	    .slots = r->slots,
	    .chunk_bytes = r->chunk_bytes,
	    .staging_buffers = r->staging_buffers,
	    .trace = r->trace,
	};
	return hr_window_open(&r->window, &options, err);
}

/* The fake file whose content `file` has. */
static const struct hr_file *content_of(const struct rig *r, const struct hr_file *file)
{
	return r->files ? &r->fake_files[file - r->files] : file;
}

/* The compute: every byte of the layer, on the compute stream. */
static void check_layer(void *user, const void *weights)
{
	const struct rig_check *check = user;
	struct rig             *r = check->rig;
	const struct hr_layer  *layer = &r->layers[check->layer];
	for (int i = 0; i < layer->n_extents; i++) {
		const struct hr_extent *e = &layer->extents[i];
		const char             *at = (const char *)weights + e->memory_offset + e->offset % HR_IO_ALIGN;
		if (fake_file_compare(content_of(r, e->file), e->offset, at, e->length))
			atomic_fetch_add(&r->n_wrong, 1);
	}
	atomic_fetch_add(&r->n_checked, 1);
}

struct host_args {
	struct rig_check *check;
	const void       *weights;
};

static void check_on_host(const void *args, int64_t begin, int64_t end)
{
	const struct host_args *a = args;
	(void)begin;
	(void)end;
	check_layer(a->check, a->weights);
}

static void launch(struct rig *r, int layer, void *weights)
{
	if (r->own_device) {
		fake_device_launch(r->compute, weights, r->layers[layer].memory_bytes, r->kernel_us, check_layer,
		                   &r->checks[layer]);
	} else if (r->launch) {
		r->launch(r->compute, check_layer, &r->checks[layer], weights);
	} else {
		struct host_args args = {&r->checks[layer], weights};
		hr_host_launch(r->compute, check_on_host, &args, sizeof args, 1, 1);
	}
}

int rig_pass(struct rig *r, struct hr_error *err)
{
	for (int i = 0; i < r->n_layers; i++) {
		void *weights;
		int   rc = hr_window_acquire(r->window, i, &weights, err);
		if (rc)
			return rc;
		launch(r, i, weights);
		hr_window_release(r->window, i);
	}
	return 0;
}

void rig_wait(struct rig *r)
{
	struct hr_event *event;
	assert_int_equal(r->device->ops->event_new(r->device, &event, NULL), 0);
	r->device->ops->event_record(event, r->compute);
	r->device->ops->event_wait(event);
	r->device->ops->event_free(event);
}

void rig_close(struct rig *r)
{
	hr_window_close(r->window);
	r->device->ops->stream_free(r->compute);
	if (r->own_reader) {
		assert_int_equal(fake_reader_n_misuses(r->reader), 0);
		r->reader->ops->close(r->reader);
	}
	if (r->own_device) {
		assert_string_equal(fake_device_first_violation(r->device), "");
		assert_int_equal(fake_device_live_allocations(r->device), 0);
		r->device->ops->close(r->device);
	}
	assert_int_equal(atomic_load(&r->n_wrong), 0);
	for (int i = 0; i < r->n_layers; i++)
		free(r->layers[i].extents);
	free(r->checks);
}
