#!/usr/bin/env python3
"""Does an artifact do in PEFT and transformers what it states that it does? Run by hand.

    pip install torch transformers peft safetensors
    effect.py ARTIFACT [--base DIR]

Loads an adapter beside its base, or a whole model, runs the rows of tokens that `effect.json` has,
with and without what was trained, and compares the best tokens' scores and the size of the change
with what is stated there. An adapter is then silenced, as by a loader that does not find its
layers: that must be seen. Exit code 1: it does something else, or nothing.
"""
import argparse
import json
import os
import sys
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

# As in src/artifact/effect.rs.
TOLERANCE = {"f32": 1e-3}
COARSE, CHANGE = 3e-2, 0.1


def scores(model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].float()


def compare(effect, with_, without):
    """What is not as it is stated, or nothing; and the largest difference."""
    tolerance = TOLERANCE.get(effect["arithmetic"], COARSE)
    far = 0.0
    for number, row in enumerate(effect["rows"]):
        sides = [("with it", row["with"], with_[number])]
        if without is not None and "without" in row:
            sides.append(("of the base", row["without"], without[number]))
        for what, stated, found in sides:
            last = found[-1]
            apart = max(abs(float(last[token]) - score) for token, score in stated["top"])
            far = max(far, apart / float(last.abs().max()))
            if far > tolerance:
                return f"row {number + 1}: the scores {what} are {far:.1e} off", far
        if without is not None and "change" in row:
            size = float((with_[number] - without[number]).norm() / without[number].norm())
            stated = row["change"]
            if abs(size - stated) > CHANGE * stated + tolerance / 10 or (size == 0 and stated > 0):
                return f"row {number + 1}: a change of {size:.2e}, and {stated:.2e} is stated", far
    return None, far


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--base")
    options = parser.parse_args()
    effect = json.loads((options.artifact / "effect.json").read_text())
    rows = [row["tokens"] for row in effect["rows"]]
    settings = options.artifact / "adapter_config.json"
    if not settings.exists():
        model = AutoModelForCausalLM.from_pretrained(options.artifact, dtype=torch.float32).eval()
        wrong, far = compare(effect, [scores(model, row) for row in rows], None)
        print(wrong or f"the scores are those that are stated, within {far:.1e}")
        sys.exit(bool(wrong))
    base = options.base or json.loads(settings.read_text())["base_model_name_or_path"]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    without = [scores(model, row) for row in rows]
    model = PeftModel.from_pretrained(model, options.artifact).eval()
    with_ = [scores(model, row) for row in rows]
    wrong, far = compare(effect, with_, without)
    print(wrong or f"PEFT: scores with and without it as stated, within {far:.1e}")
    silent, _ = compare(effect, without, without)
    print(f"silenced, it is caught: {silent}" if silent else "silenced, nobody would notice")
    sys.exit(bool(wrong) or not silent)


if __name__ == "__main__":
    main()
