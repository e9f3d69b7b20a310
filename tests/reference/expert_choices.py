#!/usr/bin/env python3
"""Which experts transformers chooses in bfloat16 and in f32, in `expert_choices.json`.

    python expert_choices.py

Tiny models of `make_families.py` with mixtures, and texts of one token: for each layer and token the
experts, and by how much the last chosen leads over the first that is not, in f32 and as a share of
the largest score. In bfloat16 scores have eight bits, so that some are equal: which of equal ones
`topk` takes is not defined.
"""
import json
from pathlib import Path

import torch

import make_families

CASES = ["qwen3-moe", "qwen3-moe-step", "gpt-oss", "qwen3.5-moe", "gemma4-moe", "lfm2-moe"]
TOKENS = list(range(3, 43))


def choices(case, dtype):
    model = make_families.model_of(case).to(dtype)
    found = []

    def keep(module, given, out):
        scores, bias = out[0].float(), given[1] if len(given) > 1 else None
        if getattr(module, "use_expert_bias", False):
            scores = scores.sigmoid() + bias
        best = scores[0].sort(descending=True).values
        top_k = out[2].shape[-1]
        lead = (best[top_k - 1] - best[top_k]).item() if top_k < len(best) else 1.0
        found[-1].append((sorted(out[2][0].tolist()), lead / scores.abs().max().item()))
    routers = [m for m in model.modules() if type(m).__name__.endswith("Router")]
    hooks = [router.register_forward_hook(keep) for router in routers]
    with torch.no_grad():
        for token in TOKENS:
            found.append([])
            model(torch.tensor([[token]]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return found


def main():
    made = {"tokens": TOKENS}
    for case in CASES:
        short, long = choices(case, torch.bfloat16), choices(case, torch.float32)
        made[case] = {
            "bf16": [[experts for experts, _ in layers] for layers in short],
            "f32": [[experts for experts, _ in layers] for layers in long],
            "lead": [[round(lead, 5) for _, lead in layers] for layers in long],
        }
        pairs = [(a[0], b[0]) for one, other in zip(short, long) for a, b in zip(one, other)]
        same = sum(a == b for a, b in pairs)
        print(f"{case}: {same} of {len(pairs)} choices in bfloat16 are those in f32")
    lines = [f' "{key}": {json.dumps(value)}' for key, value in made.items()]
    Path(__file__).with_suffix(".json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


main()
