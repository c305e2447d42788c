/* Names of tiers, and how a layer is cut into the chunks that travel. */
#include "scheduler/layer.h"

#include "base/error.h"
#include "base/mem.h"

const char *hr_tier_name(enum hr_tier tier)
{
	switch (tier) {
	case HR_TIER_DEVICE:
		return "device";
	case HR_TIER_HOST:
		return "host";
	case HR_TIER_DISK:
		return "disk";
	}
	return "unknown";
}

bool hr_layer_next_chunk(const struct hr_layer *layer, struct hr_layer_cursor *at, uint64_t chunk_bytes,
                         struct hr_chunk *out)
{
	while (at->extent < layer->n_extents && at->done == layer->extents[at->extent].length) {
		at->extent++;
		at->done = 0;
	}
	if (at->extent == layer->n_extents)
		return false;

	const struct hr_extent *e = &layer->extents[at->extent];
	uint64_t                begin = e->offset + at->done;
	uint64_t                length = e->length - at->done;
	uint64_t                room = chunk_bytes - begin % HR_IO_ALIGN; /* up to the grid of the file */
	if (length > room)
		length = room;
	*out =
	    (struct hr_chunk){.file = e->file,
	                      .offset = begin,
	                      .length = length,
	                      .memory_offset = e->memory_offset + begin - hr__align_down(e->offset, HR_IO_ALIGN)};
	at->done += length;
	return true;
}

int hr_layer_check(const struct hr_layer *layer, struct hr_error *err)
{
	uint64_t end = 0; /* of the extents so far, in memory */
	for (int i = 0; i < layer->n_extents; i++) {
		const struct hr_extent *e = &layer->extents[i];
		uint64_t                lead = e->offset % HR_IO_ALIGN, top;
		if (e->length == 0 || e->memory_offset % HR_IO_ALIGN || e->memory_offset < end ||
		    !hr__add_u64(e->memory_offset, lead, &top) || !hr__add_u64(top, e->length, &top) ||
		    top > layer->memory_bytes)
			return hr__fail(
			    err, HR_EINVAL,
			    "Extent %d of layer %s (%llu bytes at memory offset %llu) is empty, off the %u-byte "
			    "grid, overlaps its predecessor or leaves the layer's %llu bytes.",
			    i, layer->name, (unsigned long long)e->length, (unsigned long long)e->memory_offset,
			    HR_IO_ALIGN, (unsigned long long)layer->memory_bytes);
		end = hr__align_up(top, HR_IO_ALIGN);
	}
	if (end == 0 || layer->memory_bytes % HR_IO_ALIGN)
		return hr__fail(err, HR_EINVAL,
		                "Layer %s has no bytes, or its %llu bytes of memory are no multiple of %u.",
		                layer->name, (unsigned long long)layer->memory_bytes, HR_IO_ALIGN);
	return 0;
}
