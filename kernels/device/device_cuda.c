/* An NVIDIA GPU as a device: the table of device.h in terms of the CUDA runtime.
 *
 * Streams are non-blocking: nothing here or in the kernels uses the default
 * stream, so nothing ever waits for the whole device while passes run (freeing
 * memory does, and is done only when a session closes).
 *
 * Errors. Memory that can't be had and memory that can't be registered are
 * answers. Every other error makes the device FAILED for good, sticky or not: a
 * record that was refused would leave its event looking complete, and the guard
 * that waits for it would let a copy through. The first one is told in a notice
 * with CUDA's own words; from then on calls return HR_EDEVICE at once, and waits
 * end because CUDA ends them.
 *
 * Memory. cudaMalloc, or, on a GPU that has no memory of its own and can use the
 * host's, host memory: then reads land in the slots themselves. A plan leaves a
 * margin of the card, for the driver and cuBLAS load code as they go; of that
 * alloc() insists on half, since sizes are rounded up. What is free is looked up
 * before an allocation and after it, for other programs allocate, too. Host memory that the system refuses to
 * register is copied by way of the driver's own small pinned buffer: slower, not wrong.
 *
 * Time. All events carry time stamps: they cost less than a microsecond, and
 * chunks take hundreds. CUDA tells only how far two events are apart, so there
 * is an anchor, an event whose time on the host's clock is known: it is set anew
 * every second, because the clocks drift and the distance is a float. Waiting
 * for an event sleeps; only the anchor's wait, microseconds long, spins. */
#include "kernels/device/device_cuda.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/topology.h"
#include "kernels/device/device_cuda_facts.h"
#include "kernels/device/device_cuda_find.h"
#include "kernels/device/host_map.h"
#include "kernels/device/host_memory.h"

#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#define ALIGN_BYTES      4096u
#define MARGIN_BYTES     ((uint64_t)256 << 20) /* or 1/16 of a small card */
#define ANCHOR_PERIOD_MS 1000.0f
#define ANCHOR_TRIES     3
#define ANCHOR_SPAN_NS   20000
#define MIB(bytes)       ((double)(bytes) / (1 << 20))

/* Device memory, or a registration of host memory. */
struct block {
	void         *memory; /* as handed out or in */
	void         *base;   /* as CUDA or the system gave it; NULL: nothing to give back */
	size_t        bytes;
	struct block *next;
};

struct cuda_device {
	struct hr_device      base; /* first */
	int                   ordinal;
	uint64_t              budget_bytes, margin_bytes;
	bool                  register_own; /* own memory is the host's and needs registering */
	struct hr_notice_sink notices;
	atomic_int            failed; /* the cudaError_t that made it so */
	atomic_bool           told_unregistered;

	pthread_mutex_t lock; /* protects what follows; held while CUDA allocates */
	struct block   *blocks, *pins;
	uint64_t        allocated_bytes, peak_bytes;

	pthread_mutex_t clock_lock; /* protects what follows; a leaf */
	cudaStream_t    clock_stream;
	cudaEvent_t     anchor;
	uint64_t        anchor_ns;
};

struct hr_stream {
	struct cuda_device *device;
	cudaStream_t        cuda;
};

struct hr_event {
	struct cuda_device *device;
	cudaEvent_t         cuda;
};

static struct cuda_device *cuda(struct hr_device *device) { return (struct cuda_device *)device; }

/* ---- Failure --------------------------------------------------------------- */

/* The device is FAILED from now on; told once. */
static int fail(struct cuda_device *d, int error, const char *text)
{
	int none = 0;
	cudaGetLastError(); /* which otherwise the next launch would be blamed for */
	if (atomic_compare_exchange_strong(&d->failed, &none, error))
		hr__notice(&d->notices, "Device %s (cuda:%d) failed and can't be used any more: %s (error %d).",
		           d->base.name, d->ordinal, text, error);
	return HR_EDEVICE;
}

static int check(struct cuda_device *d, cudaError_t error)
{
	if (error == cudaSuccess)
		return atomic_load(&d->failed) ? HR_EDEVICE : 0;
	return fail(d, (int)error, cudaGetErrorString(error));
}

/* Make the GPU the calling thread's; HR_EDEVICE when the device is FAILED. */
static int enter(struct cuda_device *d)
{
	return atomic_load(&d->failed) ? HR_EDEVICE : check(d, cudaSetDevice(d->ordinal));
}

