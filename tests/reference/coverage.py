#!/usr/bin/env python3
"""What two texts exercise of `tiny/gqa-tied`, in `coverage.json`.

    python coverage.py

Computed from what goes into `down_proj` and `o_proj` and from the attention weights of transformers, in float64: units
that are active, the three largest of each token, sections and boundaries of the second text in the ranges of the first,
heads that contribute, and buckets of the entropy of their attention. Numbers are far enough from every threshold that
rounding decides nothing, which is asserted.
"""
import json
import math
import pathlib

import torch
import transformers

HERE = pathlib.Path(__file__).parent
TEXTS = [[5, 17, 42, 8, 61, 7, 93, 50, 2, 55, 44, 19], [9, 71, 9, 31, 77, 64, 21, 6, 12]]
UNIT_THRESHOLD, TOP_K, SECTIONS, HEAD_SHARE, BUCKETS = 0.4, 3, 10, 1.3, 4
CLEAR = 1e-5


def clear(number, threshold):
    assert abs(number - threshold) > CLEAR, (number, threshold)
    return number >= threshold


def bucket(share, parts):
    assert abs(share * parts - round(share * parts)) > CLEAR or share in (0.0, 1.0), share
    return min(int(share * parts), parts - 1)


def run(model, tokens):
    """Of each layer: inputs of `down_proj` and `o_proj`, and attention."""
    units, mixed = [], []
    hooks = []
    for layer in model.model.layers:
        hooks.append(layer.mlp.down_proj.register_forward_pre_hook(lambda m, x: units.append(x[0][0])))
        hooks.append(layer.self_attn.o_proj.register_forward_pre_hook(lambda m, x: mixed.append(x[0][0])))
    with torch.no_grad():
        out = model(torch.tensor([tokens]), output_attentions=True, use_cache=False)
    for hook in hooks:
        hook.remove()
    return units, mixed, [attention[0] for attention in out.attentions]


def main():
    model = transformers.AutoModelForCausalLM.from_pretrained(
        HERE / "tiny" / "gqa-tied", dtype=torch.float64, attn_implementation="eager")
    heads = model.config.num_attention_heads
    first = run(model, TEXTS[0])[0]
    units, mixed, attention = run(model, TEXTS[1])
    layers = []
    for number, layer in enumerate(model.model.layers):
        low, high = first[number].min(0).values, first[number].max(0).values
        found = {name: set() for name in
                 ["units", "units_top_k", "unit_sections", "unit_boundary", "heads", "head_entropy"]}
        for row in units[number]:
            size = row.abs()
            order = size.sort(descending=True)
            assert order.values[TOP_K - 1] - order.values[TOP_K] > CLEAR * order.values[0]
            found["units_top_k"] |= set(order.indices[:TOP_K].tolist())
            for unit, value in enumerate(row.tolist()):
                if clear(abs(value) / size.max().item(), UNIT_THRESHOLD):
                    found["units"].add(unit)
                a, b = low[unit].item(), high[unit].item()
                place = (value - a) / (b - a)
                if not clear(place, 0.0):
                    found["unit_boundary"].add(2 * unit)
                elif clear(place, 1.0):
                    found["unit_boundary"].add(2 * unit + 1)
                else:
                    found["unit_sections"].add(SECTIONS * unit + bucket(place, SECTIONS))
        weight = layer.self_attn.o_proj.weight.double()
        width = weight.shape[1] // heads
        shares, entropies = [], []
        for token, row in enumerate(mixed[number]):
            norms = [(weight[:, h * width:(h + 1) * width] @ row[h * width:(h + 1) * width]).norm().item()
                     for h in range(heads)]
            shares.append([norm / sum(norms) for norm in norms])
            entropy = None
            if token > 0:
                p = attention[number][:, token, :token + 1]
                entropy = (-(p * p.log()).sum(-1) / math.log(token + 1)).tolist()
                entropies.append(entropy)
            for head, share in enumerate(shares[-1]):
                if clear(share * heads, HEAD_SHARE):
                    found["heads"].add(head)
                    if entropy:
                        found["head_entropy"].add(BUCKETS * head + bucket(entropy[head], BUCKETS))
        mean = lambda rows: [round(sum(column) / len(column), 9) for column in zip(*rows)]
        layers.append({
            "sets": {name: sorted(numbers) for name, numbers in found.items()},
            "mean_share": mean(shares), "mean_entropy": mean(entropies),
            "low": [round(x, 9) for x in low.tolist()[:8]], "high": [round(x, 9) for x in high.tolist()[:8]],
        })
    made = {
        "texts": TEXTS, "unit_threshold": UNIT_THRESHOLD, "unit_top_k": TOP_K, "unit_sections": SECTIONS,
        "head_share": HEAD_SHARE, "entropy_buckets": BUCKETS, "layers": layers}
    lines = [f' "{key}": {json.dumps(value)}' for key, value in made.items() if key != "layers"]
    lines.append(' "layers": [\n  ' + ",\n  ".join(json.dumps(layer) for layer in layers) + "\n ]")
    (HERE / "coverage.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


main()
