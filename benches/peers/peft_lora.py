"""LoRA in PyTorch + PEFT on the same rows: sdpa where there is one, fused AdamW. One JSON line.

peft_lora.py BATCHES.jsonl CONFIG [--device cuda|cpu] [--precision bf16|f32] [--warm-up STEPS]
             [--recompute]

BATCHES is what `firebrand data CONFIG --json` prints and CONFIG the run's TOML. bf16 means weights
and activations in bfloat16, and LoRA's own in 32 bits. Documents of a row see each other here,
which costs no more.
"""

import argparse
import contextlib
import json
import resource
import statistics
import time
import tomllib

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("batches")
    parser.add_argument("config")
    parser.add_argument("--base")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", choices=["bf16", "f32"], default="bf16")
    parser.add_argument("--warm-up", type=int, default=5)
    parser.add_argument("--recompute", action="store_true")
    return parser.parse_args()


def build(options, config):
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    base = options.base or config["model"]["base"]
    try:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, attn_implementation="sdpa")
    except ValueError:  # attention with sinks (gpt-oss) has no other form on the CPU
        model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, attn_implementation="eager")
    model.to(options.device)
    if options.recompute:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    lora = config["lora"]
    # By name: beside mixtures of experts, PEFT takes `all-linear` for experts and routers, too,
    # which are no linear layers in transformers 5.
    linears = {name.rsplit(".", 1)[-1] for name, module in model.named_modules()
               if isinstance(module, torch.nn.Linear)} - {"lm_head"}
    settings = LoraConfig(r=lora["r"], lora_alpha=lora["lora_alpha"], target_modules=linears)
    model = get_peft_model(model, settings)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    model.train()
    return model


def tensors(batch, device):
    shape = (batch["rows"], batch["length"])
    ids, positions = (torch.tensor(batch[key]).view(shape) for key in ("tokens", "positions"))
    labels = torch.full((ids.numel(),), -100)
    for index, token in batch["targets"]:
        labels[index + 1 if (index + 1) % shape[1] else index] = token
    return ids.to(device), positions.to(device), labels.view(shape).to(device)


def main():
    options = arguments()
    with open(options.config, "rb") as file:
        config = tomllib.load(file)
    with open(options.batches, encoding="utf-8") as file:
        batches = [json.loads(line) for line in file]
    on_card = options.device != "cpu"
    model = build(options, config)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=config["train"]["learning_rate"], fused=True)
    half = options.precision == "bf16"
    speeds, losses = [], []
    for number, batch in enumerate(batches):
        began = time.perf_counter()
        ids, positions, labels = tensors(batch, options.device)
        cast = torch.autocast(options.device, dtype=torch.bfloat16)
        with cast if half else contextlib.nullcontext():
            loss = model(input_ids=ids, position_ids=positions, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if on_card:
            torch.cuda.synchronize()
        losses.append(float(loss))
        if number >= min(options.warm_up, len(batches) - 1):
            tokens = sum(document > 0 for document in batch["documents"])
            speeds.append(tokens / (time.perf_counter() - began))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({
        "tool": f"PyTorch {torch.__version__} + PEFT, {options.precision}",
        "tokens_per_second": round(statistics.median(speeds), 1),
        "peak_bytes": torch.cuda.max_memory_allocated() if on_card else peak,
        "loss": losses[-1],
        "losses": losses,
    }))


if __name__ == "__main__":
    main()
