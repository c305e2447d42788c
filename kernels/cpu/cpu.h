/* What the CPU operations share: the instruction set chosen when they were
 * opened, and the struct behind struct hr_ops.
 *
 * A kernel that has variants picks one by `isa` when it is put on the stream.
 * Variant files (*_avx2.c, *_avx512.c, *_amx.c) are the only ones compiled for more than
 * the baseline (see kernels/CMakeLists.txt) and exist on x86-64 only: code that
 * names them stands under #ifdef HR_CPU_X86. */
#ifndef HR_KERNELS_CPU_CPU_H
#define HR_KERNELS_CPU_CPU_H

#include "kernels/ops.h"

#if defined(__x86_64__)
#define HR_CPU_X86 1
#endif

enum hr__cpu_isa {
	HR_CPU_PORTABLE, /* what the compiler's baseline has */
	HR_CPU_AVX2,     /* AVX2, FMA, F16C */
	HR_CPU_AVX512,   /* those and AVX-512 F, BW, VL, DQ, VNNI */
	HR_CPU_AMX,      /* those and AMX tiles with INT8 and BF16 */
	HR_CPU_ISA_COUNT
};

/* The best this machine has; those before it are there, too. For AMX, the kernel is
 * asked to let this process use it. */
enum hr__cpu_isa hr__cpu_best_isa(void);

struct hr__cpu_ops {
	struct hr_ops       base; /* first: a struct hr_ops * of these operations is one of ours */
	enum hr__cpu_isa    isa;
	struct hr_ops_table table; /* base.table points here */
};

static inline struct hr__cpu_ops       *hr__cpu(struct hr_ops *ops) { return (struct hr__cpu_ops *)ops; }
static inline const struct hr__cpu_ops *hr__cpu_const(const struct hr_ops *ops)
{
	return (const struct hr__cpu_ops *)ops;
}

#endif
