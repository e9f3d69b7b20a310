#!/usr/bin/env python3
"""Make `schedules.json`: learning rates of transformers' schedules, relative to the peak, at each of 20
steps after the warm-up.

    python schedules.py
"""
import json
from pathlib import Path

import torch
from transformers import optimization

HERE = Path(__file__).resolve().parent
STEPS, WARMUP = 20, 4


def rates(make):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    schedule = make(optimizer)
    found = []
    for _ in range(STEPS):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found[WARMUP:]                                     # the warm-up begins a step later there


def main():
    warm = {"num_warmup_steps": WARMUP}
    whole = warm | {"num_training_steps": STEPS}
    cases = {
        "constant": lambda o: optimization.get_constant_schedule_with_warmup(o, **warm),
        "linear": lambda o: optimization.get_linear_schedule_with_warmup(o, **whole),
        "cosine": lambda o: optimization.get_cosine_schedule_with_warmup(o, **whole),
        "cosine-min": lambda o: optimization.get_cosine_with_min_lr_schedule_with_warmup(o, **whole, min_lr_rate=0.1),
        "cosine-restarts-3": lambda o: optimization.get_cosine_with_hard_restarts_schedule_with_warmup(
            o, **whole, num_cycles=3),
        "polynomial-2": lambda o: optimization.get_polynomial_decay_schedule_with_warmup(
            o, **whole, lr_end=0.1, power=2.0),
        "inverse-sqrt": lambda o: optimization.get_inverse_sqrt_schedule(o, **warm),
        "wsd": lambda o: optimization.get_wsd_schedule(
            o, **warm, num_training_steps=STEPS, num_decay_steps=8, decay_type="linear", min_lr_ratio=0.1),
    }
    found = {name: rates(make) for name, make in cases.items()}
    (HERE / "schedules.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
