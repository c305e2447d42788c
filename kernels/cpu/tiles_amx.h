/* Tiles of AMX: eight registers of up to 16 rows x 64 bytes. Their instructions are
 * written as assembly, for the compiler knows nothing of what they read and write. */
#ifndef HR_KERNELS_CPU_TILES_AMX_H
#define HR_KERNELS_CPU_TILES_AMX_H

#include <stdint.h>

struct tile_config { /* as ldtilecfg reads it */
	uint8_t  palette, start_row, reserved[14];
	uint16_t row_bytes[16];
	uint8_t  rows[16];
};

#define TILES_BEGIN(config) __asm__ volatile("ldtilecfg %0" : : "m"(config))
#define TILES_END()         __asm__ volatile("tilerelease")

#define TILE_LOAD(n, p, stride)                                                                              \
	__asm__ volatile("tileloadd (%0,%1,1), %%tmm" #n : : "r"(p), "r"((int64_t)(stride)) : "memory")
#define TILE_STORE(n, p)                                                                                     \
	__asm__ volatile("tilestored %%tmm" #n ", (%0,%1,1)" : : "r"(p), "r"((int64_t)64) : "memory")
#define TILE_ZERO(n) __asm__ volatile("tilezero %tmm" #n)

/* to[m][n] += sum of a[m][4k + i] b[k][4n + i], i < 4: signed bytes to int32 */
#define TILE_DOT_I8(to, a, b) __asm__ volatile("tdpbssd %tmm" #b ", %tmm" #a ", %tmm" #to)
/* to[m][n] += sum of a[m][2k + i] b[k][2n + i], i < 2: bf16 to f32 */
#define TILE_DOT_BF16(to, a, b) __asm__ volatile("tdpbf16ps %tmm" #b ", %tmm" #a ", %tmm" #to)

#endif
