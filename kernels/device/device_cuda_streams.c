/* Streams of an NVIDIA GPU, and the events that order them and tell their times.
 *
 * Streams are non-blocking: nothing here or in the kernels uses the default
 * stream, so nothing ever waits for the whole device while passes run.
 *
 * All events carry time stamps: they cost less than a microsecond, and chunks take
 * hundreds. CUDA tells only how far two events are apart, so there is an anchor, an
 * event whose time on the host's clock is known: it is set anew every second,
 * because the clocks drift and the distance is a float. Waiting for an event sleeps;
 * only the anchor's wait, microseconds long, spins. */
#include "kernels/device/device_cuda_internal.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"

#define ANCHOR_PERIOD_MS 1000.0f
#define ANCHOR_TRIES     3
#define ANCHOR_SPAN_NS   20000

struct hr_stream {
	struct hr__cuda_device *device;
	cudaStream_t            cuda;
};

struct hr_event {
	struct hr__cuda_device *device;
	cudaEvent_t             cuda;
};

/* ---- Streams --------------------------------------------------------------- */

int hr__cuda_stream_new(struct hr_device *device, struct hr_stream **out, bool compute, struct hr_error *err)
{
	struct hr__cuda_device *d = hr__cuda(device);
	struct hr_stream       *s = hr__calloc(1, sizeof *s);
	(void)compute; /* any stream does both */
	if (!s)
		return hr__fail(err, HR_ENOMEM, "There is no memory for a stream.");
	s->device = d;
	if (hr__cuda_enter(d) || hr__cuda_result(d, cudaStreamCreateWithFlags(&s->cuda, cudaStreamNonBlocking))) {
		free(s);
		return hr__cuda_fail_sentence(d, "a stream was made", err);
	}
	*out = s;
	return 0;
}

void hr__cuda_stream_free(struct hr_stream *s)
{
	if (!s)
		return;
	cudaSetDevice(s->device->ordinal);
	hr__cuda_result(s->device, cudaStreamSynchronize(s->cuda));
	cudaStreamDestroy(s->cuda);
	cudaGetLastError();
	free(s);
}

int hr__cuda_copy(struct hr_stream *s, void *dst, const void *src, size_t bytes)
{
	int rc = hr__cuda_enter(s->device);
	return rc ? rc : hr__cuda_result(s->device, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, s->cuda));
}

void *hr_cuda_stream(struct hr_stream *s)
{
	hr__cuda_enter(s->device);
	return s->cuda;
}

int hr_cuda_check(struct hr_stream *s, int error, const char *error_text)
{
	if (error)
		return hr__cuda_fail(s->device, error, error_text);
	return atomic_load(&s->device->failed) ? HR_EDEVICE : 0;
}

/* ---- Events ---------------------------------------------------------------- */

int hr__cuda_event_new(struct hr_device *device, struct hr_event **out, struct hr_error *err)
{
	struct hr__cuda_device *d = hr__cuda(device);
	struct hr_event        *e = hr__calloc(1, sizeof *e);
	if (!e)
		return hr__fail(err, HR_ENOMEM, "There is no memory for an event.");
	e->device = d;
	if (hr__cuda_enter(d) || hr__cuda_result(d, cudaEventCreateWithFlags(&e->cuda, cudaEventBlockingSync))) {
		free(e);
		return hr__cuda_fail_sentence(d, "an event was made", err);
	}
	*out = e;
	return 0;
}

void hr__cuda_event_free(struct hr_event *e)
{
	if (!e)
		return;
	cudaSetDevice(e->device->ordinal);
	cudaEventDestroy(e->cuda);
	cudaGetLastError();
	free(e);
}

int hr__cuda_event_record(struct hr_event *e, struct hr_stream *s)
{
	int rc = hr__cuda_enter(e->device);
	return rc ? rc : hr__cuda_result(e->device, cudaEventRecord(e->cuda, s->cuda));
}

int hr__cuda_stream_wait(struct hr_stream *s, struct hr_event *e)
{
	int rc = hr__cuda_enter(e->device);
	return rc ? rc : hr__cuda_result(e->device, cudaStreamWaitEvent(s->cuda, e->cuda, 0));
}

int hr__cuda_event_wait(struct hr_event *e)
{
	int rc = hr__cuda_enter(e->device);
	return rc ? rc : hr__cuda_result(e->device, cudaEventSynchronize(e->cuda));
}

int hr__cuda_event_query(struct hr_event *e)
{
	int rc = hr__cuda_enter(e->device);
	if (rc)
		return rc;
	cudaError_t error = cudaEventQuery(e->cuda);
	if (error == cudaErrorNotReady)
		return 0;
	rc = hr__cuda_result(e->device, error);
	return rc ? rc : 1;
}

/* ---- Time ------------------------------------------------------------------ */

/* Record the anchor on a stream that is empty: it completes between two looks at
 * the host's clock, which should not be far apart. */
static int set_anchor_locked(struct hr__cuda_device *d)
{
	for (int i = 0; i < ANCHOR_TRIES; i++) {
		uint64_t begin = hr__now_ns();
		int      rc = hr__cuda_result(d, cudaEventRecord(d->anchor, d->clock_stream));
		if (!rc)
			rc = hr__cuda_result(d, cudaEventSynchronize(d->anchor));
		uint64_t end = hr__now_ns();
		if (rc)
			return rc;
		d->anchor_ns = begin + (end - begin) / 2;
		if (end - begin < ANCHOR_SPAN_NS)
			break;
	}
	return 0;
}

uint64_t hr__cuda_event_time_ns(struct hr_event *e)
{
	struct hr__cuda_device *d = e->device;
	float                   ms = 0;
	uint64_t                at = hr__now_ns(); /* a failed device's events end now */
	if (hr__cuda_enter(d))
		return at;
	pthread_mutex_lock(&d->clock_lock);
	if (!hr__cuda_result(d, cudaEventElapsedTime(&ms, d->anchor, e->cuda))) {
		at = d->anchor_ns + (uint64_t)(int64_t)((double)ms * 1e6);
		if (ms > ANCHOR_PERIOD_MS)
			set_anchor_locked(d);
	}
	pthread_mutex_unlock(&d->clock_lock);
	return at;
}

int hr__cuda_open_clock(struct hr__cuda_device *d)
{
	int rc = hr__cuda_enter(d);
	if (!rc)
		rc = hr__cuda_result(d, cudaStreamCreateWithFlags(&d->clock_stream, cudaStreamNonBlocking));
	if (!rc)
		rc = hr__cuda_result(d, cudaEventCreateWithFlags(&d->anchor, cudaEventDefault));
	return rc ? rc : set_anchor_locked(d);
}

void hr__cuda_close_clock(struct hr__cuda_device *d)
{
	if (d->anchor)
		cudaEventDestroy(d->anchor);
	if (d->clock_stream)
		cudaStreamDestroy(d->clock_stream);
}
