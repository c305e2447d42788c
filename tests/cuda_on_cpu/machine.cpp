/* The machine: what it is, which calls fail, what is alive, and what is told
 * when the process ends. See runtime.h. */
#include "layer.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

namespace cuda_on_cpu
{

static thread_local cudaError_t last_error;
static thread_local int         device_of_thread;

static void set(Machine &m, const cuda_on_cpu_machine &is)
{
	m.is = is;
	m.held_bytes = 0;
	m.planned_call = m.planned_work = m.planned_hold = {};
	m.n_calls = m.n_work = 0;
	m.bytes_to_host = 0;
	m.n_ranges.clear();
	m.misuse.clear();
	m.link_free[0] = m.link_free[1] = {};
	m.sticky = cudaSuccess;
}

static void read_item(Machine &m, const char *key, const char *value)
{
	double number = atof(value);
	char   call[64];
	int    n = 0, error = 0;
	size_t mib = 0;
	if (!strcmp(key, "memory"))
		m.is.memory_bytes = (size_t)(number * 1048576);
	else if (!strcmp(key, "held"))
		m.held_bytes = (size_t)(number * 1048576);
	else if (!strcmp(key, "rate"))
		m.is.copy_gb_per_s = number;
	else if (!strcmp(key, "devices"))
		m.is.n_devices = (int)number;
	else if (!strcmp(key, "driver"))
		m.is.driver_version = (int)number;
	else if (!strcmp(key, "jitter"))
		m.is.jitter_us = (int)number;
	else if (!strcmp(key, "integrated"))
		m.is.integrated = number != 0;
	else if (!strcmp(key, "no_register"))
		m.is.no_register = number != 0;
	else if (!strcmp(key, "no_nvml"))
		m.is.no_nvml = number != 0;
	else if (!strcmp(key, "no_cublas"))
		m.is.no_cublas = number != 0;
	else if (!strcmp(key, "hold") && sscanf(value, "%63[^:]:%d:%zu", call, &n, &mib) == 3) {
		m.planned_hold = {call, n, cudaSuccess};
		m.planned_hold_bytes = mib << 20;
	} else if (!strcmp(key, "fail") && sscanf(value, "%63[^:]:%d:%d", call, &n, &error) == 3)
		m.planned_call = {call, n, (cudaError_t)error};
	else {
		fprintf(stderr,
		        "CUDA_ON_CPU: \"%s=%s\" is not understood; tests/cuda_on_cpu/runtime.h lists what is.\n", key,
		        value);
		_exit(99);
	}
}

static void read_environment(Machine &m)
{
	const char *text = getenv("CUDA_ON_CPU");
	std::string items = text ? text : "";
	for (char *save, *item = strtok_r(&items[0], ",", &save); item; item = strtok_r(nullptr, ",", &save)) {
		char *equals = strchr(item, '=');
		if (equals)
			*equals = 0;
		read_item(m, item, equals ? equals + 1 : "");
	}
}

static void tell_at_exit()
{
	Machine &m = machine();
	int      live = cuda_on_cpu_n_live();
	if (live)
		fprintf(stderr,
		        "CUDA on CPU: %zu allocations, %zu registrations, %zu streams, %zu events and %zu ranges are "
		        "still alive.\n",
		        m.allocations.size(), m.registrations.size(), m.streams.size(), m.events.size(),
		        m.ranges.size());
	else
		reap();
	if (!m.misuse.empty())
		fprintf(stderr, "CUDA on CPU: %s\n", m.misuse.c_str());
	if (live || !m.misuse.empty())
		_exit(99);
}

static Machine *start()
{
	auto               *m = new Machine();
	cuda_on_cpu_machine is;
	cuda_on_cpu_machine_init(&is);
	set(*m, is);
	read_environment(*m);
	atexit(tell_at_exit);
	return m;
}

/* Never destroyed: threads may outlive the destructors of static objects. */
Machine &machine()
{
	static Machine *m = start();
	return *m;
}

int current_device() { return device_of_thread; }

void misuse(const char *what)
{
	std::lock_guard<std::mutex> lock(machine().mutex);
	if (machine().misuse.empty())
		machine().misuse = what;
}

/* Errors after which CUDA answers every call with the same error. */
static bool sticks(cudaError_t error)
{
	switch (error) {
	case cudaErrorECCUncorrectable:
	case cudaErrorIllegalAddress:
	case cudaErrorAssert:
	case cudaErrorMisalignedAddress:
	case cudaErrorLaunchFailure:
		return true;
	default:
		return false;
	}
}

} // namespace cuda_on_cpu

