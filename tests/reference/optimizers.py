"""Ten steps of every optimizer on eight numbers: writes `optimizers.json`.

AdamW by torch.optim.AdamW; Lion by the algorithm of Chen et al. 2023, "Symbolic Discovery of Optimization
Algorithms" (Algorithm 2), written out below.
"""
import json
import pathlib

import torch

HERE = pathlib.Path(__file__).parent
RATE = 1e-2


def adamw(parameter, gradients, decay):
    optimizer = torch.optim.AdamW(
        [parameter], lr=RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=decay)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        yield parameter.detach()


def lion(parameter, gradients, decay, beta1=0.9, beta2=0.99):
    value, momentum = parameter.detach().clone(), torch.zeros_like(parameter)
    for gradient in gradients:
        direction = torch.sign(beta1 * momentum + (1 - beta1) * gradient)
        value = value - RATE * (direction + decay * value)
        momentum = beta2 * momentum + (1 - beta2) * gradient
        yield value


def main():
    generator = torch.Generator().manual_seed(11)
    start = torch.randn(8, generator=generator)
    scale = torch.tensor([1.0, 0.1, 10.0, 1e-4, 1e-8, 0.0, 1.0, 1000.0])
    gradients = torch.randn(10, 8, generator=generator) * scale
    gradients[5:, 6] = 0.0                                # has a gradient, then none
    cases = []
    for name, steps in [("adamw", adamw), ("lion", lion)]:
        for decay in (0.0, 0.1):
            parameter = torch.nn.Parameter(start.clone())
            after = [value.tolist() for value in steps(parameter, gradients, decay)]
            cases.append({"optimizer": name, "weight_decay": decay, "after": after})
    made = {"learning_rate": RATE, "start": start.tolist(), "gradients": gradients.tolist(),
            "cases": cases}
    (HERE / "optimizers.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
