/* Memory of the host that serves as device memory: huge pages where they can be
 * had, and all of it there before it is handed out, because out-of-memory must
 * show up when memory is allocated and not in a later kernel. */
#include "kernels/device/host_map.h"

#include "base/mem.h"

#include <errno.h>
#include <sys/mman.h>

#define PAGE_BYTES      4096u
#define HUGE_PAGE_BYTES ((size_t)2 << 20)

/* Anonymous memory, aligned to a huge page when it is as large as one. */
static void *map_aligned(size_t bytes)
{
	size_t align = bytes >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : PAGE_BYTES;
	size_t extra = align - PAGE_BYTES;
	char  *map = mmap(NULL, bytes + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED)
		return NULL;
	size_t head = (size_t)(hr__align_up((uintptr_t)map, align) - (uintptr_t)map);
	if (head)
		munmap(map, head);
	if (extra - head)
		munmap(map + head + bytes, extra - head);
	return map + head;
}

/* Kernels before 5.14 know no POPULATE_WRITE; there pages come with first use. */
static bool make_real(void *base, size_t bytes)
{
	if (bytes >= HUGE_PAGE_BYTES)
		madvise(base, bytes, MADV_HUGEPAGE);
#ifdef MADV_POPULATE_WRITE
	int rc;
	do
		rc = madvise(base, bytes, MADV_POPULATE_WRITE);
	while (rc && (errno == EINTR || errno == EAGAIN));
	return !rc || errno == EINVAL;
#else
	return true;
#endif
}

void *hr__host_map(size_t bytes)
{
	void *base = map_aligned(bytes);
	if (base && !make_real(base, bytes)) {
		munmap(base, bytes);
		return NULL;
	}
	return base;
}

void hr__host_unmap(void *base, size_t bytes) { munmap(base, bytes); }