using namespace cuda_on_cpu;

void cuda_on_cpu_machine_init(struct cuda_on_cpu_machine *out)
{
	*out = {};
	out->n_devices = 1;
	out->driver_version = CUDART_VERSION;
	out->major = 9;
	out->memory_bytes = (size_t)512 << 20;
}

int cuda_on_cpu_reset(const struct cuda_on_cpu_machine *is)
{
	int live = cuda_on_cpu_n_live();
	if (live)
		return live;
	reap();
	Machine                    &m = machine();
	std::lock_guard<std::mutex> lock(m.mutex);
	cuda_on_cpu_machine         usual;
	cuda_on_cpu_machine_init(&usual);
	set(m, is ? *is : usual);
	last_error = cudaSuccess;
	device_of_thread = 0;
	return 0;
}

void cuda_on_cpu_hold(size_t bytes)
{
	std::lock_guard<std::mutex> lock(machine().mutex);
	machine().held_bytes = bytes;
}

void cuda_on_cpu_hold_later(const char *call, int n, size_t bytes)
{
	std::lock_guard<std::mutex> lock(machine().mutex);
	machine().planned_hold = {call, n, cudaSuccess};
	machine().planned_hold_bytes = bytes;
}

void cuda_on_cpu_fail(const char *call, int n, cudaError_t error)
{
	std::lock_guard<std::mutex> lock(machine().mutex);
	machine().planned_call = {call ? call : "", n, error};
}

void cuda_on_cpu_fail_work(int n, cudaError_t error)
{
	std::lock_guard<std::mutex> lock(machine().mutex);
	machine().planned_work = {"", n, error};
}

uint64_t cuda_on_cpu_bytes_to_host() { return machine().bytes_to_host; }

int cuda_on_cpu_n_calls(void)
{
	std::lock_guard<std::mutex> lock(machine().mutex);
	return machine().n_calls;
}

int cuda_on_cpu_n_work(void)
{
	std::lock_guard<std::mutex> lock(machine().mutex);
	return machine().n_work;
}

int cuda_on_cpu_n_live(void)
{
	Machine                    &m = machine();
	std::lock_guard<std::mutex> lock(m.mutex);
	return (int)(m.allocations.size() + m.registrations.size() + m.streams.size() + m.events.size() +
	             m.ranges.size());
}

const char *cuda_on_cpu_misuse(void)
{
	std::lock_guard<std::mutex> lock(machine().mutex);
	return machine().misuse.c_str();
}

cudaError_t cuda_on_cpu_enter(const char *call)
{
	Machine    &m = machine();
	cudaError_t error = cudaSuccess;
	{
		std::lock_guard<std::mutex> lock(m.mutex);
		m.n_calls++;
		if (m.planned_call.meets(call))
			error = m.planned_call.error;
		if (m.planned_hold.meets(call))
			m.held_bytes = m.planned_hold_bytes;
	}
	if (error && sticks(error))
		cuda_on_cpu_raise(error);
	if (m.sticky)
		error = (cudaError_t)m.sticky.load();
	return cuda_on_cpu_return(error);
}

void cuda_on_cpu_raise(cudaError_t error)
{
	int none = cudaSuccess;
	machine().sticky.compare_exchange_strong(none, error);
}

cudaError_t cuda_on_cpu_return(cudaError_t error)
{
	if (error && error != cudaErrorNotReady)
		last_error = error;
	return error;
}

/* ---- Errors ---------------------------------------------------------------- */

