/* The part of NVTX that Headrace calls, for the CUDA-on-CPU layer: the names and
 * numbers of NVIDIA's header of that name. Who watches is in nvtx.cpp. */
#ifndef CUDA_ON_CPU_NVTOOLSEXT_H
#define CUDA_ON_CPU_NVTOOLSEXT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NVTX_VERSION            3
#define NVTX_MESSAGE_TYPE_ASCII 1

typedef struct nvtxDomainRegistration_st *nvtxDomainHandle_t;
typedef uint64_t                          nvtxRangeId_t;

typedef struct nvtxEventAttributes_v2 {
	uint16_t version, size;
	uint32_t category;
	int32_t  colorType;
	uint32_t color;
	int32_t  payloadType, reserved0;
	uint64_t payload;
	int32_t  messageType;
	union {
		const char *ascii;
	} message;
} nvtxEventAttributes_t;

#define NVTX_EVENT_ATTRIB_STRUCT_SIZE ((uint16_t)sizeof(nvtxEventAttributes_t))

nvtxDomainHandle_t nvtxDomainCreateA(const char *name); /* NULL: there is no profiler */
void               nvtxDomainDestroy(nvtxDomainHandle_t domain);
nvtxRangeId_t      nvtxDomainRangeStartEx(nvtxDomainHandle_t domain, const nvtxEventAttributes_t *range);
void               nvtxDomainRangeEnd(nvtxDomainHandle_t domain, nvtxRangeId_t id);

#ifdef __cplusplus
}
#endif
#endif
