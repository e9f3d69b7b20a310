"""Numbers of heads that score labels, by transformers, PEFT and TRL: writes `classification.json` and the adapter in
`classification/`.

The model is `gqa-tied` as `LlamaForSequenceClassification` with the LoRA adapter of `make_tiny.py` and a head drawn
with a seed. `cases`: scores, loss and gradients by `problem_type`, with the loss of transformers; of rewards by TRL's
`RewardTrainer.compute_loss`. `steps`: twenty losses of each with PyTorch's AdamW. `classification/` is what PEFT saves of
the first case, and `saved` has its scores.
"""
import json
import pathlib
import types
from collections import defaultdict

import peft
import torch
import transformers
from safetensors.torch import load_file
from trl.trainer.reward_trainer import RewardTrainer

HERE = pathlib.Path(__file__).parent
CASE = HERE / "tiny" / "gqa-tied"
TEXTS = [[5, 17, 42, 8, 61], [50, 2, 55], [9, 31, 77, 64, 21, 6, 44, 19], [12]]
# A prompt, the chosen answer, the rejected answer.
PAIRS = [([5, 17, 42, 8], [61, 7, 93], [12, 12, 40, 88, 3]), ([50, 2, 55], [9, 31, 77, 64, 21, 6], [44, 19])]
CASES = [
    ("single_label_classification", 3, [2, 0, 1, 2]),
    ("multi_label_classification", 10, [[0, 9], [], [1, 2, 8], [7]]),
    ("regression", 1, [0.5, -1.25, 3.0, 0.1]),
    ("regression", 2, [[0.5, 1.0], [-1.25, 0.3], [3.0, -2.0], [0.1, 0.0]]),
]
CENTERS = [None, 0.3]


def head(labels):
    generator = torch.Generator().manual_seed(labels)
    return (torch.randn(labels, 32, generator=generator) * 0.1 * 1000).round() / 1000


def model(labels, problem):
    config = json.loads((CASE / "expected.json").read_text())["lora"]
    base = transformers.AutoModelForSequenceClassification.from_pretrained(
        CASE, dtype=torch.float32, attn_implementation="eager", num_labels=labels, problem_type=problem, pad_token_id=0)
    adapted = peft.get_peft_model(base, peft.LoraConfig(task_type="SEQ_CLS", **config))
    wanted = {name.removeprefix("lora."): values for name, values in load_file(CASE / "expected.safetensors").items()
              if name.startswith("lora.")}
    own = {name.replace(".default", ""): parameter for name, parameter in adapted.named_parameters()
           if "lora_" in name}
    assert own.keys() == wanted.keys(), (sorted(own)[:3], sorted(wanted)[:3])
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(wanted[name])
        adapted.base_model.model.score.modules_to_save["default"].weight.copy_(head(labels))
    return adapted.train()


def rows(texts):
    length = max(map(len, texts))
    fill = lambda row: row + [0] * (length - len(row))
    return torch.tensor([fill(text) for text in texts]), torch.tensor([fill([1] * len(text)) for text in texts])


def labels_of(problem, count, labels):
    if problem == "single_label_classification":
        return torch.tensor(labels)
    if problem == "multi_label_classification":
        return torch.tensor([[float(label in has) for label in range(count)] for has in labels])
    return torch.tensor(labels)


def classified(adapted, case):
    problem, count, labels = case
    tokens, real = rows(TEXTS)
    return adapted(input_ids=tokens, attention_mask=real, labels=labels_of(problem, count, labels))


def rewarded(adapted, center):
    """The mean over pairs, as TRL has it: all chosen answers, then all rejected ones."""
    tokens, real = rows([prompt + answer for number in (1, 2)
                         for prompt, answer in ((pair[0], pair[number]) for pair in PAIRS)])
    trainer = types.SimpleNamespace(
        args=types.SimpleNamespace(center_rewards_coefficient=center), aux_loss_enabled=False,
        accelerator=types.SimpleNamespace(gather_for_metrics=lambda value: value, gather=lambda value: value),
        _metrics=defaultdict(lambda: defaultdict(list)), _total_train_tokens=0, _tp_size=1)
    trainer.model = adapted
    loss, outputs = RewardTrainer.compute_loss(
        trainer, adapted, {"input_ids": tokens, "attention_mask": real}, return_outputs=True)
    metrics = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    return loss, metrics


def gradients(adapted):
    found = {}
    for path, parameter in adapted.named_parameters():
        if parameter.grad is not None:
            path = path.removeprefix("base_model.model.").replace(".modules_to_save", "").replace(".default", "")
            values = parameter.grad.flatten()
            found[path] = {"norm": values.norm().item(), "first": values[:3].tolist()}
    return found


def cases():
    for case in CASES:
        problem, count, labels = case
        adapted = model(count, problem)
        output = classified(adapted, case)
        output.loss.backward()
        yield {"objective": "classification", "problem_type": problem, "head": head(count).tolist(), "labels": labels,
               "scores": output.logits.tolist(), "loss": output.loss.item(), "gradients": gradients(adapted)}
    for center in CENTERS:
        adapted = model(1, None)
        loss, metrics = rewarded(adapted, center)
        loss.backward()
        yield {"objective": "reward", "center_rewards_coefficient": center or 0.0, "head": head(1).tolist(),
               "metrics": {name: metrics[name] for name in ("accuracy", "margin", "mean_reward") if name in metrics},
               "loss": loss.item(), "gradients": gradients(adapted)}


def steps(adapted, loss_of):
    rate, losses = 1e-3, []
    parameters = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    for _ in range(20):
        loss = loss_of(adapted)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return {"learning_rate": rate, "losses": losses}


def saved():
    """What PEFT writes, and the scores of what it reads again."""
    problem, count, _ = CASES[0]
    folder = HERE / "classification"
    adapted = model(count, problem)
    adapted.peft_config["default"].base_model_name_or_path = "base"
    adapted.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    base = transformers.AutoModelForSequenceClassification.from_pretrained(
        CASE, dtype=torch.float32, attn_implementation="eager", num_labels=count, pad_token_id=0)
    again = peft.PeftModel.from_pretrained(base, folder).eval()
    tokens, real = rows(TEXTS)
    with torch.no_grad():
        return again(input_ids=tokens, attention_mask=real).logits.tolist()


def main():
    torch.set_num_threads(1)                              # the order of sums is part of the bytes
    transformers.logging.set_verbosity_error()
    problem, count, _ = CASES[0]
    written = {
        "texts": TEXTS, "pairs": PAIRS, "cases": list(cases()), "saved": saved(),
        "steps": {"classification": steps(model(count, problem), lambda it: classified(it, CASES[0]).loss),
                  "reward": steps(model(1, None), lambda it: rewarded(it, None)[0])}}
    (HERE / "classification.json").write_text(json.dumps(written) + "\n")


if __name__ == "__main__":
    main()
