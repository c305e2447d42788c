/* A profiler that watches through NVTX, where the machine has one: it counts ranges by
 * the first word of their names. One that is ended twice is a misuse, and one
 * that is never ended is still alive. */
#include "layer.h"
#include "nvtx3/nvToolsExt.h"

using namespace cuda_on_cpu;

struct nvtxDomainRegistration_st {
	std::string name;
};

nvtxDomainHandle_t nvtxDomainCreateA(const char *name)
{
	std::lock_guard<std::mutex> lock(machine().mutex);
	return machine().is.profiler ? new nvtxDomainRegistration_st{name} : nullptr;
}

void nvtxDomainDestroy(nvtxDomainHandle_t domain) { delete domain; }

nvtxRangeId_t nvtxDomainRangeStartEx(nvtxDomainHandle_t, const nvtxEventAttributes_t *range)
{
	Machine                    &m = machine();
	std::lock_guard<std::mutex> lock(m.mutex);
	std::string                 name = range->message.ascii;
	m.n_ranges[name.substr(0, name.find(' '))]++;
	m.ranges.insert(++m.last_range);
	return m.last_range;
}

void nvtxDomainRangeEnd(nvtxDomainHandle_t, nvtxRangeId_t id)
{
	size_t n;
	{
		std::lock_guard<std::mutex> lock(machine().mutex);
		n = machine().ranges.erase(id);
	}
	if (!n)
		misuse("A range of NVTX was ended that was not begun.");
}

int cuda_on_cpu_n_ranges(const char *what)
{
	std::lock_guard<std::mutex> lock(machine().mutex);
	auto                        found = machine().n_ranges.find(what);
	return found == machine().n_ranges.end() ? 0 : found->second;
}
