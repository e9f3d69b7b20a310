#!/usr/bin/env python3
"""Make `base_adapters/`: two LoRA adapters of PEFT for `tiny/biases`, the second made on the model that the first is
merged into, and the logits of all three; PEFT with both active has them, too.

    python base_adapters.py                        # writes base_adapters/
    python base_adapters.py BASE ADAPTER... TOP    # loads adapters of ours with PEFT, the last one on the others
                                                   # merged and all active at once, and compares the logits
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
NAMES = ["first", "second"]


def trained(model, seed, linears):
    """A new adapter on a model, with factors that do something."""
    torch.manual_seed(seed)
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules=linears, **LORA))
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if ".lora_B." in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape))
    return model.eval()


def save(model, path):
    model.save_pretrained(path)
    (path / "README.md").unlink()
    config = json.loads((path / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = f"../../tiny/{CASE}"
    config["target_modules"].sort()
    (path / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def on_merged(base, adapters):
    model = load(base)
    for adapter in adapters[:-1]:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return PeftModel.from_pretrained(model, adapters[-1], is_trainable=True).eval()


def all_active(base, adapters):
    names = [f"number{number}" for number in range(len(adapters))]
    model = PeftModel.from_pretrained(load(base), adapters[0], adapter_name=names[0], is_trainable=True)
    for name, adapter in zip(names[1:], adapters[1:]):
        model.load_adapter(adapter, adapter_name=name)
    model.base_model.set_adapter(names)
    return model.eval()


def scores(model, batch):
    logits, _, _ = gradients(model, batch)
    return logits.detach()


def make():
    path = HERE / "base_adapters"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    base = HERE / "tiny" / CASE
    save(trained(load(base), SEED, LINEARS), path / NAMES[0])
    first = PeftModel.from_pretrained(load(base), path / NAMES[0]).merge_and_unload()
    save(trained(first, SEED + 1, ["q_proj", "down_proj"]), path / NAMES[1])
    adapters, batch = [path / name for name in NAMES], make_batch(SEED)
    merged = scores(on_merged(base, adapters), batch)
    active = scores(all_active(base, adapters), batch)
    second_alone = scores(on_merged(base, adapters[1:]), batch)
    assert (merged - active).abs().max() < 1e-4, (merged - active).abs().max()
    assert (merged - second_alone).abs().max() > 1e-2
    save_file({"logits": merged.contiguous()}, path / "expected.safetensors")
    for file in path.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    print(f"first merged and both active differ by up to {(merged - active).abs().max().item():.1e}")


def check(base, *adapters):
    batch = make_batch(SEED)
    model = on_merged(base, adapters)
    for tokens in (batch.tokens, batch.token):
        tokens %= model.config.vocab_size
    merged, active = scores(model, batch), scores(all_active(base, adapters), batch)
    print(f"{len(adapters)} adapters: merged below and all active differ by up to "
          f"{(merged - active).abs().max().item():.1e} of {merged.abs().max().item():.1e}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    make() if len(sys.argv) == 1 else check(*sys.argv[1:])
