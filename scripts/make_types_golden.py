"""Write tests/golden/types.bin: random values, and what the gguf Python package
makes of them, for tests/test_kernels_types.c.

    python3 scripts/make_types_golden.py tests/golden/types.bin

Little endian: u32 type count, u32 n; f32 values[n]; then for each type u32 GGUF
id, u32 byte count, the encoded bytes, f32 decoded[n].
"""
import struct
import sys

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import quants

N = 32 * 64
rng = np.random.default_rng(1)
# Blocks of very different size, a zero block, a constant one and one with a tie of extremes.
x = (rng.standard_normal((N // 32, 32)) * np.exp2(rng.integers(-12, 8, (N // 32, 1)))).astype(np.float32)
x[0] = 0
x[1] = 0.75
x[2, 5], x[2, 9] = -900, 900
x = x.reshape(-1)

with open(sys.argv[1], "wb") as out:
    types = [T.F32, T.F16, T.BF16, T.Q8_0, T.Q4_0, T.Q4_1]
    out.write(struct.pack("<II", len(types), N))
    out.write(x.tobytes())
    for t in types:
        packed = quants.quantize(x, t)
        out.write(struct.pack("<II", int(t), packed.nbytes))
        out.write(packed.tobytes())
        out.write(quants.dequantize(packed, t).astype(np.float32).tobytes())
