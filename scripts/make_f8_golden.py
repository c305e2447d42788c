"""Write tests/golden/f8.bin: what torch makes of 8-bit floats with scales, for tests/test_f8_directory.c.

    python3 scripts/make_f8_golden.py tests/golden/f8.bin

Little endian: u32 n; f32 scales[n], the first 1, those of even index also bf16; bf16 [n][256]: each code of
float8_e4m3fn as float32, times the scale, rounded. Made with torch 2.8.0; any version gives the same.
"""
import struct
import sys

import torch

# Of usual size; then such that products become subnormal, leave bf16's range below, or come near its end.
SCALES = [1.0, 0.0123, 0.25, 0.7171, 0.0117, 1.9, 0.5, 0.033, 3e-4, 7e-4, 2.0**-126, 3e-39, 2.0**-133, 1e-41, 6e35, 5.7e35]

scales = torch.tensor(SCALES, dtype=torch.float32)
scales[0::2] = scales[0::2].to(torch.bfloat16).to(torch.float32)
codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).to(torch.float32)
values = (codes[None, :] * scales[:, None]).to(torch.bfloat16)
with open(sys.argv[1], "wb") as f:
    f.write(struct.pack("<I", len(scales)))
    f.write(scales.numpy().tobytes())
    f.write(values.view(torch.int16).numpy().tobytes())
