/* What the GPUs of this machine can do, and how fast they are reached.
 *
 * The link is measured with the copies that a session makes, on a stream, between
 * device memory and pinned staging; and from plain memory, which is what copies
 * would cost if pinning were refused. A link sleeps when nothing crosses it, so its
 * width is looked up while copies are under way. All memory is given back. */
#include "runtime/doctor.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/topology.h"
#include "io/hostmem.h"
#include "runtime/backend.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define GIB           (1024.0 * 1024 * 1024)
#define BLOCK_BYTES   ((size_t)64 << 20)
#define COPY_NS       150000000u /* of copies in each direction */
#define MAX_COPIES    64
#define COPY_BYTES    ((size_t)512 << 20)
#define COPIES_INSIDE 10
#define MAX_GPUS      64

/* A stream with events around what is measured on it. */
struct link {
	struct hr_device      *device;
	struct hr_stream      *stream;
	struct hr_event       *begin, *end;
	void                  *memory; /* [bytes] of the device */
	struct hr_hostmem      host;
	bool                   pinned;
	size_t                 bytes;
	struct hr_device_facts facts; /* while copies were under way */
};

static int open_stream(struct link *l, struct hr_error *err)
{
	const struct hr_device_ops *ops = l->device->ops;
	int                         rc = ops->stream_new(l->device, &l->stream, false, err);
	if (!rc)
		rc = ops->event_new(l->device, &l->begin, err);
	return rc ? rc : ops->event_new(l->device, &l->end, err);
}

static int open_link(struct link *l, struct hr_device *device, struct hr_error *err)
{
	struct hr_device_memory m;
	l->device = device;
	l->bytes = BLOCK_BYTES;
	int rc = device->ops->memory(device, &m);
	while (!rc && l->bytes > 4096 && l->bytes > m.free_bytes / 4)
		l->bytes /= 2;
	if (!rc)
		rc = device->ops->alloc(device, &l->memory, l->bytes, err);
	if (!rc)
		rc = open_stream(l, err);
	if (!rc)
		rc = hr_hostmem_init(&l->host, l->bytes, device->numa_node, err);
	return rc;
}

static void close_link(struct link *l)
{
	const struct hr_device_ops *ops = l->device->ops;
	if (l->stream)
		ops->stream_free(l->stream);
	if (l->begin)
		ops->event_free(l->begin);
	if (l->end)
		ops->event_free(l->end);
	if (l->pinned)
		ops->unpin(l->device, l->host.base);
	if (l->memory)
		ops->free(l->device, l->memory);
	hr_hostmem_release(&l->host);
}

/* `n` copies; how long they took. */
static int copy(struct link *l, void *dst, const void *src, int n, uint64_t *ns)
{
	const struct hr_device_ops *ops = l->device->ops;
	int                         rc = ops->event_record(l->begin, l->stream);
	for (int i = 0; i < n && !rc; i++)
		rc = ops->copy(l->stream, dst, src, l->bytes);
	if (!rc)
		rc = ops->event_record(l->end, l->stream);
	if (!rc && n > 1)
		ops->describe(l->device, &l->facts);
	if (!rc)
		rc = ops->event_wait(l->end);
	*ns = rc ? 0 : ops->event_time_ns(l->end) - ops->event_time_ns(l->begin);
	return rc;
}

/* 1e9 bytes per second; 0: the copies failed. */
static double measure(struct link *l, bool to_device)
{
	uint64_t    ns = 0;
	void       *dst = to_device ? l->memory : l->host.base;
	const void *src = to_device ? l->host.base : l->memory;
	if (copy(l, dst, src, 1, &ns) || copy(l, dst, src, 1, &ns)) /* the first one wakes everything up */
		return 0;
	int n = ns ? (int)(COPY_NS / ns) : MAX_COPIES;
	n = n < 2 ? 2 : n > MAX_COPIES ? MAX_COPIES : n;
	return copy(l, dst, src, n, &ns) || !ns ? 0 : (double)n * (double)l->bytes / (double)ns;
}

