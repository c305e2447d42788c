/* A made-up model, a window over it, and passes that check every byte: what the
 * tests of the window share. Works with the fake device and reader and with real ones. */
#ifndef HR_TESTS_WINDOW_RIG_H
#define HR_TESTS_WINDOW_RIG_H

#include "scheduler/window.h"
#include "tests/fake_device.h"
#include "tests/fake_reader.h"

#include <stdatomic.h>

#define RIG_MAX_LAYERS 24

/* Put a kernel that calls check(user, weights) on a stream of a device of the test's own. */
typedef void (*rig_launch)(struct hr_stream *stream, void (*check)(void *user, const void *weights),
                           void *user, const void *weights);

struct rig {
	/* Set before rig_open(); a zeroed struct and these is enough. */
	int                        n_layers, slots, staging_buffers;
	size_t                     chunk_bytes;
	uint64_t                   layer_bytes; /* about */
	uint64_t                   part_bytes;  /* about, of all layers but the first; 0: layer_bytes */
	enum hr_tier               tiers[RIG_MAX_LAYERS];
	int                        kernel_us;
	uint32_t                   seed;
	struct fake_device_options device_options;
	struct fake_reader_options reader_options;
	struct hr_trace           *trace;
	struct hr_file            *files;  /* [2]; NULL: fake ones */
	struct hr_device          *device; /* NULL: a fake one */
	struct hr_reader          *reader; /* NULL: a fake one */
	rig_launch                 launch; /* for `device`; NULL: it is a host device */

	/* Filled by rig_open(). */
	struct hr_file    fake_files[2];
	struct hr_layer   layers[RIG_MAX_LAYERS];
	struct rig_check *checks; /* [n_layers] */
	struct hr_stream *compute;
	struct hr_window *window;
	bool              own_device, own_reader;
	atomic_int        n_checked, n_wrong;
};

uint32_t rig_random(uint32_t *state, uint32_t below);

/* Bytes of each of the two files that the layers lie in. */
#define RIG_FILE_BYTES (8u << 20)

int  rig_open(struct rig *r, struct hr_error *err); /* opens the window, does not load it */
int  rig_pass(struct rig *r, struct hr_error *err); /* acquire, check on the compute stream, release */
void rig_wait(struct rig *r);                       /* for the compute stream */
/* Close everything that rig_open() opened; fails the test on a wrong byte, a
 * violation or a leak. */
void rig_close(struct rig *r);

#endif
