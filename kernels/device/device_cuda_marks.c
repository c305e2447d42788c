/* What Nsight shows above the kernels and copies: ranges of NVTX, in a domain of our own.
 *
 * Ranges are told when work is put on a stream, as they begin and end; Nsight itself
 * finds the work on the GPU that was put there meanwhile. They are of the kind that may
 * end on another thread, because a read does.
 *
 * NVTX is a header of the toolkit. It looks for a profiler once, when the domain is made;
 * where there is none, there is no domain, and a range costs a comparison. Without
 * the header there are no ranges. */
#include "kernels/device/device_cuda_internal.h"

#include <stdio.h>

#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>

void hr__cuda_open_marks(struct hr__cuda_device *d) { d->marks = nvtxDomainCreateA("headrace"); }

void hr__cuda_close_marks(struct hr__cuda_device *d)
{
	if (d->marks)
		nvtxDomainDestroy(d->marks);
}

uint64_t hr__cuda_mark_begin(struct hr_device *device, const char *what, const char *name)
{
	nvtxDomainHandle_t domain = hr__cuda(device)->marks;
	if (!domain)
		return 0;
	char text[96];
	snprintf(text, sizeof text, "%s %s", what, name);
	nvtxEventAttributes_t range = {
	    .version = NVTX_VERSION,
	    .size = NVTX_EVENT_ATTRIB_STRUCT_SIZE,
	    .messageType = NVTX_MESSAGE_TYPE_ASCII,
	    .message.ascii = text,
	};
	return nvtxDomainRangeStartEx(domain, &range);
}

void hr__cuda_mark_end(struct hr_device *device, uint64_t mark)
{
	nvtxDomainHandle_t domain = hr__cuda(device)->marks;
	if (domain)
		nvtxDomainRangeEnd(domain, mark);
}

#else

void hr__cuda_open_marks(struct hr__cuda_device *d) { (void)d; }
void hr__cuda_close_marks(struct hr__cuda_device *d) { (void)d; }

uint64_t hr__cuda_mark_begin(struct hr_device *device, const char *what, const char *name)
{
	(void)device, (void)what, (void)name;
	return 0;
}

void hr__cuda_mark_end(struct hr_device *device, uint64_t mark) { (void)device, (void)mark; }

#endif
