#!/usr/bin/env python3
"""Compare Firebrand with transformers, PEFT and PyTorch on a real model. Run by hand.

    smollm2.py prompts   MODEL_DIR BATCHES.jsonl
    smollm2.py logits    MODEL_DIR OURS.safetensors BATCHES.jsonl
    smollm2.py gradients MODEL_DIR ADAPTER_DIR BATCH.jsonl OURS.safetensors
    smollm2.py steps     MODEL_DIR ADAPTER_INIT.safetensors BATCHES.jsonl METRICS.jsonl [options]
    smollm2.py artifact  ADAPTER_DIR MODEL_DIR MERGED_DIR BATCHES.jsonl [OURS.safetensors ...]

BATCHES.jsonl: one micro-batch per line, {"rows", "length", "tokens", "positions", "documents",
"targets": [[index, token], ...]}, the first three flat and row-major. Exit code 1: too different.
"""
import argparse
import json
import sys

import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file

from reference import Batch, logits_of, logits_unpacked, nll_sum, peft_key, relative, train

PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea, there lived an old clockmaker who",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    "Water boils at 100 degrees Celsius because",
    "Grüße aus Köln! Die Temperatur beträgt heute −3 °C und morgen",
    "1, 1, 2, 3, 5, 8, 13, 21,",
]
CHATS = [
    "What is gravity?",
    "Name three rivers in Africa and one lake in Europe.",
    "Write a haiku about rain.",
    "Translate 'good morning' into Spanish, French and Italian.",
]
# Ten batches; each inner list is a row, its numbers are documents (texts, then chats).
LAYOUT = [[[0]], [[1]], [[2]], [[4]], [[6]], [[7]],
          [[0, 3, 5]], [[8, 2, 9, 1]], [[6, 0], [4, 7]], [[5, 5, 0], [1], [9, 3]]]


def load_model(path, dtype=torch.float32):
    return transformers.AutoModelForCausalLM.from_pretrained(
        path, dtype=dtype, attn_implementation="eager").eval()


def read_batches(path):
    with open(path, encoding="utf-8") as lines:
        return [Batch.from_json(json.loads(line)) for line in lines if line.strip()]


def pack(rows):
    """Rows of documents (token lists) as one batch; every token after a first is a target."""
    length = max(sum(map(len, row)) for row in rows)
    made = {"rows": len(rows), "length": length,
            "tokens": [], "positions": [], "documents": [], "targets": []}
    for row in rows:
        for number, document in enumerate(row, 1):
            at = len(made["tokens"])
            made["targets"] += [[at + i, t] for i, t in enumerate(document[1:])]
            made["tokens"] += document
            made["positions"] += range(len(document))
            made["documents"] += [number] * len(document)
        padding = -len(made["tokens"]) % length
        for name in ("tokens", "positions", "documents"):
            made[name] += [0] * padding
    return made


def prompts(arguments):
    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.model)
    texts = PROMPTS + [
        tokenizer.apply_chat_template([{"role": "user", "content": chat}],
                                      tokenize=False, add_generation_prompt=True)
        for chat in CHATS]
    documents = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    with open(arguments.batches, "w", encoding="utf-8") as file:
        for layout in LAYOUT:
            made = pack([[documents[number] for number in row] for row in layout])
            file.write(json.dumps(made, separators=(",", ":")) + "\n")
    print(f"{arguments.batches}: {len(LAYOUT)} batches")
    return True


def verdict(what, difference, limit):
    good = difference <= limit                            # false for NaN
    print(f"{'ok ' if good else 'BAD'} {what}: {difference:.2e} (limit {limit:.0e})")
    return good


def real_difference(ours, reference, batch):
    """Relative difference outside padding; infinite where the shapes differ."""
    if ours.shape != reference.shape:
        print(f"shape {list(ours.shape)}, not {list(reference.shape)}")
        return float("inf")
    real = batch.documents > 0
    return relative(ours[real].float(), reference[real])