const char *cudaGetErrorName(cudaError_t error)
{
	switch (error) {
#define CUDA_ON_CPU_X(name, value, text)                                                                     \
	case name:                                                                                               \
		return #name;
		CUDA_ON_CPU_ERRORS(CUDA_ON_CPU_X)
#undef CUDA_ON_CPU_X
	}
	return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error)
{
	switch (error) {
#define CUDA_ON_CPU_X(name, value, text)                                                                     \
	case name:                                                                                               \
		return text;
		CUDA_ON_CPU_ERRORS(CUDA_ON_CPU_X)
#undef CUDA_ON_CPU_X
	}
	return "unrecognized error code";
}

cudaError_t cudaPeekAtLastError(void)
{
	int sticky = machine().sticky;
	return sticky ? (cudaError_t)sticky : last_error;
}

cudaError_t cudaGetLastError(void)
{
	cudaError_t error = cudaPeekAtLastError();
	last_error = cudaSuccess;
	return error;
}

/* ---- Devices --------------------------------------------------------------- */

/* What every call but the versions answers on a machine that has no GPU to offer. */
static cudaError_t enter_device(const char *call)
{
	cudaError_t error = cuda_on_cpu_enter(call);
	Machine    &m = machine();
	if (!error && m.is.driver_version < CUDART_VERSION)
		error = cudaErrorInsufficientDriver;
	if (!error && !m.is.n_devices)
		error = cudaErrorNoDevice;
	return cuda_on_cpu_return(error);
}

cudaError_t cudaDriverGetVersion(int *version)
{
	cudaError_t error = cuda_on_cpu_enter(__func__);
	*version = machine().is.driver_version;
	return error;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
	cudaError_t error = cuda_on_cpu_enter(__func__);
	*version = CUDART_VERSION;
	return error;
}

cudaError_t cudaGetDeviceCount(int *count)
{
	cudaError_t error = enter_device(__func__);
	*count = error ? 0 : machine().is.n_devices;
	return error;
}

cudaError_t cudaGetDevice(int *device)
{
	*device = current_device();
	return enter_device(__func__);
}

cudaError_t cudaSetDevice(int device)
{
	cudaError_t error = enter_device(__func__);
	if (!error && (device < 0 || device >= machine().is.n_devices))
		error = cudaErrorInvalidDevice;
	if (!error)
		device_of_thread = device;
	return cuda_on_cpu_return(error);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int device)
{
	cudaError_t                error = enter_device(__func__);
	const cuda_on_cpu_machine &is = machine().is;
	if (!error && (device < 0 || device >= is.n_devices))
		error = cudaErrorInvalidDevice;
	if (error)
		return cuda_on_cpu_return(error);
	*prop = {};
	snprintf(prop->name, sizeof prop->name, "CUDA on CPU %d", device);
	prop->totalGlobalMem = is.memory_bytes;
	prop->sharedMemPerBlockOptin = 99 << 10;
	prop->major = is.major;
	prop->minor = is.minor;
	prop->multiProcessorCount = 4;
	prop->warpSize = 32;
	prop->integrated = is.integrated;
	prop->pciBusID = device + 1;
	prop->pageableMemoryAccess = is.integrated;
	prop->canUseHostPointerForRegisteredMem = 1;
	return error;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attr, int device)
{
	struct cudaDeviceProp prop;
	cudaError_t           error = cudaGetDeviceProperties(&prop, device);
	if (error)
		return error;
	switch (attr) {
	case cudaDevAttrMultiProcessorCount:
		*value = prop.multiProcessorCount;
		break;
	case cudaDevAttrIntegrated:
		*value = prop.integrated;
		break;
	case cudaDevAttrComputeCapabilityMajor:
		*value = prop.major;
		break;
	case cudaDevAttrComputeCapabilityMinor:
		*value = prop.minor;
		break;
	case cudaDevAttrPageableMemoryAccess:
		*value = prop.pageableMemoryAccess;
		break;
	case cudaDevAttrCanUseHostPointerForRegisteredMem:
		*value = prop.canUseHostPointerForRegisteredMem;
		break;
	case cudaDevAttrMaxSharedMemoryPerBlockOptin:
		*value = (int)prop.sharedMemPerBlockOptin;
		break;
	}
	return cudaSuccess;
}
