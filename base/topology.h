/* Where threads and memory should live on this machine (hwloc).
 *
 * Loaded once per process, on first use, thread-safe; every function degrades
 * to a harmless answer (one node, no binding) where hwloc can tell nothing. */
#ifndef HR_BASE_TOPOLOGY_H
#define HR_BASE_TOPOLOGY_H

#include <stddef.h>

/* Physical cores this process may use (cgroup and affinity respected); >= 1. */
int hr_topology_n_cores(void);

/* Bind the calling thread to core `index` modulo hr_topology_n_cores().
 * 0, or HR_EUNSUPPORTED when the system refuses (the thread then floats). */
int hr_topology_bind_thread_to_core(int index);

/* Undo it: let the calling thread run on every allowed core again. */
void hr_topology_unbind_thread(void);

/* NUMA node next to the PCI device "dddd:bb:dd.f" (lower case hex); -1 when
 * unknown or when there is only one node. */
int hr_topology_node_of_pci(const char *bus_id);

/* Ask that [base, base+bytes) live on `node`; -1 is "anywhere" and succeeds. */
int hr_topology_bind_memory(void *base, size_t bytes, int node);

/* Number of NUMA nodes with memory; >= 1. */
int hr_topology_n_nodes(void);

#endif