def logits(arguments):
    model, good = load_model(arguments.model), True
    with torch.no_grad(), safe_open(arguments.ours, "pt") as ours:
        for number, batch in enumerate(read_batches(arguments.batches)):
            reference = logits_of(model, batch)
            alone = real_difference(logits_unpacked(model, batch), reference, batch)
            assert alone < 1e-4, f"the reference's own packed rows differ from unpacked: {alone}"
            difference = real_difference(ours.get_tensor(f"logits.{number}"), reference, batch)
            packed = int(batch.documents.max())
            what = f"batch {number} ({batch.rows} x {batch.length}, at most {packed} documents)"
            good &= verdict(what, difference, arguments.limit)
    return good


def norm_difference(ours, reference):
    """Norm of the difference over the reference's norm; a zero reference asks for zero."""
    if ours.shape != reference.shape:
        return float("inf")
    difference, norm = (ours.float() - reference).norm().item(), reference.norm().item()
    return difference / norm if norm > 0 else (0.0 if difference == 0 else float("inf"))


def gradients(arguments):
    # In f64: PyTorch's own f32 gradients are off by up to 3e-4 on this model, more than the limit.
    model = PeftModel.from_pretrained(
        load_model(arguments.model, torch.float64), arguments.adapter, is_trainable=True)
    model = model.double().eval()
    batch, ours = read_batches(arguments.batches)[0], load_file(arguments.ours)
    loss = nll_sum(logits_of(model, batch), batch) / len(batch.index)
    loss.backward()
    reference = {"grad." + peft_key(n): p.grad.float()
                 for n, p in model.named_parameters() if p.requires_grad}
    missing = sorted(set(reference) - set(ours))
    unknown = sorted(set(ours) - set(reference) - {"loss"})
    for name in missing + unknown:
        print(f"BAD {name}: only in {'the reference' if name in missing else 'ours'}")
    mine = ours["loss"].item()
    print(f"loss: ours {mine:.7f}, reference {loss.item():.7f}, {len(batch.index)} targets")
    good = verdict("loss", abs(mine - loss.item()) / abs(loss.item()), arguments.limit)
    differences = {n: norm_difference(ours[n], g) for n, g in reference.items() if n in ours}
    worst = max(differences, key=differences.get)
    for name, difference in differences.items():
        if name == worst or arguments.verbose or not difference <= arguments.limit:
            good &= verdict(name, difference, arguments.limit)
    zero = sum(1 for g in reference.values() if g.norm() == 0)
    print(f"{len(differences)} gradients compared, {zero} of them zero in the reference")
    return good and not missing and not unknown


def read_metrics(path):
    """The lines of optimiser steps, in order; other events are passed over."""
    with open(path, encoding="utf-8") as lines:
        every = [json.loads(line) for line in lines if line.strip()]
    return [m for m in every if all(k in m for k in ("step", "loss", "learning_rate"))]


def start_adapter(arguments, model):
    tensors = load_file(arguments.adapter)
    parts = [key.split(".") for key in tensors]
    targets = sorted({p[p.index("lora_A") - 1] for p in parts if "lora_A" in p})
    model = get_peft_model(model, LoraConfig(
        task_type="CAUSAL_LM", target_modules=targets, r=arguments.r,
        lora_alpha=arguments.alpha, use_rslora=arguments.rslora, lora_dropout=0.0))
    result = set_peft_model_state_dict(model, tensors)
    expected = {peft_key(n) for n, p in model.named_parameters() if p.requires_grad}
    assert not result.unexpected_keys and expected == set(tensors), \
        f"adapter tensors do not fit: {sorted(expected ^ set(tensors))[:4]}"
    return model.eval()                                   # no dropout; gradients still flow


