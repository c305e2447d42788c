/* What the scheduler knows of a layer: its bytes in files, and how they lie in
 * memory. It does not know what a layer computes.
 *
 * The list of layers is the order of one pass. The transformer blocks come
 * first to last, each as one layer or, where it is large, as several that are used one after the other;
 * a large head (the output projection) follows as several layers of whole rows. So a
 * slot need not be larger than a piece of a block.
 *
 * In memory a layer is its extents one after the other, each on the HR_IO_ALIGN
 * grid and congruent to its file offset, so that a direct read can land there:
 *
 *     memory_offset(byte at file offset x of extent e) =
 *         e.memory_offset + (x - align_down(e.offset, HR_IO_ALIGN))           */
#ifndef HR_SCHEDULER_LAYER_H
#define HR_SCHEDULER_LAYER_H

#include "io/file.h"

enum hr_tier { HR_TIER_DEVICE, HR_TIER_HOST, HR_TIER_DISK };

struct hr_extent {
	const struct hr_file *file;
	uint64_t              offset;        /* in the file, exact */
	uint64_t              length;        /* exact */
	uint64_t              memory_offset; /* multiple of HR_IO_ALIGN */
};

struct hr_layer {
	char              name[64]; /* "model.layers.3", "lm_head.0" */
	struct hr_extent *extents;
	int               n_extents;
	uint64_t          file_bytes;   /* sum of the extents' lengths */
	uint64_t          memory_bytes; /* footprint, multiple of HR_IO_ALIGN */
};

const char *hr_tier_name(enum hr_tier tier); /* "device", "host", "disk" */

/* HR_EINVAL unless the extents lie in memory as said above, in ascending order,
 * none empty, all inside memory_bytes. */
int hr_layer_check(const struct hr_layer *layer, struct hr_error *err);

/* A layer travels in chunks. They are cut on the file's HR_IO_ALIGN grid, so
 * that the aligned supersets of two chunks share no byte and none is larger
 * than chunk_bytes. */
struct hr_chunk {
	const struct hr_file *file;
	uint64_t              offset, length; /* exact */
	uint64_t              memory_offset;  /* of the first byte, in the layer's memory */
};

struct hr_layer_cursor { /* zeroed: the beginning */
	int      extent;
	uint64_t done;
};

/* The chunk at `at`, moving `at` on; false after the last. `chunk_bytes` is a
 * multiple of HR_IO_ALIGN. */
bool hr_layer_next_chunk(const struct hr_layer *layer, struct hr_layer_cursor *at, uint64_t chunk_bytes,
                         struct hr_chunk *out);

#endif
