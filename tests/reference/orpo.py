"""Numbers of ORPO by TRL and PyTorch: writes `orpo.json`.

`odds`: `ORPOTrainer.odds_ratio_loss` itself. `step`: loss, metrics and gradients of two pairs on the tiny model
`gqa-tied`; log-probabilities by TRL's `get_batch_logps`, the first term of the answers alone (the paper's), and
the mean over pairs. `steps`: twenty losses of the same two pairs with PyTorch's AdamW, all weights learning.
"""
import json
import os
import pathlib
import types

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
import torch
import transformers
from trl.experimental.orpo import ORPOTrainer

HERE = pathlib.Path(__file__).parent
BETA = 0.3
# A prompt, the chosen answer, the rejected answer.
PAIRS = [
    ([5, 17, 42, 8], [61, 7, 93], [12, 12, 40, 88, 3]),
    ([50, 2, 55], [9, 31, 77, 64, 21, 6], [44, 19]),
]


def trainer(beta):
    return types.SimpleNamespace(beta=beta, accelerator=types.SimpleNamespace(device="cpu"))


def odds():
    cases = []
    for beta, chosen, rejected in [(0.1, -0.5, -1.5), (0.3, -2.0, -0.3), (1.0, -0.05, -4.0), (0.1, -1.0, -1.0),
                                   (0.2, -6.0, -5.0)]:
        pair = torch.tensor([chosen]), torch.tensor([rejected])
        losses, better, worse, ratio, log_odds = ORPOTrainer.odds_ratio_loss(trainer(beta), *pair)
        cases.append({
            "beta": beta, "chosen": chosen, "rejected": rejected, "losses": losses.item(), "nll_loss": -chosen,
            "rewards/chosen": better.item(), "rewards/rejected": worse.item(),
            "rewards/accuracies": float(better > worse), "rewards/margins": (better - worse).item(),
            "log_odds_ratio": ratio.item(), "log_odds_chosen": log_odds.item()})
    return cases


def model():
    return transformers.AutoModelForCausalLM.from_pretrained(
        HERE / "tiny" / "gqa-tied", dtype=torch.float32, attn_implementation="eager")


def orpo(model):
    """The mean over the pairs, and what is reported."""
    answers = {}
    for name, place in (("chosen", 1), ("rejected", 2)):
        of_each = []
        for pair in PAIRS:
            tokens = torch.tensor([pair[0] + pair[place]])
            labels = tokens.clone()
            labels[0, :len(pair[0])] = -100
            logits = model(tokens).logits
            of_each.append(ORPOTrainer.get_batch_logps(logits, labels, average_log_prob=True)[0])
        answers[name] = torch.stack(of_each)
    losses, better, worse, ratio, log_odds = ORPOTrainer.odds_ratio_loss(
        trainer(BETA), answers["chosen"], answers["rejected"])
    return -answers["chosen"].mean() - losses.mean(), {
        "rewards/chosen": better.mean().item(), "rewards/rejected": worse.mean().item(),
        "rewards/accuracies": (better > worse).float().mean().item(),
        "rewards/margins": (better - worse).mean().item(),
        "logps/chosen": answers["chosen"].mean().item(), "logps/rejected": answers["rejected"].mean().item(),
        "nll_loss": -answers["chosen"].mean().item(),
        "log_odds_ratio": ratio.item(), "log_odds_chosen": log_odds.item()}


def step():
    learner = model()
    loss, metrics = orpo(learner)
    loss.backward()
    gradients = {name: parameter.grad.flatten() for name, parameter in learner.named_parameters()}
    return {
        "beta": BETA, "pairs": PAIRS, "loss": loss.item(), "metrics": metrics,
        "gradients": {name: {"norm": values.norm().item(), "first": values[:6].tolist()}
                      for name, values in gradients.items()}}


def steps():
    rate, losses = 1e-3, []
    learner = model()
    optimizer = torch.optim.AdamW(learner.parameters(), lr=rate, weight_decay=0.0)
    for _ in range(20):
        loss, _ = orpo(learner)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return {"learning_rate": rate, "beta": BETA, "losses": losses}


def main():
    torch.set_num_threads(1)                              # the order of sums is part of the bytes
    transformers.logging.set_verbosity_error()
    written = {"odds": odds(), "step": step(), "steps": steps()}
    (HERE / "orpo.json").write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
