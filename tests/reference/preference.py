"""Numbers of objectives on pairs of answers by TRL and PEFT: writes `preference.json`.

The model is `gqa-tied` with the LoRA adapter of `make_tiny.py`, so that it differs from its reference, the base.
`cases`: loss, what is reported and gradients of the adapter, of two pairs, by TRL's own trainers: DPO by
`DPOTrainer._compute_loss`, the others by `CPOTrainer.get_batch_loss_metrics`. A pair is a batch of its own, since
terms that are means over tokens count each pair the same here. Label smoothing of DPO's `sigmoid` is conservative
DPO, which TRL 1 has no more: the mean of its loss of a pair and of the same pair the other way round. `steps`:
twenty losses of DPO with PyTorch's AdamW.
"""
import contextlib
import json
import os
import pathlib
import types
from collections import defaultdict

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
import peft
import torch
import transformers
from safetensors.torch import load_file
from trl.experimental.cpo import CPOTrainer
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.utils import add_fused_lm_head

HERE = pathlib.Path(__file__).parent
CASE = HERE / "tiny" / "gqa-tied"
# A prompt, the chosen answer, the rejected answer.
PAIRS = [
    ([5, 17, 42, 8], [61, 7, 93], [12, 12, 40, 88, 3]),
    ([50, 2, 55], [9, 31, 77, 64, 21, 6], [44, 19]),
]
DPO = [
    {"beta": 0.3},
    {"beta": 0.3, "loss_type": "hinge"},
    {"beta": 0.3, "loss_type": "ipo"},
    {"beta": 0.3, "loss_type": "robust", "label_smoothing": 0.2},
    {"beta": 0.3, "label_smoothing": 0.2},
    {"beta": 0.3, "ld_alpha": 0.4},
    {"beta": 0.3, "loss_type": "ipo", "ld_alpha": 0.4, "rpo_alpha": 0.7},
    {"beta": 0.3, "rpo_alpha": 0.5},
]
CPO = [
    {"beta": 0.3, "cpo_alpha": 0.5},
    {"beta": 0.3, "loss_type": "hinge", "cpo_alpha": 0.0},
    {"beta": 0.3, "loss_type": "ipo", "cpo_alpha": 1.0},
    {"beta": 0.3, "label_smoothing": 0.2, "cpo_alpha": 1.0},
]
SIMPO = [
    {"beta": 2.0, "gamma": 0.7, "cpo_alpha": 0.0},
    {"beta": 2.5, "gamma": 0.5, "cpo_alpha": 0.4, "label_smoothing": 0.1},
]
REPORTED = ["rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen",
            "logps/rejected"]