def steps(arguments):
    metrics, batches = read_metrics(arguments.metrics), read_batches(arguments.batches)
    count = min(len(metrics), len(batches) // arguments.accumulation)
    assert count, "no whole step in both files"
    metrics = metrics[:count]
    assert [m["step"] for m in metrics] == list(range(1, count + 1)), "steps are not 1, 2, 3 …"
    size = arguments.accumulation
    groups = [batches[i * size:(i + 1) * size] for i in range(count)]
    model = start_adapter(arguments, load_model(arguments.model))
    trained = [p for p in model.parameters() if p.requires_grad]
    rate = [m["learning_rate"] for m in metrics]
    optimizer = torch.optim.AdamW(
        trained, lr=arguments.lr or rate[0], weight_decay=arguments.weight_decay,
        betas=(arguments.beta1, arguments.beta2), eps=arguments.epsilon)
    losses, norms = train(model, optimizer, groups, arguments.max_grad_norm,
                          None if arguments.lr else rate)
    good = True
    for metric, loss, norm in zip(metrics, losses, norms):
        what = (f"step {metric['step']}, rate {metric['learning_rate']:.3e}: "
                f"ours {metric['loss']:.6f}, reference {loss:.6f}, norm {norm:.4f}; difference")
        good &= verdict(what, abs(metric["loss"] - loss), arguments.limit)
    return good


def artifact(arguments):
    """First OURS: our logits with the adapter; second, if given: of the merged model."""
    adapter = PeftModel.from_pretrained(load_model(arguments.model), arguments.adapter).eval()
    merged, good = load_model(arguments.merged), True
    ours = [safe_open(path, "pt") for path in arguments.ours]
    with torch.no_grad():
        for number, batch in enumerate(read_batches(arguments.batches)):
            pair = [logits_of(adapter, batch), logits_of(merged, batch)]
            with adapter.disable_adapter():
                effect = real_difference(logits_of(adapter, batch), pair[0], batch)
            print(f"batch {number} ({batch.rows} x {batch.length}); "
                  f"the adapter's effect is {effect:.2e}")
            difference = real_difference(pair[1], pair[0], batch)
            good &= verdict("  merged against adapter", difference, arguments.merged_limit)
            for file, reference, name in zip(ours, pair, ("adapter", "merged")):
                mine = file.get_tensor(f"logits.{number}")
                difference = real_difference(mine, reference, batch)
                good &= verdict(f"  ours against {name}", difference, arguments.limit)
    return good


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    def command(function, *places, limit):
        made = commands.add_parser(function.__name__)
        made.set_defaults(function=function)
        for place in places:
            made.add_argument(place)
        made.add_argument("--limit", type=float, default=limit)
        return made

    command(prompts, "model", "batches", limit=None)
    command(logits, "model", "ours", "batches", limit=1e-4)
    made = command(gradients, "model", "adapter", "batches", "ours", limit=1e-4)
    made.add_argument("--verbose", action="store_true", help="show every gradient")
    made = command(steps, "model", "adapter", "batches", "metrics", limit=1e-3)
    made.add_argument("--lr", type=float, help="constant; default: each step's from METRICS")
    made.add_argument("--weight-decay", type=float, default=0.01)
    made.add_argument("--max-grad-norm", type=float, default=1.0, help="0: no clipping")
    made.add_argument("--accumulation", type=int, default=1, help="lines per optimiser step")
    made.add_argument("--alpha", type=float, default=32)
    made.add_argument("--r", type=int, default=16)
    made.add_argument("--rslora", action="store_true")
    made.add_argument("--beta1", type=float, default=0.9)
    made.add_argument("--beta2", type=float, default=0.999)
    made.add_argument("--epsilon", type=float, default=1e-8)
    made = command(artifact, "adapter", "model", "merged", "batches", limit=1e-4)
    made.add_argument("ours", nargs="*")
    made.add_argument("--merged-limit", type=float, default=1e-4,
                      help="merged against adapter; a merge rounded to 16 bits needs about 7e-2")
    return parser.parse_args()


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, "
          f"peft {peft.__version__}")
    arguments = parse()
    sys.exit(0 if arguments.function(arguments) else 1)


if __name__ == "__main__":
    main()
