/* Memory of an NVIDIA GPU, and host memory made fit for copies to it.
 *
 * cudaMalloc, or, on a GPU that has no memory of its own and can use the host's,
 * host memory: then reads land in the slots themselves. A plan leaves a margin of
 * the card, for the driver and cuBLAS load code as they go; of that alloc() insists
 * on half, since sizes are rounded up. What is free is looked up before an
 * allocation and after it, for other programs allocate, too. Freeing waits for the
 * whole device, and is done only when a session closes.
 *
 * Host memory that the system refuses to register is copied by way of the driver's
 * own small pinned buffer: slower, not wrong.
 *
 * Memory that can't be had and memory that can't be registered are answers; any
 * other error is the device's end (device_cuda.c). What is alive is in two lists, so
 * that closing gives back what its user left. */
#include "kernels/device/device_cuda_internal.h"

#include "base/error.h"
#include "base/mem.h"
#include "kernels/device/host_map.h"
#include "kernels/device/host_memory.h"

#include <stdio.h>

#define ALIGN_BYTES 4096u
#define MIB(bytes)  ((double)(bytes) / (1 << 20))

static int read_memory(struct hr__cuda_device *d, uint64_t *free_bytes, uint64_t *total_bytes)
{
	size_t free = 0, total = 0;
	if (d->base.host_addressable) {
		struct hr__host_memory m;
		hr__host_memory_read(&m);
		*free_bytes = m.free_bytes;
		*total_bytes = m.total_bytes;
		return hr__cuda_enter(d);
	}
	int rc = hr__cuda_enter(d);
	if (!rc)
		rc = hr__cuda_result(d, cudaMemGetInfo(&free, &total));
	*free_bytes = free;
	*total_bytes = total;
	return rc;
}

int hr__cuda_memory(struct hr_device *device, struct hr_device_memory *out)
{
	struct hr__cuda_device *d = hr__cuda(device);
	uint64_t                free = 0, total = 0;
	int                     rc = read_memory(d, &free, &total);
	if (rc)
		return rc;
	pthread_mutex_lock(&d->lock);
	*out = (struct hr_device_memory){total, free, d->margin_bytes, d->allocated_bytes, d->peak_bytes};
	pthread_mutex_unlock(&d->lock);
	return 0;
}

/* HR_EDEVMEM with all that is known. */
static int refuse(struct hr__cuda_device *d, size_t bytes, uint64_t free, uint64_t total,
                  struct hr_error *err)
{
	uint64_t used = total - free;
	uint64_t others = used > d->allocated_bytes ? used - d->allocated_bytes : 0;
	char     budget[64] = "no budget is set";
	if (d->budget_bytes)
		snprintf(budget, sizeof budget, "the budget is %.1f MiB", MIB(d->budget_bytes));
	return hr__fail(err, HR_EDEVMEM,
	                "Device %s (cuda:%d) cannot allocate %.1f MiB: %.1f of %.1f MiB are free, %.1f MiB of "
	                "which are left to the driver; this session holds %.1f MiB (%s), the driver and other "
	                "programs hold %.1f MiB.",
	                d->base.name, d->ordinal, MIB(bytes), MIB(free), MIB(total), MIB(d->margin_bytes / 2),
	                MIB(d->allocated_bytes), budget, MIB(others));
}

/* Host memory for a GPU that has none of its own. */
static cudaError_t take_host_memory(struct hr__cuda_device *d, struct hr__cuda_block *b)
{
	b->base = b->memory = hr__host_map(b->bytes);
	if (!b->base)
		return cudaErrorMemoryAllocation;
	cudaError_t error = d->register_own ? cudaHostRegister(b->base, b->bytes, cudaHostRegisterMapped) : 0;
	if (error) {
		hr__host_unmap(b->base, b->bytes);
		b->base = NULL;
	}
	return error;
}

/* cudaMalloc promises 256 bytes of alignment, and mostly gives more. */
static cudaError_t take_card_memory(struct hr__cuda_block *b)
{
	cudaError_t error = cudaMalloc(&b->base, b->bytes);
	if (!error && (uintptr_t)b->base % ALIGN_BYTES) {
		cudaFree(b->base);
		b->base = NULL;
		b->bytes += ALIGN_BYTES;
		error = cudaMalloc(&b->base, b->bytes);
	}
	if (error)
		b->base = NULL;
	b->memory = (void *)(uintptr_t)hr__align_up((uintptr_t)b->base, ALIGN_BYTES);
	return error;
}

/* Before memory goes. A FAILED device's waits end at once, so nobody knows whether
 * work is still under way on it; where CUDA itself lives on, it may be. */
static void settle(struct hr__cuda_device *d)
{
	cudaSetDevice(d->ordinal);
	if (atomic_load(&d->failed))
		cudaDeviceSynchronize();
}

static void give_back(struct hr__cuda_device *d, struct hr__cuda_block *b)
{
	if (b->base && d->base.host_addressable) {
		if (d->register_own)
			cudaHostUnregister(b->base);
		hr__host_unmap(b->base, b->bytes);
	} else if (b->base) {
		cudaFree(b->base);
	}
	b->base = NULL;
}

