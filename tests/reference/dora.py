#!/usr/bin/env python3
"""Make `dora/`: a DoRA adapter of PEFT for the model `tiny/biases`, and what PEFT computes with it.

    python dora.py             # writes dora/
    python dora.py DIR BASE    # loads an adapter of ours with PEFT and prints its kind and loss
"""
import json
import shutil
import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file

from make_tiny import LORA, gradients, load, make_batch, twenty_steps
from reference import LINEARS, peft_key

HERE = Path(__file__).resolve().parent
CASE, SEED, RATE = "biases", 104, 1e-2
MERGED = ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"]


def with_dora(model):
    """PEFT's own start of A; B and the magnitudes moved, so that everything has a gradient."""
    torch.manual_seed(SEED)
    model = get_peft_model(model, LoraConfig(
        task_type="CAUSAL_LM", target_modules=LINEARS, lora_dropout=0.0, use_dora=True, **LORA))
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = lambda: torch.randn(parameter.shape, generator=generator)
            if ".lora_B." in name:
                parameter.copy_(0.1 * noise())
            elif "lora_magnitude_vector" in name:
                parameter.mul_(1.0 + 0.1 * noise())
    return model.eval()


def file_key(name):
    """PEFT's file name of a parameter: a magnitude has no `.weight`."""
    name = peft_key(name)
    return name.removesuffix(".weight") if "magnitude" in name else name


def make():
    path = HERE / "dora"
    shutil.rmtree(path, ignore_errors=True)
    batch = make_batch(SEED)
    start = get_peft_model(load(HERE / "tiny" / CASE), LoraConfig(
        task_type="CAUSAL_LM", target_modules=LINEARS, use_dora=True, **LORA))
    start = get_peft_model_state_dict(start)
    model = with_dora(load(HERE / "tiny" / CASE))
    model.save_pretrained(path)
    (path / "README.md").unlink()
    config = json.loads((path / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = f"../tiny/{CASE}"
    config["target_modules"].sort()
    (path / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    logits, loss, found = gradients(model, batch)
    adapter = get_peft_model_state_dict(model)
    assert {file_key(name) for name in found} == set(adapter), set(adapter)
    steps = twenty_steps(model, batch, RATE)
    merged = with_dora(load(HERE / "tiny" / CASE)).merge_and_unload()
    weights = dict(merged.named_parameters())
    expected = {
        "logits": logits, "loss": loss, "losses": torch.tensor(steps["losses"]),
        **{"grad." + file_key(name): gradient for name, gradient in found.items()},
        **{"start." + name: tensor for name, tensor in start.items() if "magnitude" in name},
        **{"merged." + name: weights[name + ".weight"].detach() for name in MERGED}}
    save_file({k: v.contiguous() for k, v in expected.items()}, path / "expected.safetensors")
    for file in path.iterdir():
        file.chmod(0o644)
    print(f"loss {loss.item():.4f} -> {steps['losses'][-1]:.4f}")


def check(directory, base):
    model = PeftModel.from_pretrained(load(base), directory).eval()
    config = next(iter(model.peft_config.values()))
    batch = make_batch(SEED)
    batch.tokens %= model.config.vocab_size
    batch.token %= model.config.vocab_size
    _, loss, _ = gradients(model, batch)
    print(f"use_dora {config.use_dora}, r {config.r}, loss {loss.item():.6f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if len(sys.argv) == 1:
        make()
    else:
        check(*sys.argv[1:])
