"""Numbers of GRPO and its variants by TRL and PEFT: writes `grpo.json`.

The model is `gqa-tied` with the LoRA adapter of `make_tiny.py`, so that it differs from its reference, the base.
Completions and their rewards are fixed; what the model found likely when it wrote them (`old`) is what it finds now,
moved a little, so that some ratios are clipped. `cases`: loss, what is reported and gradients of the adapter by
`GRPOTrainer._compute_loss`, all completions in one batch. Advantages are those of
`GRPOTrainer._generate_and_score_completions`, and of `RLOOTrainer` for `leave_one_out`. The estimator `k2`, which TRL
does not have, is Schulman's of 2020, in place of TRL's. `steps`: twenty losses with the same completions by
PyTorch's AdamW, so that clipping begins by itself.
"""
import json
import types
from collections import defaultdict

import torch
import transformers
from preference import HERE, accelerator
from preference import model as adapted_model
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import add_fused_lm_head

# Of each prompt, completions: tokens, whether they ended, reward.
GROUPS = [
    ([5, 17, 42, 8], [([61, 7, 93], True, 1.0), ([12, 12, 40, 88, 3], True, 0.0), ([9, 31], False, 0.25)]),
    ([50, 2, 55], [([9, 31, 77, 64, 21, 6], False, 0.0), ([44, 19], True, 1.0), ([70], True, 1.0)]),
]
MAX_COMPLETION_LENGTH = 8
CASES = [
    {"loss_type": "grpo"},
    {"loss_type": "dapo"},
    {"loss_type": "dr_grpo", "scale_rewards": "none"},
    {"loss_type": "dapo", "scale_rewards": "batch", "epsilon": 0.1, "epsilon_high": 0.28},
    {"loss_type": "grpo", "beta": 0.3},
    {"loss_type": "dapo", "beta": 0.3, "kl_estimator": "k2"},
    {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.03, "epsilon_high": 0.04},
    {"loss_type": "dapo", "mask_truncated_completions": True},
    {"loss_type": "grpo", "mask_truncated_completions": True, "beta": 0.1},
    {"loss_type": "grpo", "baseline": "leave_one_out", "scale_rewards": "none"},
    {"loss_type": "dapo", "temperature": 0.7, "beta": 0.2},
    {"loss_type": "grpo", "num_iterations": 1},
]


def advantages(settings):
    rewards = torch.tensor([[reward for _, _, reward in completions] for _, completions in GROUPS])
    count = rewards.size(1)
    if settings.get("baseline") == "leave_one_out":
        advantage = rewards - (rewards.sum(1, keepdim=True) - rewards) / (count - 1)
    else:
        advantage = rewards - rewards.mean(1, keepdim=True)
    scale = settings.get("scale_rewards", "group")
    if scale == "group":
        advantage = advantage / (rewards.std(1, keepdim=True) + 1e-4)
    elif scale == "batch":
        advantage = advantage / (rewards.std() + 1e-4)
    return advantage.flatten()


def batch(settings):
    """Prompts filled up on the left, completions on the right, as TRL has them."""
    rows = [(prompt, *completion) for prompt, completions in GROUPS for completion in completions]
    before, after = max(len(row[0]) for row in rows), max(len(row[1]) for row in rows)
    left = lambda row: [0] * (before - len(row)) + row
    right = lambda row: row + [0] * (after - len(row))
    counts = lambda row: [int(row[2] or not settings.get("mask_truncated_completions"))] * len(row[1])
    inputs = {
        "prompt_ids": [left(row[0]) for row in rows],
        "prompt_mask": [left([1] * len(row[0])) for row in rows],
        "completion_ids": [right(row[1]) for row in rows],
        "completion_mask": [right(counts(row)) for row in rows],
    }
    inputs = {name: torch.tensor(values) for name, values in inputs.items()}
    return {**inputs, "advantages": advantages(settings), "num_items_in_batch": inputs["completion_mask"].sum()}


def trainer(settings):
    epsilon = settings.get("epsilon", 0.2)
    made = types.SimpleNamespace(
        accelerator=types.SimpleNamespace(
            **vars(accelerator()), num_processes=1, reduce=lambda values, reduction: values),
        loss_type=settings["loss_type"], beta=settings.get("beta", 0.0), epsilon_low=epsilon,
        epsilon_high=settings.get("epsilon_high", epsilon), temperature=settings.get("temperature", 1.0),
        importance_sampling_level=settings.get("importance_sampling_level", "token"), top_entropy_quantile=1.0,
        off_policy_mask_threshold=None, use_vllm=False, aux_loss_enabled=False, _entropy_bonus_enabled=False,
        max_completion_length=MAX_COMPLETION_LENGTH, current_gradient_accumulation_steps=1,
        model_kwarg_keys=[], model=types.SimpleNamespace(training=True),
        _metrics=defaultdict(lambda: defaultdict(list)),
        args=types.SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1))
    made._get_per_token_logps_and_entropies = types.MethodType(
        GRPOTrainer._get_per_token_logps_and_entropies.__wrapped__, made)
    return made


