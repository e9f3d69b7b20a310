"""Numbers of KTO by TRL and PEFT: writes `kto.json`.

The model is `gqa-tied` with the LoRA adapter of `make_tiny.py`. `cases`: loss, what is reported and gradients of the
adapter of a step of four answers with labels, by `KTOTrainer._compute_loss`. Answers to other prompts, for the
point of reference, are those that TRL makes: each prompt with the answer before its own. `steps`: twenty losses.
"""
import json
import types
from collections import defaultdict

import torch
import transformers
from preference import HERE, accelerator, model
from trl.trainer.kto_trainer import KTOTrainer

# A prompt, an answer, whether it is desirable.
ANSWERS = [
    ([5, 17, 42, 8], [61, 7, 93], True),
    ([50, 2, 55], [44, 19], False),
    ([5, 17, 42, 8], [12, 12, 40, 88, 3], False),
    ([9, 71], [9, 31, 77, 64, 21, 6], True),
]
CASES = [
    {"beta": 0.3},
    {"beta": 0.3, "desirable_weight": 1.4, "undesirable_weight": 0.6},
    {"beta": 0.3, "loss_type": "apo_zero_unpaired"},
]


def rows(parts):
    """Prompts with answers, filled up at the end: tokens, attention, and what is an answer."""
    length = max(len(prompt) + len(answer) for prompt, answer in parts)
    fill = lambda row: row + [0] * (length - len(row))
    return (torch.tensor([fill(prompt + answer) for prompt, answer in parts]),
            torch.tensor([fill([1] * len(prompt + answer)) for prompt, answer in parts]),
            torch.tensor([fill([0] * len(prompt) + [1] * len(answer)) for prompt, answer in parts]))


def kto(adapted, settings):
    answers = [answer for _, answer, _ in ANSWERS]
    before = answers[-1:] + answers[:-1]
    tokens, real, answer = rows([(prompt, own) for prompt, own, _ in ANSWERS])
    kl_tokens, kl_real, kl_answer = rows([(prompt, other) for (prompt, _, _), other in zip(ANSWERS, before)])
    kind = settings.get("loss_type", "kto")
    trainer = types.SimpleNamespace(
        model=adapted, ref_model=None, accelerator=accelerator(), beta=settings["beta"], loss_type=kind,
        desirable_weight=settings.get("desirable_weight", 1.0), calculate_KL=kind == "kto",
        undesirable_weight=settings.get("undesirable_weight", 1.0), aux_loss_enabled=False,
        precompute_ref_logps=False, _metrics=defaultdict(lambda: defaultdict(list)), _total_train_tokens=0, _tp_size=1,
        args=types.SimpleNamespace(gradient_checkpointing_kwargs=None))
    trainer._compute_kl_logps = types.MethodType(KTOTrainer._compute_kl_logps, trainer)
    inputs = {
        "input_ids": tokens, "attention_mask": real, "completion_mask": answer, "KL_input_ids": kl_tokens,
        "KL_attention_mask": kl_real, "KL_completion_mask": kl_answer,
        "label": torch.tensor([label for _, _, label in ANSWERS])}
    loss = KTOTrainer._compute_loss(trainer, adapted, inputs, False)
    names = ["rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen", "logps/rejected", "kl"]
    found = trainer._metrics["train"]
    return loss, {name: found[name][0] for name in names if found[name]}


def cases():
    for case in CASES:
        adapted = model()
        loss, reported = kto(adapted, case)
        loss.backward()
        gradients = {path.removeprefix("base_model.model.").replace(".default", ""): parameter.grad.flatten()
                     for path, parameter in adapted.named_parameters() if parameter.grad is not None}
        yield {"objective": "kto", "settings": case, "loss": loss.item(), "metrics": reported,
               "gradients": {path: {"norm": values.norm().item(), "first": values[:3].tolist()}
                             for path, values in gradients.items()}}


def steps():
    rate, losses = 3e-3, []
    adapted = model()
    parameters = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    for _ in range(20):
        loss, _ = kto(adapted, {"beta": 0.3})
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return {"learning_rate": rate, "beta": 0.3, "losses": losses}


def main():
    torch.set_num_threads(1)                              # the order of sums is part of the bytes
    transformers.logging.set_verbosity_error()
    written = {"answers": ANSWERS, "cases": list(cases()), "steps": steps()}
    (HERE / "kto.json").write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
