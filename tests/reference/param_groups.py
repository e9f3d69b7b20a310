#!/usr/bin/env python3
"""Ten steps of torch.optim.AdamW with groups of parameters under a linear schedule: writes `param_groups.json`.

On `tiny/gqa-tied`, all weights and the adapter of its reference. Which parameters are of which group is said here by code
of its own, and to the program by the patterns beside it. Kept are losses, and how far each parameter moved (the norm of
the difference) under names as files have them.
"""
import json
from pathlib import Path

import peft
import torch
from safetensors.torch import load_file

from make_tiny import ADAMW, MAX_GRAD_NORM, load, with_lora
from reference import Batch, peft_key, train

HERE = Path(__file__).resolve().parent
CASE = HERE / "tiny" / "gqa-tied"
STEPS = 10

FULL = {
    "learning_rate": 1e-3,
    "groups": [
        (lambda name: "embed_tokens" in name, dict(modules=["embed_tokens"], learning_rate=1e-4, weight_decay=0.0)),
        (lambda name: "norm" in name, dict(modules=[".*norm"], learning_rate=5e-3, weight_decay=0.5)),
        (lambda name: "layers.1." in name and ("mlp" in name or "o_proj" in name),
         dict(modules=["layers.1.mlp", r"layers\.1\..*\.o_proj"], learning_rate=3e-3)),
        (lambda name: "layers.1." in name, dict(modules=["layers.1"], weight_decay=1.0)),
    ],
}
LORA = {
    "learning_rate": 1e-2,
    "groups": [
        (lambda name: "q_proj.lora_B" in name or "layers.0.mlp" in name,
         dict(modules=["q_proj.lora_B", "layers.0.mlp"], learning_rate=3e-2)),
        (lambda name: "lora_A" in name, dict(modules=["lora_A"], learning_rate=2e-3, weight_decay=0.3)),
    ],
}


def batch():
    found = load_file(CASE / "expected.safetensors")
    rows, length = found["tokens"].shape
    targets = list(zip(found["target_index"].tolist(), found["target_token"].tolist()))
    flat = [found[name].flatten().tolist() for name in ("tokens", "positions", "documents")]
    return Batch(rows, length, *flat, targets)


def adapted(dtype):
    model = with_lora(load(CASE, dtype), 0)
    found = load_file(CASE / "expected.safetensors")
    own = {name.removeprefix("lora."): value for name, value in found.items() if name.startswith("lora.")}
    peft.set_peft_model_state_dict(model, own)
    return model.to(dtype)


def steps(model, settings):
    """Losses of ten steps, and how far each parameter moved."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    before = {name: parameter.detach().clone() for name, parameter in named}
    groups = [{"params": []} for _ in settings["groups"]] + [{"params": []}]
    for group, (_, own) in zip(groups, settings["groups"]):
        theirs = {"lr": own.get("learning_rate"), "weight_decay": own.get("weight_decay")}
        group |= {name: value for name, value in theirs.items() if value is not None}
    for name, parameter in named:
        number = next((at for at, (fits, _) in enumerate(settings["groups"]) if fits(name)), -1)
        groups[number]["params"].append(parameter)
    assert all(group["params"] for group in groups)
    optimizer = torch.optim.AdamW(groups, lr=settings["learning_rate"], **ADAMW)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / STEPS)
    rows, losses = batch(), []
    for _ in range(STEPS):
        loss, _ = train(model, optimizer, [[rows.row(0), rows.row(1)]], MAX_GRAD_NORM)
        losses += loss
        schedule.step()
    moved = {peft_key(name).removeprefix("base_model.model."): (parameter.detach() - before[name]).norm().item()
             for name, parameter in named}
    return losses, moved


def main():
    made = {}
    for name, settings, start in (("full", FULL, lambda dtype: load(CASE, dtype)), ("lora", LORA, adapted)):
        losses, moved = steps(start(torch.float32), settings)
        exact_losses, exact = steps(start(torch.float64), settings)
        rounding = max(abs(moved[path] / exact[path] - 1) for path in moved)
        print(f"{name}: loss {losses[0]:.4f} -> {losses[-1]:.4f}; rounding of losses "
              f"{max(abs(a - b) for a, b in zip(losses, exact_losses)):.1e}, of moves {rounding:.1e}")
        made[name] = {"learning_rate": settings["learning_rate"],
                      "groups": [own for _, own in settings["groups"]], "losses": losses, "moved": moved}
    (HERE / "param_groups.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
