"""Write tests/golden/types.bin: blocks of every type, and what the gguf Python
package makes of them, for tests/test_kernels_types.c.

    python3 scripts/make_types_golden.py tests/golden/types.bin

Little endian: u32 record count, u32 n; f32 values[n]; then records of u32 GGUF id,
u32 1 where the bytes are the package's encoding of the values (0: random, with
scales that are numbers), u32 byte count, the bytes, f32 decoded[n].
"""
import struct
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES
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

ENCODED = [T.F32, T.F16, T.BF16, T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.MXFP4]
# Where f16 scales stand in a block.
RANDOM = {T.Q8_0: [0], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q2_K: [80, 82], T.Q3_K: [108],
          T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ4_NL: [0], T.IQ4_XS: [0], T.MXFP4: []}


def random_blocks(kind, halves):
    elems, size = GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (N // elems, size), dtype=np.uint8)
    for at in halves:
        scales = rng.standard_normal(len(blocks)).astype("<f2")
        blocks[:, at : at + 2] = scales.view(np.uint8).reshape(-1, 2)
    if kind == T.MXFP4:
        blocks[:3, 0] = 0, 1, 255
    return blocks.reshape(-1)


with open(sys.argv[1], "wb") as out:
    records = [(t, 1, quants.quantize(x, t)) for t in ENCODED]
    records += [(t, 0, random_blocks(t, halves)) for t, halves in RANDOM.items()]
    out.write(struct.pack("<II", len(records), N))
    out.write(x.tobytes())
    for t, encoded, packed in records:
        out.write(struct.pack("<III", int(t), encoded, packed.nbytes))
        out.write(packed.tobytes())
        out.write(quants.dequantize(packed, t).astype(np.float32).tobytes())