/* What a PCIe link carries, in 1e9 bytes per second and direction; 0: unknown. */
static double capacity(unsigned gen, unsigned width)
{
	static const double per_lane[] = {0, 0.25, 0.5, 0.985, 1.969, 3.938, 7.563};
	return gen < HR_COUNT_OF(per_lane) ? per_lane[gen] * width : 0;
}

static void tell_rate(const struct doctor *d, const char *name, double gbps, double of, const char *what)
{
	static const char advice[] =
	    "The link carries more. See whether other programs copy, whether the machine "
	    "saves power on it (ASPM), and whether numactl moves this process away "
	    "from the GPU's node.";
	bool slow = gbps < 0.7 * of;
	if (gbps <= 0)
		hr__doctor_tell(d, name, HR_CHECK_MISSING, 0, "See the other lines of this GPU.", "copies %s failed",
		                what);
	else
		hr__doctor_tell(d, name, slow ? HR_CHECK_SLOW : HR_CHECK_OK, gbps, advice, "%.1f GB/s %s", gbps,
		                what);
}

static void tell_link(const struct doctor *d, const struct hr_device_facts *f)
{
	static const char narrow[] = "The card could have a faster link; look for another slot, a riser, or the "
	                             "slot's setting in the firmware.";
	bool              full = f->link_width == f->link_width_max && f->link_gen == f->link_gen_max;
	if (!f->link_width || !f->link_gen)
		hr__doctor_tell(d, "gpu_link", HR_CHECK_OK, 0, "", "the driver does not tell its width");
	else
		hr__doctor_tell(d, "gpu_link", full ? HR_CHECK_OK : HR_CHECK_SLOW,
		                capacity(f->link_gen, f->link_width), narrow,
		                "PCIe generation %u, %u lanes under load (at best generation %u, %u lanes)",
		                f->link_gen, f->link_width, f->link_gen_max, f->link_width_max);
}

static void check_link(const struct doctor *d, struct hr_device *device)
{
	struct link     l = {0};
	struct hr_error err = {0};
	if (device->host_addressable) {
		hr__doctor_tell(d, "gpu_link", HR_CHECK_OK, 0, "", "none to cross: this GPU uses the host's memory");
		return;
	}
	int rc = open_link(&l, device, &err);
	if (rc) {
		hr__doctor_tell(d, "gpu_link", HR_CHECK_MISSING, 0, "Free some of its memory.", "not measured: %s",
		                err.message[0] ? err.message : hr_error_text(rc));
		close_link(&l);
		return;
	}
	double from_plain = measure(&l, false), to_plain = measure(&l, true); /* from: its pages exist now */
	l.pinned = device->ops->pin(device, l.host.base, l.host.bytes, &err) == 0;
	double to = measure(&l, true), from = measure(&l, false);
	double most = capacity(l.facts.link_gen, l.facts.link_width);
	tell_link(d, &l.facts);
	tell_rate(d, "link_to_gpu", to, most, "to the GPU, pinned");
	tell_rate(d, "link_from_gpu", from, most, "from the GPU, pinned");
	tell_rate(d, "link_to_gpu_pageable", to_plain, 0, "to the GPU, from memory that is not pinned");
	tell_rate(d, "link_from_gpu_pageable", from_plain, 0, "from the GPU, to memory that is not pinned");
	close_link(&l);
}

/* Memory to memory on the device: what limits decoding with everything resident. */
static void check_copy(const struct doctor *d, struct hr_device *device)
{
	struct hr_device_memory     m = {0};
	struct link                 l = {.device = device, .bytes = COPY_BYTES};
	const struct hr_device_ops *ops = device->ops;
	uint64_t                    ns = 0;
	int                         rc = ops->memory(device, &m);
	while (!rc && l.bytes > 4096 && l.bytes > m.free_bytes / 8)
		l.bytes /= 2;
	if (!rc)
		rc = ops->alloc(device, &l.memory, 2 * l.bytes, NULL);
	if (!rc)
		rc = open_stream(&l, NULL);
	char *half = (char *)l.memory + l.bytes;
	if (!rc)
		rc = copy(&l, half, l.memory, 1, &ns);
	if (!rc)
		rc = copy(&l, half, l.memory, COPIES_INSIDE, &ns);
	double gbps = rc || !ns ? 0 : 2.0 * COPIES_INSIDE * (double)l.bytes / (double)ns;
	if (gbps > 0)
		hr__doctor_tell(d, "gpu_copy", HR_CHECK_OK, gbps, "", "%.1f GB/s read and written on the device",
		                gbps);
	else
		hr__doctor_tell(d, "gpu_copy", HR_CHECK_MISSING, 0, "Free some of its memory.", "not measured: %s",
		                hr_error_text(rc ? rc : HR_EDEVICE));
	close_link(&l);
}

