#!/usr/bin/env python3
"""Make `nf4.safetensors`: matrices, and what bitsandbytes' NF4 with double quantisation makes of
them on the CPU, with one thread.

    python nf4.py
"""
from pathlib import Path

import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent

# Rows and columns: blocks within rows; blocks over the ends of rows; a last block that is not whole
# and an odd number of numbers; fewer blocks than the sum of scales has lanes; several blocks of
# scales, the last not whole. No width is a multiple of 16 but not of 64: there `dequantize_4bit` takes
# the scales of other blocks on CPUs with AVX-512.
SHAPES = {"whole": (12, 128), "across": (9, 100), "odd": (7, 31), "few": (2, 100), "many": (180, 100)}


def matrix(rows, columns, seed):
    """Rows of many sizes; zeros, a single large number, and numbers in the middle of two codes."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator) * torch.logspace(-3, 1, rows)[:, None]
    weight[-1] = 0.0
    weight[0, 5] = 30.0
    weight[1, :4] = torch.tensor([1.0, 0.03979015, -0.04552501, 0.8614784])
    weight[1, 4:] = weight[1, 4:].clamp(-1, 1)
    return weight


def main():
    torch.set_num_threads(1)
    tensors = {}
    for seed, (name, shape) in enumerate(SHAPES.items()):
        weight = matrix(*shape, seed).bfloat16().float()
        codes, state = quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
        nested = state.state2
        restored = dequantize_4bit(codes, state)
        tensors |= {
            f"{name}.weight": weight.bfloat16(),
            f"{name}_blocks": codes.flatten(), f"{name}_scales": state.absmax,
            f"{name}.nested_absmax": nested.absmax, f"{name}.offset": state.offset.reshape(1),
        }
        if name != "many":
            tensors[f"{name}.restored"] = restored.float()
        again, _ = quantize_4bit(weight.bfloat16(), quant_type="nf4", compress_statistics=True)
        assert torch.equal(codes, again), "the format of the numbers does not matter"
        print(name, codes[:4].flatten().tolist(), float((restored - weight).abs().max()))
    tensors["nested_quant_map"] = nested.code
    tensors["quant_map"] = state.code
    save_file(tensors, HERE / "nf4.safetensors")
    (HERE / "nf4.safetensors").chmod(0o644)


if __name__ == "__main__":
    main()