static int alloc_locked(struct hr__cuda_device *d, struct hr__cuda_block *b, struct hr_error *err)
{
	uint64_t free = 0, total = 0;
	size_t   wanted = b->bytes;
	int      rc = read_memory(d, &free, &total);
	if (rc)
		return hr__cuda_fail_sentence(d, "its memory was looked up", err);
	bool over =
	    d->budget_bytes && (wanted > d->budget_bytes || d->allocated_bytes > d->budget_bytes - wanted);
	if (over || wanted > free || free - wanted < d->margin_bytes / 2)
		return refuse(d, wanted, free, total, err);
	cudaError_t error = d->base.host_addressable ? take_host_memory(d, b) : take_card_memory(b);
	if (error == cudaErrorMemoryAllocation)
		cudaGetLastError();
	else
		rc = hr__cuda_result(d, error);
	/* Somebody else may have taken memory between the two looks. */
	if (!rc)
		rc = read_memory(d, &free, &total);
	if (rc) {
		give_back(d, b);
		return hr__cuda_fail_sentence(d, "it allocated memory", err);
	}
	if (error || (!d->base.host_addressable && free < d->margin_bytes / 2)) {
		give_back(d, b);
		return refuse(d, wanted, free, total, err);
	}
	return 0;
}

int hr__cuda_alloc(struct hr_device *device, void **out, size_t bytes, struct hr_error *err)
{
	struct hr__cuda_device *d = hr__cuda(device);
	if (!bytes || bytes > SIZE_MAX / 2)
		return hr__fail(err, HR_EINVAL, "Device %s was asked for %zu bytes.", d->base.name, bytes);
	struct hr__cuda_block *b = hr__calloc(1, sizeof *b);
	if (!b)
		return hr__fail(err, HR_ENOMEM, "There is no memory to keep track of device memory.");
	b->bytes = (size_t)hr__align_up(bytes, ALIGN_BYTES);
	pthread_mutex_lock(&d->lock);
	int rc = alloc_locked(d, b, err);
	if (!rc) {
		*out = b->memory;
		b->next = d->blocks;
		d->blocks = b;
		d->allocated_bytes += b->bytes;
		if (d->peak_bytes < d->allocated_bytes)
			d->peak_bytes = d->allocated_bytes;
	}
	pthread_mutex_unlock(&d->lock);
	if (rc)
		free(b);
	return rc;
}

static struct hr__cuda_block *take_out(struct hr__cuda_block **list, const void *memory)
{
	for (struct hr__cuda_block **at = list; *at; at = &(*at)->next) {
		struct hr__cuda_block *b = *at;
		if (b->memory == memory) {
			*at = b->next;
			return b;
		}
	}
	return NULL;
}

void hr__cuda_free(struct hr_device *device, void *memory)
{
	struct hr__cuda_device *d = hr__cuda(device);
	pthread_mutex_lock(&d->lock);
	struct hr__cuda_block *b = take_out(&d->blocks, memory);
	if (b) {
		d->allocated_bytes -= b->bytes;
		settle(d);
		give_back(d, b);
		cudaGetLastError();
	}
	pthread_mutex_unlock(&d->lock);
	free(b);
}

int hr__cuda_pin(struct hr_device *device, void *base, size_t bytes, struct hr_error *err)
{
	struct hr__cuda_device *d = hr__cuda(device);
	if (hr__cuda_enter(d))
		return hr__cuda_fail_sentence(d, "host memory was registered", err);
	cudaError_t error = cudaHostRegister(base, bytes, cudaHostRegisterPortable);
	if (error) {
		uint64_t ignored;
		cudaGetLastError();
		if (read_memory(d, &ignored, &ignored)) /* not just refused: the device is gone */
			return hr__cuda_fail_sentence(d, "host memory was registered", err);
		if (!atomic_exchange(&d->told_unregistered, true))
			hr__notice(&d->notices,
			           "%.1f MiB of host memory could not be registered with the driver (%s); copies go "
			           "through the driver's own buffers and take longer.",
			           MIB(bytes), cudaGetErrorString(error));
		return 0;
	}
	struct hr__cuda_block *b = hr__calloc(1, sizeof *b);
	if (!b) {
		cudaHostUnregister(base);
		return hr__fail(err, HR_ENOMEM, "There is no memory to keep track of registered memory.");
	}
	b->memory = base;
	pthread_mutex_lock(&d->lock);
	b->next = d->pins;
	d->pins = b;
	pthread_mutex_unlock(&d->lock);
	return 0;
}

void hr__cuda_unpin(struct hr_device *device, void *base)
{
	struct hr__cuda_device *d = hr__cuda(device);
	pthread_mutex_lock(&d->lock);
	struct hr__cuda_block *b = take_out(&d->pins, base);
	pthread_mutex_unlock(&d->lock);
	if (b) {
		settle(d);
		cudaHostUnregister(base);
		cudaGetLastError();
	}
	free(b);
}
