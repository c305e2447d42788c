/* What a person wants to know of a GPU: versions, its link to the host, and who
 * holds its memory.
 *
 * CUDA knows only how much is free. Who has the rest is NVML's to tell, which comes
 * with the driver: it is looked for when it is asked, and what it does not tell (in
 * a container it often sees no other process) stays unknown. Its few functions are
 * declared here, because its header belongs to a package of its own and its ABI
 * does not change. A GPU is found there by its place on the bus, since NVML does
 * not respect CUDA_VISIBLE_DEVICES. */
#include "kernels/device/device_cuda_facts.h"

#include "base/mem.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LIBRARY       "libnvidia-ml.so.1"
#define MAX_PROCESSES 64

struct nvml_device;
struct nvml_process { /* nvmlProcessInfo_t, versions 2 and 3 */
	unsigned           pid;
	unsigned long long bytes; /* all ones: not available */
	unsigned           gpu_instance, compute_instance;
};

typedef int list_fn(struct nvml_device *, unsigned *, struct nvml_process *);
typedef int link_fn(struct nvml_device *, unsigned *);

struct nvml {
	void *library;
	int (*init)(void);
	int (*shutdown)(void);
	int (*driver_version)(char *, unsigned);
	int (*device_by_bus_id)(const char *, struct nvml_device **);
	int (*process_name)(unsigned, char *, unsigned);
	list_fn *compute_processes, *graphics_processes;
	link_fn *link_gen, *link_gen_max, *link_width, *link_width_max;
};

/* False when there is no NVML, or not all of it. */
static bool open_nvml(struct nvml *n)
{
	const struct {
		const char *name;
		void      **at;
	} functions[] = {
	    {"nvmlInit_v2", (void **)&n->init},
	    {"nvmlShutdown", (void **)&n->shutdown},
	    {"nvmlSystemGetDriverVersion", (void **)&n->driver_version},
	    {"nvmlDeviceGetHandleByPciBusId_v2", (void **)&n->device_by_bus_id},
	    {"nvmlSystemGetProcessName", (void **)&n->process_name},
	    {"nvmlDeviceGetComputeRunningProcesses_v3", (void **)&n->compute_processes},
	    {"nvmlDeviceGetGraphicsRunningProcesses_v3", (void **)&n->graphics_processes},
	    {"nvmlDeviceGetCurrPcieLinkGeneration", (void **)&n->link_gen},
	    {"nvmlDeviceGetMaxPcieLinkGeneration", (void **)&n->link_gen_max},
	    {"nvmlDeviceGetCurrPcieLinkWidth", (void **)&n->link_width},
	    {"nvmlDeviceGetMaxPcieLinkWidth", (void **)&n->link_width_max},
	};
	n->library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	bool found = n->library != NULL;
	for (size_t i = 0; i < HR_COUNT_OF(functions) && found; i++)
		found = (*functions[i].at = dlsym(n->library, functions[i].name)) != NULL;
	if (found && !n->init())
		return true;
	if (n->library)
		dlclose(n->library);
	return false;
}

/* Keep the holders of most memory, largest first. */
static void add_holder(struct hr_device_facts *out, const struct hr_device_holder *holder)
{
	int n = (int)HR_COUNT_OF(out->holders), at = 0;
	for (int i = 0; i < out->n_holders; i++)
		if (out->holders[i].pid == holder->pid) /* in both lists, with the same bytes */
			return;
	while (at < out->n_holders && out->holders[at].bytes >= holder->bytes)
		at++;
	if (at == n)
		return;
	if (out->n_holders < n)
		out->n_holders++;
	memmove(&out->holders[at + 1], &out->holders[at], (size_t)(out->n_holders - 1 - at) * sizeof *holder);
	out->holders[at] = *holder;
}

static void list_holders(const struct nvml *n, list_fn *list, struct nvml_device *device,
                         struct hr_device_facts *out)
{
	struct nvml_process processes[MAX_PROCESSES];
	unsigned            count = MAX_PROCESSES;
	if (list(device, &count, processes))
		return;
	for (unsigned i = 0; i < count; i++) {
		struct hr_device_holder holder = {.pid = processes[i].pid};
		char                    path[256] = "";
		if (holder.pid == (unsigned)getpid())
			continue;
		holder.bytes = processes[i].bytes == ~0ull ? 0 : processes[i].bytes;
		if (n->process_name(holder.pid, path, sizeof path))
			path[0] = 0;
		const char *slash = strrchr(path, '/');
		snprintf(holder.name, sizeof holder.name, "%.*s", (int)sizeof holder.name - 1,
		         slash ? slash + 1 : path);
		add_holder(out, &holder);
	}
}

static void read_nvml(const char *bus_id, struct hr_device_facts *out)
{
	struct nvml         n = {0};
	struct nvml_device *device;
	if (!open_nvml(&n))
		return;
	if (n.driver_version(out->driver, sizeof out->driver))
		out->driver[0] = 0;
	if (!n.device_by_bus_id(bus_id, &device)) {
		n.link_gen(device, &out->link_gen);
		n.link_gen_max(device, &out->link_gen_max);
		n.link_width(device, &out->link_width);
		n.link_width_max(device, &out->link_width_max);
		list_holders(&n, n.compute_processes, device, out);
		list_holders(&n, n.graphics_processes, device, out);
	}
	n.shutdown();
	dlclose(n.library);
}

void hr__cuda_facts(int ordinal, struct hr_device_facts *out)
{
	struct cudaDeviceProp prop;
	char                  bus_id[32];
	*out = (struct hr_device_facts){0};
	cudaDriverGetVersion(&out->driver_version);
	cudaRuntimeGetVersion(&out->runtime_version);
	if (!cudaGetDeviceProperties(&prop, ordinal)) {
		out->major = prop.major;
		out->minor = prop.minor;
		snprintf(bus_id, sizeof bus_id, "%08x:%02x:%02x.0", prop.pciDomainID, prop.pciBusID,
		         prop.pciDeviceID);
		read_nvml(bus_id, out);
	}
	cudaGetLastError();
}
