/* Memory of the layer: allocations, registrations and the copies between them. */
#include "layer.h"

#include <cstring>
#include <sys/mman.h>

namespace cuda_on_cpu
{

static const size_t PAGE = 4096, ALIGN = 256;
static const int    POISON = 0xFF; /* a NaN in every float type */

static size_t round_up(size_t bytes, size_t align) { return (bytes + align - 1) / align * align; }

static size_t allocated_locked(int device)
{
	size_t sum = 0;
	for (auto &entry : machine().allocations)
		sum += entry.second.device == device ? entry.second.bytes : 0;
	return sum;
}

static size_t free_bytes_locked(int device)
{
	size_t taken = machine().held_bytes + allocated_locked(device);
	return taken < machine().is.memory_bytes ? machine().is.memory_bytes - taken : 0;
}

/* Memory between two guard pages, as near to the second as alignment allows. Every
 * other allocation is moved down by the alignment that CUDA promises, so that
 * nobody relies on more. */
static bool map_guarded_locked(size_t bytes, Allocation *a, char **out)
{
	static unsigned n;
	size_t          skew = n++ % 2 ? ALIGN : 0;
	size_t          inner = round_up(bytes + skew, PAGE);
	a->map_bytes = inner + 2 * PAGE;
	a->map = mmap(nullptr, a->map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (a->map == MAP_FAILED)
		return false;
	char *begin = (char *)a->map + PAGE;
	if (mprotect(begin, inner, PROT_READ | PROT_WRITE)) {
		munmap(a->map, a->map_bytes);
		return false;
	}
	memset(begin, POISON, inner);
	*out = begin + (inner - skew - round_up(bytes, ALIGN));
	return true;
}

/* The allocation that holds [at, at + bytes); *inside is false when it only touches one. */
static bool on_device(const void *at, size_t bytes, bool *inside)
{
	Machine                    &m = machine();
	std::lock_guard<std::mutex> lock(m.mutex);
	const char                 *begin = (const char *)at;
	auto                        next = m.allocations.upper_bound((char *)at);
	if (next == m.allocations.begin())
		return false;
	auto &entry = *--next;
	if (begin >= entry.first + entry.second.bytes)
		return false;
	*inside = begin + bytes <= entry.first + entry.second.bytes;
	return true;
}

static bool registered(const void *at, size_t bytes)
{
	Machine                    &m = machine();
	std::lock_guard<std::mutex> lock(m.mutex);
	auto                        next = m.registrations.upper_bound((char *)at);
	if (next == m.registrations.begin())
		return false;
	auto &entry = *--next;
	return (const char *)at + bytes <= entry.first + entry.second;
}

static bool overlaps(const Transfer &t, const char *at, size_t bytes)
{
	return t.host < at + bytes && at < t.host + t.bytes;
}

/* Enough to see a change; memory is read in words, so that this costs less than the copy. */
static uint64_t digest(const char *at, size_t bytes)
{
	uint64_t sum = bytes, word;
	for (; bytes >= sizeof word; at += sizeof word, bytes -= sizeof word) {
		memcpy(&word, at, sizeof word);
		sum = (sum ^ word) * 0x9E3779B97F4A7C15u;
		sum ^= sum >> 29;
	}
	for (; bytes; at++, bytes--)
		sum = (sum ^ (unsigned char)*at) * 0x9E3779B97F4A7C15u;
	return sum;
}

/* Take the time that the link would. Copies of one direction share it. */
static void travel(size_t bytes, bool to_device)
{
	Machine          &m = machine();
	Clock::time_point end;
	{
		std::lock_guard<std::mutex> lock(m.mutex);
		if (m.is.copy_gb_per_s <= 0)
			return;
		Clock::time_point &link = m.link_free[to_device];
		link = std::max(link, Clock::now());
		link += std::chrono::nanoseconds((int64_t)((double)bytes / m.is.copy_gb_per_s));
		end = link;
	}
	std::this_thread::sleep_until(end);
}

struct Copy {
	char       *dst;
	const char *src;
	size_t      bytes;
	bool        to_device, from_device;
};

static void run(const Copy &c)
{
	if (c.dst + c.bytes <= c.src || c.src + c.bytes <= c.dst)
		memset(c.dst, POISON, c.bytes);
	if (c.to_device != c.from_device)
		travel(c.bytes, c.to_device);
	memmove(c.dst, c.src, c.bytes);
}

/* Watch the host side of an asynchronous copy from put to done. */
static cudaError_t put_watched(cudaStream_t stream, const Copy &c)
{
	Machine                      &m = machine();
	std::list<Transfer>::iterator t;
	bool                          settled = true; /* the source has its bytes already */
	const char                   *host = c.to_device ? c.src : c.dst;
	{
		std::lock_guard<std::mutex> lock(m.mutex);
		for (auto &other : m.transfers)
			settled &= !(other.writes_host && overlaps(other, host, c.bytes));
		t = m.transfers.insert(m.transfers.end(), Transfer{host, c.bytes, c.from_device});
	}
	uint64_t before = settled && c.to_device ? digest(host, c.bytes) : 0;
	auto     watched = [=] {
        run(c);
        if (settled && c.to_device && digest(host, c.bytes) != before)
            misuse("Host memory was written while an asynchronous copy out of it was under way.");
	};
	auto forget = [=] {
		std::lock_guard<std::mutex> lock(machine().mutex);
		machine().transfers.erase(t);
	};
	cudaError_t error = put(stream, watched, false);
	if (!error)
		error = put(stream, forget, true);
	if (error)
		forget();
	return error;
}

/* Memory that is not registered: to the device it is staged at once, from it it is waited for. */
static cudaError_t put_pageable(cudaStream_t stream, const Copy &c)
{
	if (c.to_device) {
		auto staged = std::make_shared<std::vector<char>>(c.src, c.src + c.bytes);
		return put(
		    stream,
		    [=] {
			    Copy copy = c;
			    copy.src = staged->data();
			    run(copy);
		    },
		    false);
	}
	cudaError_t error = put(
	    stream, [=] { run(c); }, false);
	if (!error)
		wait_for(stream);
	return error;
}

static cudaError_t put_copy(cudaStream_t stream, void *dst, const void *src, size_t bytes)
{
	bool dst_inside = true, src_inside = true;
	Copy c = {(char *)dst, (const char *)src, bytes, on_device(dst, bytes, &dst_inside),
	          on_device(src, bytes, &src_inside)};
	if (!dst_inside || !src_inside) {
		misuse("A copy reaches beyond the device memory that was allocated.");
		return cudaErrorInvalidValue;
	}
	if (c.from_device && !c.to_device)
		machine().bytes_to_host += bytes;
	if (!c.to_device && !c.from_device) {
		wait_for(stream);
		run(c);
		return cudaSuccess;
	}
	if (c.to_device && c.from_device)
		return put(
		    stream, [=] { run(c); }, false);
	return registered(c.to_device ? src : dst, bytes) ? put_watched(stream, c) : put_pageable(stream, c);
}

} // namespace cuda_on_cpu

using namespace cuda_on_cpu;

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
	cudaError_t error = cuda_on_cpu_enter(__func__);
	if (error)
		return error;
	std::lock_guard<std::mutex> lock(machine().mutex);
	*free_bytes = free_bytes_locked(current_device());
	*total_bytes = machine().is.memory_bytes;
	return cudaSuccess;
}

