#!/usr/bin/env python3
"""Make `int8.safetensors`: matrices, and what bitsandbytes' row-wise absmax makes of them.

    python int8.py
"""
from pathlib import Path

import torch
from bitsandbytes.functional import int8_vectorwise_dequant, int8_vectorwise_quant
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent


def matrix(seed):
    """Rows of many sizes; ties, a row of zeros, and one with a single large number among them."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(12, 37, generator=generator) * torch.logspace(-6, 3, 12)[:, None]
    weight[3] = 0.0
    weight[4, 5] = 300.0
    weight[5, :4] = torch.tensor([127.0, 0.5, 1.5, -2.5])     # ties go to the even number
    weight[5, 4:] = weight[5, 4:].clamp(-100, 100)
    return weight


def main():
    weight = matrix(7)
    quantised, absmax, _ = int8_vectorwise_quant(weight.clone())
    # Of a row of zeros it divides by zero; nothing but zeros is meant.
    quantised[absmax == 0] = 0
    restored = int8_vectorwise_dequant(quantised, absmax)
    save_file({"weight": weight, "quantised": quantised.float(), "absmax": absmax,
               "restored": restored.float()}, HERE / "int8.safetensors")
    (HERE / "int8.safetensors").chmod(0o644)
    print(quantised[5, :6].tolist(), float((restored - weight).abs().max()))


if __name__ == "__main__":
    main()