static int fail_sentence(struct cuda_device *d, const char *doing, struct hr_error *err)
{
	return hr__fail(
	    err, HR_EDEVICE,
	    "Device %s (cuda:%d) failed while %s: %s; start the program again, since CUDA may refuse all "
	    "work until this process ends, or use --device cpu.",
	    d->base.name, d->ordinal, doing, cudaGetErrorString((cudaError_t)atomic_load(&d->failed)));
}

/* ---- Memory ---------------------------------------------------------------- */

static int read_memory(struct cuda_device *d, uint64_t *free_bytes, uint64_t *total_bytes)
{
	size_t free = 0, total = 0;
	if (d->base.host_addressable) {
		struct hr__host_memory m;
		hr__host_memory_read(&m);
		*free_bytes = m.free_bytes;
		*total_bytes = m.total_bytes;
		return enter(d);
	}
	int rc = enter(d);
	if (!rc)
		rc = check(d, cudaMemGetInfo(&free, &total));
	*free_bytes = free;
	*total_bytes = total;
	return rc;
}

static int cuda_memory(struct hr_device *device, struct hr_device_memory *out)
{
	struct cuda_device *d = cuda(device);
	uint64_t            free = 0, total = 0;
	int                 rc = read_memory(d, &free, &total);
	if (rc)
		return rc;
	pthread_mutex_lock(&d->lock);
	*out = (struct hr_device_memory){total, free, d->margin_bytes, d->allocated_bytes, d->peak_bytes};
	pthread_mutex_unlock(&d->lock);
	return 0;
}

static void cuda_describe(struct hr_device *device, struct hr_device_facts *out)
{
	hr__cuda_facts(cuda(device)->ordinal, out);
}

/* HR_EDEVMEM with all that is known. */
static int refuse(struct cuda_device *d, size_t bytes, uint64_t free, uint64_t total, struct hr_error *err)
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
static cudaError_t take_host_memory(struct cuda_device *d, struct block *b)
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
static cudaError_t take_card_memory(struct block *b)
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
static void settle(struct cuda_device *d)
{
	cudaSetDevice(d->ordinal);
	if (atomic_load(&d->failed))
		cudaDeviceSynchronize();
}

static void give_back(struct cuda_device *d, struct block *b)
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

static int alloc_locked(struct cuda_device *d, struct block *b, struct hr_error *err)
{
	uint64_t free = 0, total = 0;
	size_t   wanted = b->bytes;
	int      rc = read_memory(d, &free, &total);
	if (rc)
		return fail_sentence(d, "its memory was looked up", err);
	bool over =
	    d->budget_bytes && (wanted > d->budget_bytes || d->allocated_bytes > d->budget_bytes - wanted);
	if (over || wanted > free || free - wanted < d->margin_bytes / 2)
		return refuse(d, wanted, free, total, err);
	cudaError_t error = d->base.host_addressable ? take_host_memory(d, b) : take_card_memory(b);
	if (error == cudaErrorMemoryAllocation)
		cudaGetLastError();
	else
		rc = check(d, error);
	/* Somebody else may have taken memory between the two looks. */
	if (!rc)
		rc = read_memory(d, &free, &total);
	if (rc) {
		give_back(d, b);
		return fail_sentence(d, "it allocated memory", err);
	}
	if (error || (!d->base.host_addressable && free < d->margin_bytes / 2)) {
		give_back(d, b);
		return refuse(d, wanted, free, total, err);
	}
	return 0;
}