cudaError_t cudaMalloc(void **out, size_t bytes)
{
	cudaError_t error = cuda_on_cpu_enter(__func__);
	if (error)
		return error;
	*out = nullptr;
	if (!bytes)
		return cudaSuccess;
	Allocation                  a = {round_up(bytes, ALIGN), current_device(), nullptr, 0};
	char                       *base;
	std::lock_guard<std::mutex> lock(machine().mutex);
	if (a.bytes > free_bytes_locked(a.device) || !map_guarded_locked(bytes, &a, &base))
		return cuda_on_cpu_return(cudaErrorMemoryAllocation);
	machine().allocations[base] = a;
	*out = base;
	return cudaSuccess;
}

/* Waits for the whole device, as CUDA's does. The addresses are never used again. */
cudaError_t cudaFree(void *memory)
{
	cudaError_t error = cuda_on_cpu_enter(__func__);
	if (!memory)
		return error;
	wait_for_all();
	reap(); /* what streams that are destroyed still had to do */
	Machine                    &m = machine();
	std::lock_guard<std::mutex> lock(m.mutex);
	auto                        found = m.allocations.find((char *)memory);
	if (found == m.allocations.end())
		return cuda_on_cpu_return(cudaErrorInvalidValue);
	madvise(found->second.map, found->second.map_bytes, MADV_DONTNEED);
	mprotect(found->second.map, found->second.map_bytes, PROT_NONE);
	m.allocations.erase(found);
	return error;
}

cudaError_t cudaHostRegister(void *base, size_t bytes, unsigned)
{
	cudaError_t error = cuda_on_cpu_enter(__func__);
	if (error)
		return error;
	Machine                    &m = machine();
	std::lock_guard<std::mutex> lock(m.mutex);
	if (m.is.no_register)
		return cuda_on_cpu_return(cudaErrorNotSupported);
	for (auto &entry : m.registrations)
		if (entry.first < (char *)base + bytes && (char *)base < entry.first + entry.second)
			return cuda_on_cpu_return(cudaErrorHostMemoryAlreadyRegistered);
	m.registrations[(char *)base] = bytes;
	return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *base)
{
	cudaError_t error = cuda_on_cpu_enter(__func__);
	Machine    &m = machine();
	bool        busy = false;
	if (m.sticky) { /* nobody can wait for a dead context's copies; a real one's have ended */
		wait_for_all();
		reap();
	}
	{
		std::lock_guard<std::mutex> lock(m.mutex);
		auto                        found = m.registrations.find((char *)base);
		if (found == m.registrations.end())
			return cuda_on_cpu_return(cudaErrorHostMemoryNotRegistered);
		for (auto &t : m.transfers)
			busy |= overlaps(t, found->first, found->second);
		m.registrations.erase(found);
	}
	if (busy)
		misuse("Host memory was unregistered while a copy was using it.");
	return error;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind,
                            cudaStream_t stream)
{
	cudaError_t error = cuda_on_cpu_enter(__func__);
	return cuda_on_cpu_return(error || !bytes ? error : put_copy(stream, dst, src, bytes));
}

cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t stream)
{
	cudaError_t error = cuda_on_cpu_enter(__func__);
	bool        inside = false;
	if (!error && bytes && (!on_device(dst, bytes, &inside) || !inside))
		error = cudaErrorInvalidValue;
	if (!error && bytes)
		error = put(
		    stream, [=] { memset(dst, value, bytes); }, false);
	return cuda_on_cpu_return(error);
}
