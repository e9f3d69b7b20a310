"""Ten steps of every optimizer: writes `optimizers.json`.

On eight numbers: AdamW by torch.optim.AdamW; Lion by the algorithm of Chen et al. 2023, "Symbolic Discovery of
Optimization Algorithms" (Algorithm 2), written out below; SGD by torch.optim.SGD; Adafactor by transformers; Muon, which
leaves vectors to AdamW; AdamW without schedule by the reference implementation of schedulefree (1.4.1); AdamW in 8 bits,
which keeps few numbers in 32.

On matrices of 4 by 6 and 6 by 4: Adafactor, and Muon by torch.optim.Muon, its iteration in 32 bits.

On 4352 numbers that arithmetic makes, every 97th kept: AdamW in 8 bits by bitsandbytes on the CPU.

Beside them an average of weights, by torch.optim.swa_utils.
"""
import json
import pathlib

import bitsandbytes
import schedulefree
import torch
import transformers
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

HERE = pathlib.Path(__file__).parent
RATE = 1e-2
LARGE, KEPT = (68, 64), 97


def stepped(make):
    def steps(parameter, gradients, decay):
        optimizer = make(parameter, decay)
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimizer.step()
            yield parameter.detach()
    return steps


adamw = stepped(lambda parameter, decay: torch.optim.AdamW(
    [parameter], lr=RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=decay))
sgd = stepped(lambda parameter, decay: torch.optim.SGD(
    [parameter], lr=RATE, momentum=0.9, weight_decay=decay))
nesterov = stepped(lambda parameter, decay: torch.optim.SGD(
    [parameter], lr=RATE, momentum=0.9, nesterov=True, weight_decay=decay))
plain = stepped(lambda parameter, decay: torch.optim.SGD([parameter], lr=RATE, weight_decay=decay))
adafactor = stepped(lambda parameter, decay: transformers.Adafactor(
    [parameter], lr=RATE, relative_step=False, scale_parameter=False, weight_decay=decay))
scaled = stepped(lambda parameter, decay: transformers.Adafactor(
    [parameter], lr=RATE, relative_step=False, scale_parameter=True, weight_decay=decay))


def lion(parameter, gradients, decay, beta1=0.9, beta2=0.99):
    value, momentum = parameter.detach().clone(), torch.zeros_like(parameter)
    for gradient in gradients:
        direction = torch.sign(beta1 * momentum + (1 - beta1) * gradient)
        value = value - RATE * (direction + decay * value)
        momentum = beta2 * momentum + (1 - beta2) * gradient
        yield value


def schedule_free(parameter, gradients, decay):
    """What is trained, and after all steps what is used."""
    optimizer = schedulefree.AdamWScheduleFreeReference(
        [parameter], lr=RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=decay)
    optimizer.train()
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        yield parameter.detach()
    optimizer.eval()
    yield parameter.detach()


def muon(adjust):
    def steps(parameter, gradients, decay):
        optimizer = torch.optim.Muon([parameter], lr=RATE, weight_decay=decay, adjust_lr_fn=adjust)
        short, torch.bfloat16 = torch.bfloat16, torch.float32
        try:
            for gradient in gradients:
                parameter.grad = gradient.clone()
                optimizer.step()
                yield parameter.detach()
        finally:
            torch.bfloat16 = short
    return steps


def eight_bits(decay):
    """Numbers of integers, exact in 32 bits: anyone makes the same ones."""
    count = LARGE[0] * LARGE[1]
    places = torch.arange(count, dtype=torch.int64)

    def made(step):
        mixed = (places * 40503 + step * 9973 + 12345) % 65536
        numbers = (mixed.to(torch.float32) - 32768) / 32768
        return (numbers * numbers * numbers).reshape(LARGE)

    parameter = torch.nn.Parameter(made(100))
    optimizer = bitsandbytes.optim.AdamW8bit(
        [parameter], lr=RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=decay)
    after = []
    for step in range(10):
        parameter.grad = made(step)
        optimizer.step()
        after.append(parameter.detach().flatten()[::KEPT].tolist())
    state = optimizer.state[parameter]
    codes = [state[name].flatten()[::KEPT].tolist() for name in ("state1", "state2")]
    return {"optimizer": "adamw-8bit", "weight_decay": decay, "shape": LARGE, "kept": KEPT,
            "after": after, "codes": codes,
            "absmax": [state[name].tolist() for name in ("absmax1", "absmax2")]}


def averaged(parameter, gradients):
    model = torch.nn.Module()
    model.parameter = parameter
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    for _ in adamw(parameter, gradients, 0.1):
        average.update_parameters(model)
        yield average.module.parameter.detach()


def lists(value):
    """A line for each entry of a list."""
    if not isinstance(value, list):
        return json.dumps(value)
    return "[\n" + ",\n".join(json.dumps(entry) for entry in value) + "\n]"


def main():
    generator = torch.Generator().manual_seed(11)
    start = torch.randn(8, generator=generator)
    scale = torch.tensor([1.0, 0.1, 10.0, 1e-4, 1e-8, 0.0, 1.0, 1000.0])
    gradients = torch.randn(10, 8, generator=generator) * scale
    gradients[5:, 6] = 0.0                                # has a gradient, then none
    cases = []

    def case(name, steps, start, gradients, settings=None):
        for decay in (0.0, 0.1):
            parameter = torch.nn.Parameter(start.clone())
            after = [value.flatten().tolist() for value in steps(parameter, gradients, decay)]
            made = {"optimizer": name, "weight_decay": decay, "shape": list(start.shape)}
            if settings:
                made["settings"] = settings
            if len(after) > 10:
                made["averaged"] = after.pop()
            cases.append({**made, "after": after})

    for name, steps in [("adamw", adamw), ("lion", lion), ("sgd", sgd), ("adafactor", adafactor),
                        ("muon", adamw), ("schedule-free-adamw", schedule_free), ("adamw-8bit", adamw)]:
        case(name, steps, start, gradients)
    case("sgd", nesterov, start, gradients, {"train.sgd_nesterov": True})
    case("sgd", plain, start, gradients, {"train.sgd_momentum": 0.0})
    case("adafactor", scaled, start, gradients, {"train.adafactor_scale_parameter": True})
    matrices = []
    for shape in ((4, 6), (6, 4)):
        start_matrix = torch.randn(shape, generator=generator)
        size = torch.randn(10, 1, 1, generator=generator).exp()
        of_matrix = torch.randn(10, *shape, generator=generator) * size
        matrices.append({"shape": shape, "start": start_matrix.flatten().tolist(),
                         "gradients": of_matrix.flatten(1).tolist()})
        case("adafactor", adafactor, start_matrix, of_matrix)
        case("muon", muon("match_rms_adamw"), start_matrix, of_matrix)
        case("muon", muon("original"), start_matrix, of_matrix,
             {"train.muon_adjust_lr_fn": "original"})
    cases += [eight_bits(0.0), eight_bits(0.1)]
    average = list(averaged(torch.nn.Parameter(start.clone()), gradients))[-1].tolist()
    made = {"learning_rate": RATE, "start": start.tolist(), "gradients": gradients.tolist(),
            "matrices": matrices, "cases": cases,
            "average": {"decay": 0.9, "weight_decay": 0.1, "after": average}}
    lines = [f"{json.dumps(key)}: {lists(value)}" for key, value in made.items()]
    (HERE / "optimizers.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