def model():
    config = json.loads((CASE / "expected.json").read_text())["lora"]
    base = transformers.AutoModelForCausalLM.from_pretrained(
        CASE, dtype=torch.float32, attn_implementation="eager")
    add_fused_lm_head(base, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    adapted = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", **config))
    wanted = {name.removeprefix("lora."): values for name, values in load_file(CASE / "expected.safetensors").items()
              if name.startswith("lora.")}
    own = {name.replace(".default", ""): parameter for name, parameter in adapted.named_parameters()
           if "lora_" in name}
    assert own.keys() == wanted.keys(), (sorted(own)[:3], sorted(wanted)[:3])
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(wanted[name])
    return adapted.train()


def accelerator():
    identity = lambda value: value
    return types.SimpleNamespace(device=torch.device("cpu"), gather=identity, gather_for_metrics=identity,
                                 unwrap_model=identity, autocast=contextlib.nullcontext)


def rows(pair):
    """The prompt with each answer, filled up at the end: tokens, attention, and what is an answer."""
    prompt, *answers = pair
    length = len(prompt) + max(map(len, answers))
    fill = lambda row: row + [0] * (length - len(row))
    tokens = torch.tensor([fill(prompt + answer) for answer in answers])
    real = torch.tensor([fill([1] * (len(prompt) + len(answer))) for answer in answers])
    answer = torch.tensor([fill([0] * len(prompt) + [1] * len(answer)) for answer in answers])
    return tokens, real, answer


def dpo(adapted, settings, pairs):
    """The mean over pairs, and what is reported."""
    settings = dict(settings)
    rpo_alpha, smoothing = settings.pop("rpo_alpha", 0.0), settings.get("label_smoothing", 0.0)
    kind = settings.get("loss_type", "sigmoid")
    # Conservative DPO is a mean of both directions of the plain loss.
    conservative = kind == "sigmoid" and smoothing > 0
    trainer = types.SimpleNamespace(
        model=adapted, ref_model=None, accelerator=accelerator(), beta=settings["beta"],
        label_smoothing=smoothing, ld_alpha=settings.get("ld_alpha"), loss_types=[kind, "sft"],
        loss_weights=[1.0, rpo_alpha], f_divergence_type="reverse_kl", use_weighting=False, aux_loss_enabled=False,
        precompute_ref_logps=False, _metrics=defaultdict(lambda: defaultdict(list)), _total_train_tokens=0, _tp_size=1,
        args=types.SimpleNamespace(gradient_checkpointing_kwargs=None))
    losses, reported = [], defaultdict(list)
    for pair in pairs:
        tokens, real, answer = rows(pair)
        inputs = {"input_ids": tokens, "attention_mask": real, "completion_mask": answer}
        loss = DPOTrainer._compute_loss(trainer, adapted, inputs, False)
        if conservative:
            flipped = {name: values.flip(0) for name, values in inputs.items()}
            other = types.SimpleNamespace(**{**vars(trainer), "_metrics": defaultdict(lambda: defaultdict(list))})
            loss = (1 - smoothing) * loss + smoothing * DPOTrainer._compute_loss(other, adapted, flipped, False)
        losses.append(loss)
    for name in REPORTED:
        values = trainer._metrics["train"][name]
        reported[name] = sum(values) / len(values)
    return torch.stack(losses).mean(), dict(reported)


def cpo(adapted, settings, pairs, kind=None):
    trainer = types.SimpleNamespace(
        accelerator=accelerator(), beta=settings["beta"], alpha=0.0, simpo_gamma=settings.get("gamma", 0.0),
        loss_type=kind or settings.get("loss_type", "sigmoid"), label_smoothing=settings.get("label_smoothing", 0.0),
        cpo_alpha=settings["cpo_alpha"], aux_loss_enabled=False, is_encoder_decoder=False, pad_token_id=0,
        get_batch_logps=CPOTrainer.get_batch_logps, concatenated_inputs=CPOTrainer.concatenated_inputs)
    for name in ("cpo_loss", "concatenated_forward"):
        setattr(trainer, name, types.MethodType(getattr(CPOTrainer, name), trainer))
    losses, reported = [], defaultdict(float)
    for pair in pairs:
        tokens, real, answer = rows(pair)
        batch = {}
        for number, name in enumerate(["chosen", "rejected"]):
            row = slice(number, number + 1)
            batch[f"{name}_input_ids"], batch[f"{name}_attention_mask"] = tokens[row], real[row]
            batch[f"{name}_labels"] = tokens[row].masked_fill(answer[row] == 0, -100)
        loss, metrics = CPOTrainer.get_batch_loss_metrics(trainer, adapted, batch)
        losses.append(loss)
        for name in REPORTED:
            reported[name] += metrics[name] / len(pairs)
    return torch.stack(losses).mean(), dict(reported)


def cases():
    objectives = [("dpo", DPO, dpo), ("cpo", CPO, cpo),
                  ("simpo", SIMPO, lambda *all: cpo(*all, kind="simpo"))]
    for name, settings, of in objectives:
        for case in settings:
            adapted = model()
            loss, reported = of(adapted, case, PAIRS)
            loss.backward()
            gradients = {path.removeprefix("base_model.model.").replace(".default", ""): parameter.grad.flatten()
                         for path, parameter in adapted.named_parameters() if parameter.grad is not None}
            yield {
                "objective": name, "settings": case, "loss": loss.item(), "metrics": reported,
                "gradients": {path: {"norm": values.norm().item(), "first": values[:3].tolist()}
                              for path, values in gradients.items()}}


def steps():
    rate, losses = 1e-3, []
    adapted = model()
    parameters = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    for _ in range(20):
        loss, _ = dpo(adapted, {"beta": 0.3}, PAIRS)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return {"learning_rate": rate, "beta": 0.3, "losses": losses}


def main():
    torch.set_num_threads(1)                              # the order of sums is part of the bytes
    transformers.logging.set_verbosity_error()
    written = {"pairs": PAIRS, "cases": list(cases()), "steps": steps()}
    (HERE / "preference.json").write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
