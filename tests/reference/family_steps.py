#!/usr/bin/env python3
"""The losses of twenty steps of the tiny models of families, in `family_steps.json`.

    python family_steps.py [CASE...]    # all cases without arguments; the others stay as they are

AdamW by PyTorch, of a LoRA adapter by PEFT and of all weights, on the models and batches of
`make_families.py`. Both sides begin with the same numbers. Beside the losses stands how far they
are from those of a run that begins with numbers one part in ten million larger.
"""
import json
import sys

import torch
import transformers
from peft import LoraConfig, get_peft_model

import make_families as families
from make_tiny import ADAMW, MAX_GRAD_NORM, STEPS
from reference import nll_sum, peft_key

PATH = families.HERE / "family_steps.json"
# Larger ones make errors of single precision grow to a hundredth within the twenty steps.
LORA_RATE, FULL_RATE = 3e-3, 3e-4


def adapted(case):
    model = families.model_of(case)
    excluded = families.others(model)
    model = get_peft_model(model, LoraConfig(
        task_type="CAUSAL_LM", target_modules=families.linears(case, model), lora_dropout=0.0,
        target_parameters=families.PARAMETERS.get(case), exclude_modules=excluded,
        **families.LORA)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(families.factors(case, peft_key(name), parameter.shape))
    return model


def steps(make, batch, rate):
    found, others = (losses(make(), batch, rate, off) for off in (0.0, 1e-7))
    rounding = max(abs(a / b - 1) for a, b in zip(found, others))
    return {"losses": found, "rounding": float("%.1e" % rounding)}


def losses(model, batch, rate, off):
    trained = [p for p in model.parameters() if p.requires_grad]
    with torch.no_grad():
        for parameter in trained:
            parameter.mul_(1 + off)
    optimizer, found = torch.optim.AdamW(trained, lr=rate, **ADAMW), []
    for _ in range(STEPS):
        loss = nll_sum(families.logits_of(model, batch), batch) / len(batch.index)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return families.short(found)


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    made = json.loads(PATH.read_text()) if PATH.exists() else {}
    for case in families.CASES:
        if sys.argv[1:] and case not in sys.argv[1:]:
            continue
        batch = families.make_batch(families.LENGTHS.get(case, families.LENGTH))
        made[case] = {"lora": steps(lambda: adapted(case), batch, LORA_RATE)}
        if case not in families.IN_MXFP4:
            made[case]["full"] = steps(lambda: families.model_of(case), batch, FULL_RATE)
        print(case, {kind: (of["losses"][0], of["losses"][-1], of["rounding"])
                     for kind, of in made[case].items()}, flush=True)
    lines = [f'"{case}":{json.dumps(made[case], separators=(",", ":"))}' for case in sorted(made)]
    PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
