/* Allocation and rounding with overflow answered, not assumed away. */
#ifndef HR_BASE_MEM_H
#define HR_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define HR_COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

/* Zeroed array of n elements; NULL when n * size overflows or memory is out.
 * n == 0 gives a valid pointer. */
static inline void *hr__calloc(size_t n, size_t size) { return calloc(n ? n : 1, size ? size : 1); }

/* `align` is a power of two. */
static inline uint64_t hr__align_down(uint64_t x, uint64_t align) { return x & ~(align - 1); }
static inline uint64_t hr__align_up(uint64_t x, uint64_t align) { return (x + align - 1) & ~(align - 1); }

static inline bool hr__mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
	return !__builtin_mul_overflow(a, b, out);
}
static inline bool hr__add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
	return !__builtin_add_overflow(a, b, out);
}

#endif
