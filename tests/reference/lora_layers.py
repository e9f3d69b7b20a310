#!/usr/bin/env python3
"""Make `lora_layers/`: a rsLoRA adapter of PEFT for one of the two layers of `tiny/biases`, and the logits that PEFT
computes with it.

    python lora_layers.py             # writes lora_layers/
    python lora_layers.py DIR BASE    # loads an adapter of ours with PEFT and prints its loss
"""
import json
from pathlib import Path
import shutil
import sys

from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
import torch

from make_tiny import LORA, gradients, load, make_batch
from reference import LINEARS

HERE = Path(__file__).resolve().parent
CASE, SEED = "biases", 104


def make():
    path = HERE / "lora_layers"
    shutil.rmtree(path, ignore_errors=True)
    torch.manual_seed(SEED)
    model = get_peft_model(load(HERE / "tiny" / CASE), LoraConfig(
        task_type="CAUSAL_LM", target_modules=LINEARS, use_rslora=True, layers_to_transform=[1], **LORA))
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if ".lora_B." in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape))
    model.eval().save_pretrained(path)
    (path / "README.md").unlink()
    config = json.loads((path / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = f"../tiny/{CASE}"
    config["target_modules"].sort()
    (path / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    logits, loss, _ = gradients(model, make_batch(SEED))
    save_file({"logits": logits.contiguous(), "loss": loss}, path / "expected.safetensors")
    for file in path.iterdir():
        file.chmod(0o644)
    print(f"loss {loss.item():.4f}")


def check(directory, base):
    model = PeftModel.from_pretrained(load(base), directory).eval()
    _, loss, found = gradients(model, make_batch(SEED))
    print(f"loss {loss.item():.6f}, {len(found)} parameters")


if __name__ == "__main__":
    make() if len(sys.argv) == 1 else check(*sys.argv[1:])
