#!/usr/bin/env python3
"""Matrices in MXFP4 and what transformers makes of them, in `mxfp4.safetensors`.

    python mxfp4.py    # same bytes every time
"""
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

MATRICES, ROWS, COLUMNS = 2, 8, 96


def main():
    torch.manual_seed(7)
    blocks = torch.randint(0, 256, (MATRICES, ROWS, COLUMNS // 32, 16), dtype=torch.uint8)
    blocks[0, 0, 0] = torch.tensor([16 * (15 - i) + i for i in range(16)], dtype=torch.uint8)
    scales = torch.randint(100, 150, (MATRICES, ROWS, COLUMNS // 32), dtype=torch.uint8)
    scales[0, :, 0] = torch.tensor([127, 0, 1, 2, 252, 251, 126, 128], dtype=torch.uint8)
    restored = convert_moe_packed_tensors(blocks, scales)
    assert restored.dtype == torch.bfloat16 and torch.isfinite(restored).all()
    save_file({"x_blocks": blocks, "x_scales": scales, "restored": restored},
              Path(__file__).resolve().parent / "mxfp4.safetensors")
    print(restored.shape, restored.abs().min().item(), restored.abs().max().item())


if __name__ == "__main__":
    main()
