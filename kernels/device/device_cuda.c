/* An NVIDIA GPU as a device: the table of device.h in terms of the CUDA runtime.
 * Here it is opened and closed, and here it fails; device_cuda_memory.c,
 * device_cuda_streams.c and device_cuda_marks.c are the rest of the table.
 *
 * Errors. Memory that can't be had and memory that can't be registered are
 * answers. Every other error makes the device FAILED for good, sticky or not: a
 * record that was refused would leave its event looking complete, and the guard
 * that waits for it would let a copy through. The first one is told in a notice
 * with CUDA's own words; from then on calls return HR_EDEVICE at once, and waits
 * end because CUDA ends them. */
#include "base/error.h"
#include "base/mem.h"
#include "base/topology.h"
#include "kernels/device/device_cuda_facts.h"
#include "kernels/device/device_cuda_find.h"
#include "kernels/device/device_cuda_internal.h"

#include <stdio.h>

#define MARGIN_BYTES ((uint64_t)256 << 20) /* or 1/16 of a small card */

/* ---- Failure --------------------------------------------------------------- */

int hr__cuda_fail(struct hr__cuda_device *d, int error, const char *text)
{
	int none = 0;
	cudaGetLastError(); /* which otherwise the next launch would be blamed for */
	if (atomic_compare_exchange_strong(&d->failed, &none, error))
		hr__notice(&d->notices, "Device %s (cuda:%d) failed and can't be used any more: %s (error %d).",
		           d->base.name, d->ordinal, text, error);
	return HR_EDEVICE;
}

int hr__cuda_result(struct hr__cuda_device *d, cudaError_t error)
{
	if (error == cudaSuccess)
		return atomic_load(&d->failed) ? HR_EDEVICE : 0;
	return hr__cuda_fail(d, (int)error, cudaGetErrorString(error));
}

int hr__cuda_enter(struct hr__cuda_device *d)
{
	return atomic_load(&d->failed) ? HR_EDEVICE : hr__cuda_result(d, cudaSetDevice(d->ordinal));
}

int hr__cuda_fail_sentence(struct hr__cuda_device *d, const char *doing, struct hr_error *err)
{
	return hr__fail(
	    err, HR_EDEVICE,
	    "Device %s (cuda:%d) failed while %s: %s; start the program again, since CUDA may refuse all "
	    "work until this process ends, or use --device cpu.",
	    d->base.name, d->ordinal, doing, cudaGetErrorString((cudaError_t)atomic_load(&d->failed)));
}

/* ---- The device ------------------------------------------------------------ */

static void describe(struct hr_device *device, struct hr_device_facts *out)
{
	hr__cuda_facts(hr__cuda(device)->ordinal, out);
}

static void cuda_close(struct hr_device *device)
{
	struct hr__cuda_device *d = hr__cuda(device);
	while (d->pins)
		hr__cuda_unpin(device, d->pins->memory);
	while (d->blocks)
		hr__cuda_free(device, d->blocks->memory);
	cudaSetDevice(d->ordinal);
	hr__cuda_close_clock(d);
	hr__cuda_close_marks(d);
	cudaGetLastError();
	pthread_mutex_destroy(&d->lock);
	pthread_mutex_destroy(&d->clock_lock);
	free(d);
}

static const struct hr_device_ops cuda_ops = {
    .alloc = hr__cuda_alloc,
    .free = hr__cuda_free,
    .pin = hr__cuda_pin,
    .unpin = hr__cuda_unpin,
    .memory = hr__cuda_memory,
    .describe = describe,
    .stream_new = hr__cuda_stream_new,
    .stream_free = hr__cuda_stream_free,
    .event_new = hr__cuda_event_new,
    .event_free = hr__cuda_event_free,
    .event_record = hr__cuda_event_record,
    .stream_wait = hr__cuda_stream_wait,
    .event_wait = hr__cuda_event_wait,
    .event_query = hr__cuda_event_query,
    .event_time_ns = hr__cuda_event_time_ns,
    .copy = hr__cuda_copy,
    .mark_begin = hr__cuda_mark_begin,
    .mark_end = hr__cuda_mark_end,
    .close = cuda_close,
};

/* Can kernels and reads use the same memory, at the same address? */
static bool addresses_host(const struct cudaDeviceProp *p)
{
	return p->integrated && (p->pageableMemoryAccess || p->canUseHostPointerForRegisteredMem);
}

int hr_device_cuda_open(struct hr_device **out, const struct hr_device_cuda_options *options,
                        struct hr_error *err)
{
	struct cudaDeviceProp prop;
	int                   rc = hr__cuda_find(options->ordinal, &prop, err);
	if (rc)
		return rc;
	struct hr__cuda_device *d = hr__calloc(1, sizeof *d);
	if (!d)
		return hr__fail(err, HR_ENOMEM, "There is no memory for the CUDA device.");
	d->base = (struct hr_device){.ops = &cuda_ops, .kind = "cuda", .host_addressable = addresses_host(&prop)};
	snprintf(d->base.name, sizeof d->base.name, "%.120s", prop.name);
	char bus_id[32];
	snprintf(bus_id, sizeof bus_id, "%04x:%02x:%02x.0", prop.pciDomainID, prop.pciBusID, prop.pciDeviceID);
	d->base.numa_node = hr_topology_node_of_pci(bus_id);
	d->ordinal = options->ordinal;
	d->budget_bytes = options->budget_bytes;
	d->register_own = !prop.pageableMemoryAccess;
	d->margin_bytes = prop.totalGlobalMem / 16 < MARGIN_BYTES ? prop.totalGlobalMem / 16 : MARGIN_BYTES;
	d->notices = options->notices;
	pthread_mutex_init(&d->lock, NULL);
	pthread_mutex_init(&d->clock_lock, NULL);
	hr__cuda_open_marks(d);
	rc = hr__cuda_open_clock(d);
	if (rc) {
		hr__cuda_fail_sentence(d, "it was opened", err);
		cuda_close(&d->base);
		return rc;
	}
	*out = &d->base;
	return 0;
}
