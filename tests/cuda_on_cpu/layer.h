/* What the files of the runtime half share. One mutex guards the machine: what
 * lives, what is counted, what is to fail. It is a leaf: nothing is called and
 * nothing waited for while it is held. */
#ifndef CUDA_ON_CPU_LAYER_H
#define CUDA_ON_CPU_LAYER_H

#include "runtime.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace cuda_on_cpu
{

using Clock = std::chrono::steady_clock;

struct Allocation {
	size_t bytes;
	int    device;
	void  *map; /* with its guard pages */
	size_t map_bytes;
};

/* An asynchronous copy between put and done, seen from its host memory. */
struct Transfer {
	const char *host;
	size_t      bytes;
	bool        writes_host;
};

/* What is to happen at the n-th call of a name, or at the n-th work. */
struct Planned {
	std::string call; /* "": any */
	int         left; /* 0: nothing planned */
	cudaError_t error;

	/* Is it now? */
	bool meets(const char *name) { return left && (call.empty() || call == name) && --left == 0; }
};

struct Machine {
	std::mutex                   mutex; /* protects all that follows */
	cuda_on_cpu_machine          is;
	size_t                       held_bytes;
	std::map<char *, Allocation> allocations;
	std::map<char *, size_t>     registrations;
	std::list<Transfer>          transfers;
	std::map<cudaStream_t, int>  streams; /* and their devices */
	std::map<cudaEvent_t, int>   events;
	std::map<std::string, int>   n_ranges; /* of NVTX, by their first word, since reset */
	std::set<uint64_t>           ranges;   /* begun and not ended */
	uint64_t                     last_range;
	std::vector<cudaStream_t>    destroyed; /* streams whose threads may still be running */
	Planned                      planned_call, planned_work, planned_hold;
	size_t                       planned_hold_bytes;
	int                          n_calls, n_work;
	std::string                  misuse;
	Clock::time_point            link_free[2];  /* when each direction is done with what it was given */
	std::atomic<uint64_t>        bytes_to_host; /* copied since reset */
	std::atomic<int>             sticky;        /* a cudaError_t; readable without the mutex */
};

Machine &machine();
int      current_device();
void     misuse(const char *what);

/* Put work on a stream's queue. A task that is no mark (record, wait) is skipped
 * once an error sticks. cudaErrorInvalidResourceHandle: there is no such stream. */
cudaError_t put(cudaStream_t stream, std::function<void()> task, bool is_mark);
/* Wait until everything put on the stream, or on all of them, has run. */
void wait_for(cudaStream_t stream);
void wait_for_all();
/* By name, or NULL. */
void *nvml_function(const char *name);
void *cublas_function(const char *name);
/* Join the threads of destroyed streams. */
void reap();

} // namespace cuda_on_cpu
#endif
