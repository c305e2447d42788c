/* The part of the CUDA runtime that Headrace calls, for the CUDA-on-CPU layer:
 * the names and numbers of NVIDIA's header of that name, so that the same source
 * compiles against either. What the calls do here is in runtime.h. */
#ifndef CUDA_ON_CPU_CUDA_RUNTIME_API_H
#define CUDA_ON_CPU_CUDA_RUNTIME_API_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CUDART_VERSION 13000

/* X(name, value, text) */
#define CUDA_ON_CPU_ERRORS(X)                                                                                \
	X(cudaSuccess, 0, "no error")                                                                            \
	X(cudaErrorInvalidValue, 1, "invalid argument")                                                          \
	X(cudaErrorMemoryAllocation, 2, "out of memory")                                                         \
	X(cudaErrorInitializationError, 3, "initialization error")                                               \
	X(cudaErrorInvalidConfiguration, 9, "invalid configuration argument")                                    \
	X(cudaErrorInvalidDevicePointer, 17, "invalid device pointer")                                           \
	X(cudaErrorInvalidMemcpyDirection, 21, "invalid copy direction for memcpy")                              \
	X(cudaErrorStubLibrary, 34, "CUDA driver is a stub library")                                             \
	X(cudaErrorInsufficientDriver, 35, "CUDA driver version is insufficient for CUDA runtime version")       \
	X(cudaErrorDevicesUnavailable, 46, "CUDA-capable device(s) is/are busy or unavailable")                  \
	X(cudaErrorNoDevice, 100, "no CUDA-capable device is detected")                                          \
	X(cudaErrorInvalidDevice, 101, "invalid device ordinal")                                                 \
	X(cudaErrorNoKernelImageForDevice, 209, "no kernel image is available for execution on the device")      \
	X(cudaErrorECCUncorrectable, 214, "uncorrectable ECC error encountered")                                 \
	X(cudaErrorInvalidResourceHandle, 400, "invalid resource handle")                                        \
	X(cudaErrorNotReady, 600, "device not ready")                                                            \
	X(cudaErrorIllegalAddress, 700, "an illegal memory access was encountered")                              \
	X(cudaErrorLaunchOutOfResources, 701, "too many resources requested for launch")                         \
	X(cudaErrorAssert, 710, "device-side assert triggered")                                                  \
	X(cudaErrorHostMemoryAlreadyRegistered, 712,                                                             \
	  "part or all of the requested memory range is already mapped")                                         \
	X(cudaErrorHostMemoryNotRegistered, 713, "pointer does not correspond to a registered memory region")    \
	X(cudaErrorMisalignedAddress, 716, "misaligned address")                                                 \
	X(cudaErrorLaunchFailure, 719, "unspecified launch failure")                                             \
	X(cudaErrorNotSupported, 801, "operation not supported")                                                 \
	X(cudaErrorUnknown, 999, "unknown error")

enum cudaError {
#define CUDA_ON_CPU_X(name, value, text) name = value,
	CUDA_ON_CPU_ERRORS(CUDA_ON_CPU_X)
#undef CUDA_ON_CPU_X
};
typedef enum cudaError cudaError_t;

typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st  *cudaEvent_t;

enum cudaMemcpyKind {
	cudaMemcpyHostToHost = 0,
	cudaMemcpyHostToDevice = 1,
	cudaMemcpyDeviceToHost = 2,
	cudaMemcpyDeviceToDevice = 3,
	cudaMemcpyDefault = 4,
};

enum cudaDeviceAttr {
	cudaDevAttrMultiProcessorCount = 16,
	cudaDevAttrIntegrated = 18,
	cudaDevAttrComputeCapabilityMajor = 75,
	cudaDevAttrComputeCapabilityMinor = 76,
	cudaDevAttrPageableMemoryAccess = 88,
	cudaDevAttrCanUseHostPointerForRegisteredMem = 91,
	cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};

struct cudaDeviceProp {
	char   name[256];
	size_t totalGlobalMem;
	size_t sharedMemPerBlockOptin;
	int    major, minor;
	int    multiProcessorCount;
	int    warpSize;
	int    integrated;
	int    pciDomainID, pciBusID, pciDeviceID;
	int    pageableMemoryAccess;
	int    canUseHostPointerForRegisteredMem;
};

#define cudaHostRegisterDefault  0x00
#define cudaHostRegisterPortable 0x01
#define cudaHostRegisterMapped   0x02
#define cudaStreamNonBlocking    0x01
#define cudaEventDefault         0x00
#define cudaEventBlockingSync    0x01
#define cudaEventDisableTiming   0x02

const char *cudaGetErrorName(cudaError_t error);
const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError(void);
cudaError_t cudaPeekAtLastError(void);

cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int device);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attr, int device);

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes);
cudaError_t cudaMalloc(void **out, size_t bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaHostRegister(void *base, size_t bytes, unsigned flags);
cudaError_t cudaHostUnregister(void *base);
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t stream);

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end);

#ifdef __cplusplus
}
#endif
#endif