static void tell_memory(const struct doctor *d, struct hr_device *device, const struct hr_device_facts *f)
{
	struct hr_device_memory m;
	char                    holders[400] = "";
	if (device->ops->memory(device, &m)) {
		hr__doctor_tell(d, "gpu_memory", HR_CHECK_MISSING, 0, "Try nvidia-smi.", "the device failed");
		return;
	}
	for (int i = 0, n = 0; i < f->n_holders && n < (int)sizeof holders; i++)
		n += snprintf(holders + n, sizeof holders - (size_t)n, "%s %s (pid %u) holds %.1f GiB", i ? "," : ";",
		              f->holders[i].name[0] ? f->holders[i].name : "a process", f->holders[i].pid,
		              (double)f->holders[i].bytes / GIB);
	bool taken = (double)m.free_bytes < 0.8 * (double)m.total_bytes;
	hr__doctor_tell(d, "gpu_memory", taken ? HR_CHECK_SLOW : HR_CHECK_OK, (double)m.free_bytes,
	                "Fewer layers stay on the device while others hold its memory; end what is not needed.",
	                "%.1f GiB free of %.1f GiB%s", (double)m.free_bytes / GIB, (double)m.total_bytes / GIB,
	                holders);
}

static void check_gpu(const struct doctor *d, struct hr_device *device, int ordinal)
{
	struct hr_device_facts f = {0};
	device->ops->describe(device, &f);
	hr__doctor_tell(d, "gpu", HR_CHECK_OK, f.major + f.minor / 10.0, "",
	                "cuda:%d, %s, compute capability %d.%d", ordinal, device->name, f.major, f.minor);
	hr__doctor_tell(d, "gpu_driver", HR_CHECK_OK, f.driver_version / 1000.0, "",
	                "%s%sknows CUDA %d.%d; built with %d.%d", f.driver, f.driver[0] ? ", " : "",
	                f.driver_version / 1000, f.driver_version % 1000 / 10, f.runtime_version / 1000,
	                f.runtime_version % 1000 / 10);
	tell_memory(d, device, &f);
	if (device->numa_node >= 0)
		hr__doctor_tell(d, "gpu_numa", HR_CHECK_OK, device->numa_node, "", "on node %d of %d",
		                device->numa_node, hr_topology_n_nodes());
	else
		hr__doctor_tell(d, "gpu_numa", HR_CHECK_OK, -1, "",
		                hr_topology_n_nodes() > 1 ? "the system does not tell its node" : "one node for all");
	check_copy(d, device);
	check_link(d, device);
}

void hr__doctor_check_gpus(const struct doctor *d)
{
	for (int i = 0; i < MAX_GPUS; i++) {
		struct hr_plan_options o;
		struct hr_backend      backend = {0};
		struct hr_error        err = {0};
		char                   name[16];
		hr_plan_options_init(&o);
		snprintf(name, sizeof name, "cuda:%d", i);
		o.device = name;
		int rc = hr__backend_open(&backend, &o, &err);
		if (!rc)
			check_gpu(d, backend.device, i);
		else if (i == 0 || rc != HR_EINVAL) /* not just past the last */
			hr__doctor_tell(d, "gpu", HR_CHECK_MISSING, 0, "The model runs on the CPU.", "%s", err.message);
		hr__backend_close(&backend);
		if (rc)
			return;
	}
}
