#!/usr/bin/env python3
"""Has PEFT merge the adapters of a composition, one after the other, and compares with `firebrand merge`.

    python composition.py BASE ADAPTER... MERGED

All are folders; MERGED is what `firebrand merge --composition FILE --dtype f32 --out MERGED` made.
"""
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


def main():
    base, *adapters, merged = sys.argv[1:]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    ours = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).state_dict()
    theirs = model.state_dict()
    assert ours.keys() == theirs.keys()
    changed = [name for name in ours if not torch.equal(before[name], theirs[name])]
    worst = max((ours[name] - theirs[name]).abs().max().item() for name in ours)
    largest = max((theirs[name] - before[name]).abs().max().item() for name in changed)
    print(f"{len(adapters)} adapters change {len(changed)} of {len(ours)} tensors by up to {largest:.3e}; "
          f"PEFT and Firebrand differ by up to {worst:.1e}")
    sys.exit(worst > 1e-6)


main()