static int cuda_alloc(struct hr_device *device, void **out, size_t bytes, struct hr_error *err)
{
	struct cuda_device *d = cuda(device);
	if (!bytes || bytes > SIZE_MAX / 2)
		return hr__fail(err, HR_EINVAL, "Device %s was asked for %zu bytes.", d->base.name, bytes);
	struct block *b = hr__calloc(1, sizeof *b);
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

static struct block *take_out(struct block **list, const void *memory)
{
	for (struct block **at = list; *at; at = &(*at)->next) {
		struct block *b = *at;
		if (b->memory == memory) {
			*at = b->next;
			return b;
		}
	}
	return NULL;
}

static void cuda_free(struct hr_device *device, void *memory)
{
	struct cuda_device *d = cuda(device);
	pthread_mutex_lock(&d->lock);
	struct block *b = take_out(&d->blocks, memory);
	if (b) {
		d->allocated_bytes -= b->bytes;
		settle(d);
		give_back(d, b);
		cudaGetLastError();
	}
	pthread_mutex_unlock(&d->lock);
	free(b);
}

static int cuda_pin(struct hr_device *device, void *base, size_t bytes, struct hr_error *err)
{
	struct cuda_device *d = cuda(device);
	if (enter(d))
		return fail_sentence(d, "host memory was registered", err);
	cudaError_t error = cudaHostRegister(base, bytes, cudaHostRegisterPortable);
	if (error) {
		uint64_t ignored;
		cudaGetLastError();
		if (read_memory(d, &ignored, &ignored)) /* not just refused: the device is gone */
			return fail_sentence(d, "host memory was registered", err);
		if (!atomic_exchange(&d->told_unregistered, true))
			hr__notice(&d->notices,
			           "%.1f MiB of host memory could not be registered with the driver (%s); copies go "
			           "through the driver's own buffers and take longer.",
			           MIB(bytes), cudaGetErrorString(error));
		return 0;
	}
	struct block *b = hr__calloc(1, sizeof *b);
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

static void cuda_unpin(struct hr_device *device, void *base)
{
	struct cuda_device *d = cuda(device);
	pthread_mutex_lock(&d->lock);
	struct block *b = take_out(&d->pins, base);
	pthread_mutex_unlock(&d->lock);
	if (b) {
		settle(d);
		cudaHostUnregister(base);
		cudaGetLastError();
	}
	free(b);
}

/* ---- Streams --------------------------------------------------------------- */

static int cuda_stream_new(struct hr_device *device, struct hr_stream **out, bool compute,
                           struct hr_error *err)
{
	struct cuda_device *d = cuda(device);
	struct hr_stream   *s = hr__calloc(1, sizeof *s);
	(void)compute; /* any stream does both */
	if (!s)
		return hr__fail(err, HR_ENOMEM, "There is no memory for a stream.");
	s->device = d;
	if (enter(d) || check(d, cudaStreamCreateWithFlags(&s->cuda, cudaStreamNonBlocking))) {
		free(s);
		return fail_sentence(d, "a stream was made", err);
	}
	*out = s;
	return 0;
}

static void cuda_stream_free(struct hr_stream *s)
{
	if (!s)
		return;
	cudaSetDevice(s->device->ordinal);
	check(s->device, cudaStreamSynchronize(s->cuda));
	cudaStreamDestroy(s->cuda);
	cudaGetLastError();
	free(s);
}

static int cuda_copy(struct hr_stream *s, void *dst, const void *src, size_t bytes)
{
	int rc = enter(s->device);
	return rc ? rc : check(s->device, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, s->cuda));
}

void *hr_cuda_stream(struct hr_stream *s)
{
	enter(s->device);
	return s->cuda;
}

int hr_cuda_check(struct hr_stream *s, int error, const char *error_text)
{
	if (error)
		return fail(s->device, error, error_text);
	return atomic_load(&s->device->failed) ? HR_EDEVICE : 0;
}

/* ---- Events ---------------------------------------------------------------- */

static int cuda_event_new(struct hr_device *device, struct hr_event **out, struct hr_error *err)
{
	struct cuda_device *d = cuda(device);
	struct hr_event    *e = hr__calloc(1, sizeof *e);
	if (!e)
		return hr__fail(err, HR_ENOMEM, "There is no memory for an event.");
	e->device = d;
	if (enter(d) || check(d, cudaEventCreateWithFlags(&e->cuda, cudaEventBlockingSync))) {
		free(e);
		return fail_sentence(d, "an event was made", err);
	}
	*out = e;
	return 0;
}

static void cuda_event_free(struct hr_event *e)
{
	if (!e)
		return;
	cudaSetDevice(e->device->ordinal);
	cudaEventDestroy(e->cuda);
	cudaGetLastError();
	free(e);
}

static int cuda_event_record(struct hr_event *e, struct hr_stream *s)
{
	int rc = enter(e->device);
	return rc ? rc : check(e->device, cudaEventRecord(e->cuda, s->cuda));
}

static int cuda_stream_wait(struct hr_stream *s, struct hr_event *e)
{
	int rc = enter(e->device);
	return rc ? rc : check(e->device, cudaStreamWaitEvent(s->cuda, e->cuda, 0));
}

static int cuda_event_wait(struct hr_event *e)
{
	int rc = enter(e->device);
	return rc ? rc : check(e->device, cudaEventSynchronize(e->cuda));
}

static int cuda_event_query(struct hr_event *e)
{
	int rc = enter(e->device);
	if (rc)
		return rc;
	cudaError_t error = cudaEventQuery(e->cuda);
	if (error == cudaErrorNotReady)
		return 0;
	rc = check(e->device, error);
	return rc ? rc : 1;
}

/* ---- Time ------------------------------------------------------------------ */

/* Record the anchor on a stream that is empty: it completes between two looks at
 * the host's clock, which should not be far apart. */
static int set_anchor_locked(struct cuda_device *d)
{
	for (int i = 0; i < ANCHOR_TRIES; i++) {
		uint64_t begin = hr__now_ns();
		int      rc = check(d, cudaEventRecord(d->anchor, d->clock_stream));
		if (!rc)
			rc = check(d, cudaEventSynchronize(d->anchor));
		uint64_t end = hr__now_ns();
		if (rc)
			return rc;
		d->anchor_ns = begin + (end - begin) / 2;
		if (end - begin < ANCHOR_SPAN_NS)
			break;
	}
	return 0;
}

static uint64_t cuda_event_time_ns(struct hr_event *e)
{
	struct cuda_device *d = e->device;
	float               ms = 0;
	uint64_t            at = hr__now_ns(); /* a failed device's events end now */
	if (enter(d))
		return at;
	pthread_mutex_lock(&d->clock_lock);
	if (!check(d, cudaEventElapsedTime(&ms, d->anchor, e->cuda))) {
		at = d->anchor_ns + (uint64_t)(int64_t)((double)ms * 1e6);
		if (ms > ANCHOR_PERIOD_MS)
			set_anchor_locked(d);
	}
	pthread_mutex_unlock(&d->clock_lock);
	return at;
}

/* ---- The device ------------------------------------------------------------ */

static void cuda_close(struct hr_device *device)
{
	struct cuda_device *d = cuda(device);
	while (d->pins)
		cuda_unpin(device, d->pins->memory);
	while (d->blocks)
		cuda_free(device, d->blocks->memory);
	cudaSetDevice(d->ordinal);
	if (d->anchor)
		cudaEventDestroy(d->anchor);
	if (d->clock_stream)
		cudaStreamDestroy(d->clock_stream);
	cudaGetLastError();
	pthread_mutex_destroy(&d->lock);
	pthread_mutex_destroy(&d->clock_lock);
	free(d);
}

static const struct hr_device_ops cuda_ops = {
    .alloc = cuda_alloc,
    .free = cuda_free,
    .pin = cuda_pin,
    .unpin = cuda_unpin,
    .memory = cuda_memory,
    .describe = cuda_describe,
    .stream_new = cuda_stream_new,
    .stream_free = cuda_stream_free,
    .event_new = cuda_event_new,
    .event_free = cuda_event_free,
    .event_record = cuda_event_record,
    .stream_wait = cuda_stream_wait,
    .event_wait = cuda_event_wait,
    .event_query = cuda_event_query,
    .event_time_ns = cuda_event_time_ns,
    .copy = cuda_copy,
    .close = cuda_close,
};

/* Can kernels and reads use the same memory, at the same address? */
static bool addresses_host(const struct cudaDeviceProp *p)
{
	return p->integrated && (p->pageableMemoryAccess || p->canUseHostPointerForRegisteredMem);
}

static int open_clock(struct cuda_device *d)
{
	int rc = enter(d);
	if (!rc)
		rc = check(d, cudaStreamCreateWithFlags(&d->clock_stream, cudaStreamNonBlocking));
	if (!rc)
		rc = check(d, cudaEventCreateWithFlags(&d->anchor, cudaEventDefault));
	return rc ? rc : set_anchor_locked(d);
}

int hr_device_cuda_open(struct hr_device **out, const struct hr_device_cuda_options *options,
                        struct hr_error *err)
{
	struct cudaDeviceProp prop;
	int                   rc = hr__cuda_find(options->ordinal, &prop, err);
	if (rc)
		return rc;
	struct cuda_device *d = hr__calloc(1, sizeof *d);
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
	rc = open_clock(d);
	if (rc) {
		fail_sentence(d, "it was opened", err);
		cuda_close(&d->base);
		return rc;
	}
	*out = &d->base;
	return 0;
}
