"""GFLOP/s of large matrix products of PyTorch, in f32 and bfloat16. One JSON line."""

import json
import os
import time

import torch

SIZE = 2048
ROWS = 512
TRIES = 7


def gflops(dtype):
    left, right = torch.randn(ROWS, SIZE, dtype=dtype), torch.randn(SIZE, SIZE, dtype=dtype)
    fastest = float("inf")
    for _ in range(TRIES):
        began = time.perf_counter()
        for _ in range(8):
            left @ right
        fastest = min(fastest, (time.perf_counter() - began) / 8)
    return 2 * ROWS * SIZE * SIZE / fastest / 1e9


def main():
    torch.set_num_threads(os.cpu_count())
    print(json.dumps({"f32": gflops(torch.float32), "bf16": gflops(torch.bfloat16)}))


if __name__ == "__main__":
    main()
