#!/usr/bin/env python3
"""What ggml's own Python package reads from blocks of random bytes: gguf_blocks.json.

    pip install gguf numpy
    gguf_blocks.py
"""
import base64
import json
from pathlib import Path

import gguf
import numpy as np

TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K",
         "MXFP4"]
# Where the scales of a block are, which must be numbers.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2],
          "Q6_K": [208]}


def main():
    draw = np.random.default_rng(7)
    found = {}
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        count = 3 if block > 1 else 8
        if name == "F32":
            raw = draw.standard_normal((1, count)).astype(np.float32).view(np.uint8)
        elif name == "F16":
            raw = draw.standard_normal((1, count)).astype(np.float16).view(np.uint8)
        else:
            raw = draw.integers(0, 256, (1, count * size), dtype=np.uint8)
            if name == "BF16":
                raw[0, 1::2] = raw[0, 1::2] & 0x80 | 0x3F
            for number in range(count):
                for at in SCALES.get(name, []):
                    scale = np.float16(draw.standard_normal() / 100)
                    raw[0, number * size + at:number * size + at + 2] = np.frombuffer(scale.tobytes(), np.uint8)
        typed = {"F32": np.float32, "F16": np.float16}.get(name)
        values = gguf.quants.dequantize(raw.view(typed) if typed else raw, kind).astype("<f4")
        encode = lambda bytes_: base64.b64encode(bytes_).decode()
        found[name] = {"bytes": encode(raw.tobytes()), "values": encode(values.tobytes())}
    path = Path(__file__).with_name("gguf_blocks.json")
    path.write_text(json.dumps(found, indent=1) + "\n")


main()
