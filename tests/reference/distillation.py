"""Numbers of distillation by TRL and PEFT: writes `distillation.json`.

The model is `gqa-tied` with the LoRA adapter of `make_tiny.py`, the teacher is `mha-untied`. `teacher`: log-probabilities
of its likeliest tokens at each answer's tokens. `cases`: loss and gradients of the adapter, of three answers, by
`GKDTrainer.generalized_jsd_loss`: over the whole vocabulary, or over the teacher's likeliest tokens and all others
together, as TRL's `_add_tail_bucket` makes them one; mixed with PyTorch's cross-entropy. `steps`: twenty losses.
"""
import json
import os
import pathlib

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
import peft
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file
from trl.experimental.gkd import GKDTrainer

HERE = pathlib.Path(__file__).parent
CASE = HERE / "tiny" / "gqa-tied"
TEACHER = HERE / "tiny" / "mha-untied"
# A prompt, an answer.
ANSWERS = [
    ([5, 17, 42, 8], [61, 7, 93]),
    ([50, 2, 55], [44, 19]),
    ([9, 71], [9, 31, 77, 64, 21, 6]),
]
ALL = 1 << 20
CASES = [
    {"beta": 0.0, "top_k": ALL},
    {"beta": 0.5, "top_k": ALL},
    {"beta": 1.0, "top_k": ALL},
    {"beta": 0.2, "temperature": 2.5, "top_k": ALL},
    {"beta": 0.5, "top_k": ALL, "kd_ratio": 0.3},
    {"beta": 0.0, "top_k": 6},
    {"beta": 0.5, "temperature": 2.0, "top_k": 6},
    {"beta": 1.0, "top_k": 3, "kd_ratio": 0.6},
]


def load(path):
    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")


def student():
    config = json.loads((CASE / "expected.json").read_text())["lora"]
    adapted = peft.get_peft_model(load(CASE), peft.LoraConfig(task_type="CAUSAL_LM", **config))
    wanted = {name.removeprefix("lora."): values for name, values in load_file(CASE / "expected.safetensors").items()
              if name.startswith("lora.")}
    own = {name.replace(".default", ""): parameter for name, parameter in adapted.named_parameters()
           if "lora_" in name}
    assert own.keys() == wanted.keys()
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(wanted[name])
    return adapted.train()


def logits(model):
    """At the places of all answers' tokens, `[tokens, vocabulary]`, and those tokens."""
    scores, tokens = [], []
    for prompt, answer in ANSWERS:
        found = model(torch.tensor([prompt + answer])).logits[0]
        scores.append(found[len(prompt) - 1:-1])
        tokens += answer
    return torch.cat(scores), torch.tensor(tokens)


def outcomes(scores, tokens, temperature):
    """Log-probabilities of these tokens, and of all others together."""
    logs = F.log_softmax(scores / temperature, dim=-1)
    if tokens.shape[-1] == logs.shape[-1]:
        return logs
    named = logs.gather(-1, tokens)
    others = logs.scatter(-1, tokens, float("-inf")).logsumexp(-1, keepdim=True)
    return torch.cat([named, others], dim=-1)


def loss_of(adapted, taught, case):
    scores, wanted = logits(adapted)
    count = min(case["top_k"], scores.shape[-1])
    temperature = case.get("temperature", 1.0)
    tokens = taught.topk(count).indices
    own, theirs = outcomes(scores, tokens, temperature), outcomes(taught, tokens, temperature)
    if count == scores.shape[-1]:
        own, theirs = scores / temperature, taught / temperature
    # Outcomes are logits of their own log-probabilities.
    labels = torch.zeros(own.shape[0], dtype=torch.long)
    divergence = GKDTrainer.generalized_jsd_loss(own[None], theirs[None], labels[None], beta=case["beta"])
    ratio = case.get("kd_ratio", 1.0)
    return ratio * divergence + (1 - ratio) * F.cross_entropy(scores, wanted)


def cases(taught):
    for case in CASES:
        adapted = student()
        loss = loss_of(adapted, taught, case)
        loss.backward()
        gradients = {path.removeprefix("base_model.model.").replace(".default", ""): parameter.grad.flatten()
                     for path, parameter in adapted.named_parameters() if parameter.grad is not None}
        yield {"settings": case, "loss": loss.item(),
               "gradients": {path: {"norm": values.norm().item(), "first": values[:3].tolist()}
                             for path, values in gradients.items()}}


def steps(taught):
    rate, losses, settings = 3e-3, [], {"beta": 0.5, "temperature": 2.0, "top_k": 6, "kd_ratio": 0.8}
    adapted = student()
    parameters = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    for _ in range(20):
        loss = loss_of(adapted, taught, settings)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return {"learning_rate": rate, "settings": settings, "losses": losses}


def main():
    torch.set_num_threads(1)                              # the order of sums is part of the bytes
    transformers.logging.set_verbosity_error()
    with torch.no_grad():
        taught, _ = logits(load(TEACHER).eval())
        top = F.log_softmax(taught / 2.0, dim=-1).topk(3)
    named = {"temperature": 2.0, "tokens": top.indices.tolist(), "log_probs": top.values.tolist()}
    written = {"answers": ANSWERS, "teacher": named, "cases": list(cases(taught)), "steps": steps(taught)}
    (HERE / "distillation.json").write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