def log_probs(of, adapted, inputs):
    both = [torch.cat([inputs[f"prompt_{name}"], inputs[f"completion_{name}"]], dim=1) for name in ("ids", "mask")]
    # What is left out of the loss is there for the model all the same.
    both[1][:, inputs["prompt_ids"].size(1):] |= inputs["completion_ids"] > 0
    with torch.no_grad():
        found, *_ = of._get_per_token_logps_and_entropies(adapted, *both, inputs["completion_ids"].size(1))
    return found


def moved(values):
    """By up to a third, differently for each token."""
    places = torch.arange(values.numel(), dtype=torch.float32).reshape(values.shape)
    return values + 0.35 * torch.sin(2.3 * places)


def prepared(settings, adapted):
    add_fused_lm_head(adapted.get_base_model(), temperature=settings.get("temperature", 1.0),
                      outputs=("log_probs", "entropy"))
    of, inputs = trainer(settings), batch(settings)
    inputs["old_per_token_logps"] = None
    if settings.get("num_iterations", 2) > 1:
        inputs["old_per_token_logps"] = moved(log_probs(of, adapted, inputs))
    if of.beta > 0:
        with adapted.disable_adapter():
            inputs["ref_per_token_logps"] = log_probs(of, adapted, inputs)
    return of, inputs




def loss_of(settings, of, adapted, inputs):
    if settings.get("kl_estimator") != "k2":
        return GRPOTrainer._compute_loss(of, adapted, inputs)
    # TRL's loss without the divergence, and the divergence beside it, with the same mean.
    own = types.SimpleNamespace(**{**vars(of), "beta": 0.0})
    loss = GRPOTrainer._compute_loss(own, adapted, inputs)
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
    now, *_ = of._get_per_token_logps_and_entropies(adapted, ids, mask, inputs["completion_ids"].size(1))
    kl = 0.5 * (now - inputs["ref_per_token_logps"]) ** 2 * inputs["completion_mask"]
    mean = kl.sum() / inputs["num_items_in_batch"]
    of._metrics["train"]["kl"].append(mean.item())
    return loss + of.beta * mean


def old_of(inputs):
    old = inputs["old_per_token_logps"]
    if old is None:
        return None
    lengths = (inputs["completion_ids"] > 0).sum(1).tolist()
    return [row[:length].tolist() for row, length in zip(old, lengths)]


def cases():
    for settings in CASES:
        adapted = adapted_model()
        of, inputs = prepared(settings, adapted)
        loss = loss_of(settings, of, adapted, inputs)
        loss.backward()
        gradients = {path.removeprefix("base_model.model.").replace(".default", ""): parameter.grad.flatten()
                     for path, parameter in adapted.named_parameters() if parameter.grad is not None}
        metrics = {name: values[0] for name, values in of._metrics["train"].items()
                   if name in ("kl", "clip_ratio/low_mean", "clip_ratio/high_mean")}
        if of.importance_sampling_level == "sequence":
            # There TRL counts completions, not tokens.
            metrics = {}
        yield {
            "settings": settings, "advantages": inputs["advantages"].tolist(), "old": old_of(inputs),
            "loss": loss.item(), "metrics": metrics,
            "gradients": {path: {"norm": values.norm().item(), "first": values[:3].tolist()}
                          for path, values in gradients.items()}}


def steps():
    rate, losses = 3e-3, []
    settings = {"loss_type": "dapo", "beta": 0.1}
    adapted = adapted_model()
    of, inputs = prepared(settings, adapted)
    inputs["old_per_token_logps"] = log_probs(of, adapted, inputs)
    parameters = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    for _ in range(20):
        loss = GRPOTrainer._compute_loss(of, adapted, inputs)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    clipped = of._metrics["train"]["clip_ratio/region_mean"]
    assert clipped[0] == 0 and clipped[-1] > 0, clipped
    return {"learning_rate": rate, "settings": settings, "advantages": inputs["advantages"].tolist(),
            "old": old_of(inputs), "losses": losses}


def main():
    torch.set_num_threads(1)                              # the order of sums is part of the bytes
    transformers.logging.set_verbosity_error()
    written = {"groups": GROUPS, "max_completion_length": MAX_COMPLETION_LENGTH, "cases": list(cases()),
               "steps": steps()}
    (HERE / "grpo.json").write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
