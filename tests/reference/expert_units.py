#!/usr/bin/env python3
"""Which units of which experts a text exercises, in `expert_units.json`.

    python expert_units.py

A tiny mixture of `make_families.py` in float64. What each expert that a token is routed to makes of it
is computed here, of what transformers hands to the mixture: `act(gate) * up`, whose size counts where
it is at least a share of the largest of that expert. Numbers are far enough from the threshold that
rounding decides nothing, which is asserted.
"""
import json
from pathlib import Path

import torch

import make_families

CASE, TEXT, THRESHOLD, CLEAR = "qwen3-moe", [5, 17, 42, 8, 61, 7, 19], 0.5, 1e-5


def main():
    torch.set_default_dtype(torch.float64)
    model = make_families.model_of(CASE).double()
    given, chosen = [], []
    hooks = []
    for layer in model.model.layers:
        hooks.append(layer.mlp.register_forward_pre_hook(lambda m, x: given.append(x[0][0])))
        hooks.append(layer.mlp.gate.register_forward_hook(lambda m, x, out: chosen.append(out[2])))
    with torch.no_grad():
        model(torch.tensor([TEXT]), use_cache=False)
    for hook in hooks:
        hook.remove()
    layers = []
    for layer, x, experts in zip(model.model.layers, given, chosen):
        of = layer.mlp.experts
        units = of.down_proj.shape[-1]
        tokens = [0] * (of.gate_up_proj.shape[0] * units)
        for row, choice in zip(x, experts):
            for expert in choice.tolist():
                gate, up = (of.gate_up_proj[expert] @ row).chunk(2)
                size = (torch.nn.functional.silu(gate) * up).abs()
                for unit, share in enumerate((size / size.max()).tolist()):
                    assert abs(share - THRESHOLD) > CLEAR
                    tokens[expert * units + unit] += share >= THRESHOLD
        routed = [int((experts == expert).sum()) for expert in range(of.gate_up_proj.shape[0])]
        layers.append({"experts": routed, "units": tokens})
    made = {"case": CASE, "text": TEXT, "unit_threshold": THRESHOLD}
    lines = [f' "{key}": {json.dumps(value)}' for key, value in made.items()]
    lines.append(' "layers": [\n  ' + ",\n  ".join(json.dumps(it) for it in layers) + "\n ]")
    Path(__file__).with_suffix(".json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


main()
