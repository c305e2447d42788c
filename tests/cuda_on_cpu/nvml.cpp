/* NVML of the layer, as libraries.cpp hands it out. It names two processes, this one and, while
 * cuda_on_cpu_hold() says so, "hog"; and the link wakes up only while copies run, as links do. */
#include "layer.h"

#include <cstring>
#include <unistd.h>

using namespace cuda_on_cpu;

static int hog_pid = 4242;

struct Process {
	unsigned           pid;
	unsigned long long bytes;
	unsigned           gpu_instance, compute_instance;
};

static int succeed() { return 0; }

static int driver_version(char *text, unsigned capacity)
{
	snprintf(text, capacity, "%d.00", 450 + machine().is.driver_version / 100);
	return 0;
}

static int device_by_bus_id(const char *bus_id, void **device)
{
	static char devices[16];
	unsigned    bus = 0;
	if (sscanf(bus_id, "%*x:%x", &bus) != 1 || bus < 1 || bus > (unsigned)machine().is.n_devices)
		return 6; /* NVML_ERROR_NOT_FOUND */
	*device = &devices[bus - 1];
	return 0;
}

static int process_name(unsigned pid, char *text, unsigned capacity)
{
	snprintf(text, capacity, "%s", pid == (unsigned)hog_pid ? "/usr/bin/hog" : "/usr/bin/this");
	return 0;
}

static int compute_processes(void *, unsigned *count, Process *out)
{
	Machine                    &m = machine();
	std::lock_guard<std::mutex> lock(m.mutex);
	Process  all[2] = {{(unsigned)getpid(), 0, 0, 0}, {(unsigned)hog_pid, m.held_bytes, 0, 0}};
	unsigned n = m.held_bytes ? 2 : 1;
	for (auto &a : m.allocations)
		all[0].bytes += a.second.bytes;
	if (*count < n)
		return 7; /* NVML_ERROR_INSUFFICIENT_SIZE */
	memcpy(out, all, n * sizeof *out);
	*count = n;
	return 0;
}

static int no_processes(void *, unsigned *count, Process *)
{
	*count = 0;
	return 0;
}

static int link_gen(void *, unsigned *gen)
{
	std::lock_guard<std::mutex> lock(machine().mutex);
	*gen = machine().transfers.empty() ? 1 : 4;
	return 0;
}

static int link_gen_max(void *, unsigned *gen) { return *gen = 4, 0; }
static int link_width(void *, unsigned *width) { return *width = 8, 0; }
static int link_width_max(void *, unsigned *width) { return *width = 16, 0; }

void *cuda_on_cpu::nvml_function(const char *name)
{
	static const struct {
		const char *name;
		void       *function;
	} functions[] = {
	    {"nvmlInit_v2", (void *)succeed},
	    {"nvmlShutdown", (void *)succeed},
	    {"nvmlSystemGetDriverVersion", (void *)driver_version},
	    {"nvmlDeviceGetHandleByPciBusId_v2", (void *)device_by_bus_id},
	    {"nvmlSystemGetProcessName", (void *)process_name},
	    {"nvmlDeviceGetComputeRunningProcesses_v3", (void *)compute_processes},
	    {"nvmlDeviceGetGraphicsRunningProcesses_v3", (void *)no_processes},
	    {"nvmlDeviceGetCurrPcieLinkGeneration", (void *)link_gen},
	    {"nvmlDeviceGetMaxPcieLinkGeneration", (void *)link_gen_max},
	    {"nvmlDeviceGetCurrPcieLinkWidth", (void *)link_width},
	    {"nvmlDeviceGetMaxPcieLinkWidth", (void *)link_width_max},
	};
	for (auto &f : functions)
		if (!strcmp(f.name, name))
			return f.function;
	return nullptr;
}
