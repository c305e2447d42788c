/* A device: memory within a budget, streams, events, asynchronous copies.
 *
 * Work is put on streams and runs there in order, asynchronously to the
 * caller; events mark points on a stream. Two implementations: device_host.c
 * (streams are worker threads) and device_cuda.c.
 *
 * All functions may be called from any thread. A failure inside a stream makes
 * the device FAILED for good: every later call that could report it returns
 * HR_EDEVICE, and waits return instead of hanging. */
#ifndef HR_KERNELS_DEVICE_H
#define HR_KERNELS_DEVICE_H

#include "base/notice.h"
#include "headrace/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hr_device;
struct hr_stream;
struct hr_event;

struct hr_device_memory {
	uint64_t total_bytes;
	uint64_t free_bytes;      /* now, as the driver or the kernel (cgroup respected) sees it */
	uint64_t margin_bytes;    /* of those, to be left by a plan: the driver's and other libraries' */
	uint64_t allocated_bytes; /* by this struct hr_device */
	uint64_t peak_bytes;
};

/* Another process that holds memory of the device. */
struct hr_device_holder {
	uint32_t pid;
	char     name[32]; /* "": unknown */
	uint64_t bytes;    /* 0: unknown */
};

/* For people to read; 0 or "" is unknown. */
struct hr_device_facts {
	char                    driver[32];                      /* "580.65.06" */
	int                     driver_version, runtime_version; /* CUDA's, 13000 is 13.0 */
	int                     major, minor;                    /* compute capability */
	unsigned                link_gen, link_gen_max;          /* PCIe, at this moment and at best */
	unsigned                link_width, link_width_max;      /* lanes */
	int                     n_holders;
	struct hr_device_holder holders[8]; /* those with most memory, largest first */
};

struct hr_device_ops {
	/* Device memory, aligned to 4096 bytes; counted against the budget.
	 * HR_EDEVMEM names wanted, free, total and the budget. */
	int (*alloc)(struct hr_device *device, void **out, size_t bytes, struct hr_error *err);
	void (*free)(struct hr_device *device, void *memory);

	/* Make host memory fit for asynchronous copies (CUDA: cudaHostRegister).
	 * The memory stays the caller's; unpin before unmapping it. */
	int (*pin)(struct hr_device *device, void *base, size_t bytes, struct hr_error *err);
	void (*unpin)(struct hr_device *device, void *base);

	int (*memory)(struct hr_device *device, struct hr_device_memory *out);
	/* NULL: there is nothing to tell. Takes milliseconds. */
	void (*describe)(struct hr_device *device, struct hr_device_facts *out);

	/* A compute stream runs kernels; a copy stream only copies. */
	int (*stream_new)(struct hr_device *device, struct hr_stream **out, bool compute, struct hr_error *err);
	void (*stream_free)(struct hr_stream *stream); /* waits for its work */

	/* Events start out complete. One that is recorded again forgets the past. */
	int (*event_new)(struct hr_device *device, struct hr_event **out, struct hr_error *err);
	void (*event_free)(struct hr_event *event);
	int (*event_record)(struct hr_event *event, struct hr_stream *stream);
	/* Work put on `stream` after this runs only once `event` is complete. */
	int (*stream_wait)(struct hr_stream *stream, struct hr_event *event);
	/* Block the host until complete. HR_EDEVICE: the wait is over because the device failed. */
	int (*event_wait)(struct hr_event *event);
	/* 1 complete, 0 not yet, HR_EDEVICE. */
	int (*event_query)(struct hr_event *event);
	/* When it completed, on hr__now_ns()'s clock (CUDA: to about 20 us). Complete events only. */
	uint64_t (*event_time_ns)(struct hr_event *event);

	/* dst/src: device memory, pinned or plain host memory. */
	int (*copy)(struct hr_stream *stream, void *dst, const void *src, size_t bytes);

	/* For a profiler that watches this process: the stretch "what name" begins, and ends with
	 * what its begin returned; any thread. NULL: nobody could watch. */
	uint64_t (*mark_begin)(struct hr_device *device, const char *what, const char *name);
	void (*mark_end)(struct hr_device *device, uint64_t mark);

	void (*close)(struct hr_device *device);
};

struct hr_device {
	const struct hr_device_ops *ops;
	const char                 *kind; /* "cpu", "cuda" */
	char                        name[128];
	bool                        host_addressable; /* the host may read and write device memory */
	int                         numa_node;        /* where staging should live; -1: anywhere */
};

static inline uint64_t hr_device_mark_begin(struct hr_device *device, const char *what, const char *name)
{
	return device->ops->mark_begin ? device->ops->mark_begin(device, what, name) : 0;
}

static inline void hr_device_mark_end(struct hr_device *device, uint64_t mark)
{
	if (device->ops->mark_end)
		device->ops->mark_end(device, mark);
}

/* The host as a device. `n_threads` compute threads (0: one per core), bound to
 * cores when `bind`. `budget_bytes`: most that alloc() hands out, 0 for no limit. */
struct hr_device_host_options {
	int                   n_threads;
	bool                  bind;
	uint64_t              budget_bytes;
	struct hr_notice_sink notices;
};
int hr_device_host_open(struct hr_device **out, const struct hr_device_host_options *options,
                        struct hr_error *err);

/* The host's way of launching a kernel: `fn` is called for item ranges that
 * together cover [0, n_items) exactly once, on the compute threads, in any order
 * and division, in pieces of `grain` items (the last may be shorter). The next
 * thing on the stream begins when all are done. `args` (<= HR_HOST_ARGS_MAX
 * bytes) is copied. fn must give the same bits whatever the division.
 */
#define HR_HOST_ARGS_MAX 640
typedef void (*hr_host_kernel)(const void *args, int64_t begin, int64_t end);
int hr_host_launch(struct hr_stream *stream, hr_host_kernel fn, const void *args, size_t args_bytes,
                   int64_t n_items, int64_t grain);

/* Scratch memory of the calling compute thread, HR_HOST_SCRATCH_BYTES, 64-byte
 * aligned; only inside a kernel, and only until it returns. */
#define HR_HOST_SCRATCH_BYTES (1u << 20)
void *hr_host_scratch(void);
int   hr_host_n_threads(const struct hr_device *device);

#endif
