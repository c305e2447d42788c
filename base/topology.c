/* Where threads and memory should live on this machine, asked of hwloc.
 *
 * One topology per process, loaded on first use and never freed, because the
 * answers are wanted until the last thread has ended. It is restricted to the
 * processors that this process is allowed to use, so that cgroups and affinity
 * need no further thought: "core i" is the i-th core that is ours. A CPU quota
 * (docker --cpus) is not a set of processors and unknown to hwloc; it is read
 * from the cgroup and lowers the number of cores that threads are made for.
 *
 * Devices are looked up on the PCI bus only; no driver is touched. Whatever
 * hwloc can't tell becomes the harmless answer: one node, no binding. */
#include "base/topology.h"

#include "headrace/error.h"

#include <hwloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

static pthread_once_t   once = PTHREAD_ONCE_INIT;
static hwloc_topology_t topology;
static bool             loaded;

static void load(void)
{
	if (hwloc_topology_init(&topology))
		return;
	hwloc_topology_set_flags(topology,
	                         HWLOC_TOPOLOGY_FLAG_IS_THISSYSTEM | HWLOC_TOPOLOGY_FLAG_RESTRICT_TO_CPUBINDING);
	hwloc_topology_set_type_filter(topology, HWLOC_OBJ_PCI_DEVICE, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
	loaded = !hwloc_topology_load(topology);
}

static bool have_topology(void)
{
	pthread_once(&once, load);
	return loaded;
}

/* Processors' worth of time that the cgroup grants, rounded up; 0: no limit known. */
static int cpu_quota(void)
{
	static const char *const files[][2] = {
	    {"/sys/fs/cgroup/cpu.max", NULL}, /* v2: "quota period" or "max period" */
	    {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"},
	};
	long long quota = 0, period = 0;
	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
		FILE *f = fopen(files[i][0], "re");
		if (!f)
			continue;
		int n = fscanf(f, "%lld %lld", &quota, &period);
		fclose(f);
		if (n == 1 && files[i][1] && (f = fopen(files[i][1], "re"))) {
			n += fscanf(f, "%lld", &period);
			fclose(f);
		}
		if (n == 2 && quota > 0 && period > 0)
			return (int)((quota + period - 1) / period);
	}
	return 0;
}

static int count_cores(void)
{
	int n = have_topology() ? hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE) : 0;
	if (n < 1) /* some virtual machines tell of processors, not of cores */
		n = loaded ? hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PU) : 0;
	return n < 1 ? 1 : n;
}

int hr_topology_n_cores(void)
{
	int n = count_cores(), quota = cpu_quota();
	return quota && quota < n ? quota : n;
}

int hr_topology_bind_thread_to_core(int index)
{
	if (!have_topology() || index < 0)
		return HR_EUNSUPPORTED;
	unsigned    i = (unsigned)(index % hr_topology_n_cores());
	hwloc_obj_t core = hwloc_get_obj_by_type(topology, HWLOC_OBJ_CORE, i);
	if (!core)
		core = hwloc_get_obj_by_type(topology, HWLOC_OBJ_PU, i);
	if (!core || hwloc_set_cpubind(topology, core->cpuset, HWLOC_CPUBIND_THREAD))
		return HR_EUNSUPPORTED;
	return 0;
}

void hr_topology_unbind_thread(void)
{
	if (have_topology())
		hwloc_set_cpubind(topology, hwloc_topology_get_topology_cpuset(topology), HWLOC_CPUBIND_THREAD);
}

int hr_topology_node_of_pci(const char *bus_id)
{
	if (!bus_id || hr_topology_n_nodes() < 2)
		return -1;
	hwloc_obj_t device = hwloc_get_pcidev_by_busidstring(topology, bus_id);
	hwloc_obj_t place = device ? hwloc_get_non_io_ancestor_obj(topology, device) : NULL;
	if (!place || !place->nodeset || hwloc_bitmap_weight(place->nodeset) != 1)
		return -1; /* unknown, or as near to one node as to another */
	return hwloc_bitmap_first(place->nodeset);
}

int hr_topology_bind_memory(void *base, size_t bytes, int node)
{
	if (node < 0)
		return 0;
	hwloc_obj_t where = have_topology() ? hwloc_get_numanode_obj_by_os_index(topology, (unsigned)node) : NULL;
	/* Not HWLOC_MEMBIND_STRICT: a full node should cost speed, not the program. */
	if (!where || hwloc_set_area_membind(topology, base, bytes, where->nodeset, HWLOC_MEMBIND_BIND,
	                                     HWLOC_MEMBIND_BYNODESET))
		return HR_EUNSUPPORTED;
	return 0;
}

int hr_topology_n_nodes(void)
{
	int n = 0;
	if (have_topology())
		for (hwloc_obj_t node = NULL;
		     (node = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, node));)
			n += node->attr->numanode.local_memory > 0;
	return n < 1 ? 1 : n;
}
