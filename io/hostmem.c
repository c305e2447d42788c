/* Memory that reads land in.
 *
 * From 2 MiB on it is mapped on a 2 MiB boundary: explicit huge pages where the
 * administrator has set some free, else transparent ones. It is bound to its
 * node before the first touch, for that is when the kernel places a page, and
 * then touched here, so that the memory is there before the first read: pages
 * that don't exist yet would be made, one after the other, on the I/O thread. */
#include "io/hostmem.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/topology.h"
#include "io/file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define HUGE_BYTES (2ull << 20)

/* First number of `file` after the line's `key` ("" for a file that is just a number); 0 if none. */
static unsigned long long read_number(const char *path, const char *key)
{
	char               line[256];
	unsigned long long value = 0;
	FILE              *f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f))
		if (!strncmp(line, key, strlen(key)) && sscanf(line + strlen(key), "%llu", &value) == 1)
			break;
	if (f)
		fclose(f);
	return value;
}

static bool transparent_allowed(void)
{
	char  line[256] = "";
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
	if (f && !fgets(line, sizeof line, f))
		line[0] = 0;
	if (f)
		fclose(f);
	return line[0] && !strstr(line, "[never]");
}

static void *map(size_t bytes, int flags)
{
	return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

static void *map_explicit(size_t bytes)
{
	unsigned long long free_pages =
	    read_number("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "");
	return free_pages >= bytes / HUGE_BYTES ? map(bytes, MAP_HUGETLB | 21 << MAP_HUGE_SHIFT) : MAP_FAILED;
}

/* Map more than asked for and give back what lies outside the boundaries. */
static void *map_aligned(size_t bytes)
{
	char *all = map(bytes + HUGE_BYTES, 0);
	if (all == MAP_FAILED)
		return all;
	char  *base = (char *)hr__align_up((uintptr_t)all, HUGE_BYTES);
	size_t before = (size_t)(base - all);
	if (before)
		munmap(all, before);
	munmap(base + bytes, HUGE_BYTES - before);
	return base;
}

/* 0, or errno where the kernel can tell that the memory isn't there. */
static int touch(char *base, size_t bytes)
{
#ifdef MADV_POPULATE_WRITE
	if (!madvise(base, bytes, MADV_POPULATE_WRITE))
		return 0;
	if (errno != EINVAL) /* which old kernels answer */
		return errno;
#endif
	for (size_t i = 0; i < bytes; i += HR_IO_ALIGN)
		((volatile char *)base)[i] = 0;
	return 0;
}

int hr_hostmem_init(struct hr_hostmem *mem, size_t bytes, int node, struct hr_error *err)
{
	size_t mapped = hr__align_up(bytes ? bytes : 1, bytes >= HUGE_BYTES ? HUGE_BYTES : HR_IO_ALIGN);
	void  *base = MAP_FAILED;
	bool   huge = false;
	/* A size that wraps around has become 0, which mmap refuses. */
	if (mapped >= HUGE_BYTES) {
		base = map_explicit(mapped);
		huge = base != MAP_FAILED;
		if (!huge && (base = map_aligned(mapped)) != MAP_FAILED)
			huge = !madvise(base, mapped, MADV_HUGEPAGE) && transparent_allowed();
	} else {
		base = map(mapped, 0);
	}
	int error = base == MAP_FAILED ? errno : 0;
	if (!error) {
		hr_topology_bind_memory(base, mapped, node);
		error = touch(base, mapped);
		if (error)
			munmap(base, mapped);
	}
	if (error)
		return hr__fail(err, HR_ENOMEM, "%zu bytes of host memory cannot be had: %s.", bytes,
		                strerror(error));
	*mem = (struct hr_hostmem){base, mapped, huge};
	return 0;
}

void hr_hostmem_release(struct hr_hostmem *mem)
{
	if (mem->base)
		munmap(mem->base, mem->bytes);
	*mem = (struct hr_hostmem){0};
}

/* CAP_IPC_LOCK is bit 14 of the effective capabilities. */
static bool may_lock_anything(void)
{
	unsigned long long caps = 0;
	char               line[256];
	FILE              *f = fopen("/proc/self/status", "re");
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "CapEff: %llx", &caps) == 1)
			break;
	if (f)
		fclose(f);
	return caps >> 14 & 1;
}

size_t hr_hostmem_lockable_bytes(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_MEMLOCK, &limit) || limit.rlim_cur == RLIM_INFINITY || may_lock_anything())
		return SIZE_MAX;
	unsigned long long locked =
	    1024 * (read_number("/proc/self/status", "VmLck:") + read_number("/proc/self/status", "VmPin:"));
	return limit.rlim_cur > locked ? limit.rlim_cur - locked : 0;
}
