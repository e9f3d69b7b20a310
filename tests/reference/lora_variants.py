#!/usr/bin/env python3
"""Make `lora_variants/`: adapters of PEFT for `tiny/biases` with settings beyond those of `make_tiny.py`, and what
PEFT computes with them.

    python lora_variants.py [NAME...]      # writes lora_variants/NAME for all of them, or for these
    python lora_variants.py check DIR BASE # loads an adapter of ours with PEFT and prints its loss
"""
import json
from pathlib import Path
import shutil
import sys

from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
import torch

from make_tiny import LORA, gradients, load, make_batch
from reference import LINEARS

HERE = Path(__file__).resolve().parent
CASE, SEED = "biases", 104
BASE = HERE / "tiny" / CASE
MERGED = ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"]

# Several patterns fit some layers; in a file they stand in alphabetical order, and the first one counts.
PATTERNS = dict(
    rank_pattern={"model.layers.1.mlp.down_proj": 5, "q_proj": 2, r"layers\.0\.mlp\..*_proj": 3, "[kv]_proj": 1},
    alpha_pattern={"q_proj": 6, r".*\.1\.mlp\.(up|down)_proj": 2.5})
VARIANTS = {
    "patterns": PATTERNS,
    "patterns-dora": dict(use_dora=True, use_rslora=True, **PATTERNS),
}


def adapted(settings):
    """PEFT's own start of A; B moved, so that everything has a gradient."""
    torch.manual_seed(SEED)
    model = get_peft_model(load(BASE), LoraConfig(
        task_type="CAUSAL_LM", target_modules=LINEARS, lora_dropout=0.0, **{**LORA, **settings}))
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if ".lora_B." in name:
                parameter.add_(0.1 * noise)
            elif "lora_magnitude_vector" in name:
                parameter.mul_(1.0 + 0.1 * noise)
    return model.eval()


def save(model, path):
    shutil.rmtree(path, ignore_errors=True)
    model.save_pretrained(path)
    (path / "README.md").unlink()
    config = json.loads((path / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = f"../../tiny/{CASE}"
    config["target_modules"].sort()
    (path / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for file in path.iterdir():
        file.chmod(0o644)


def make(name):
    path = HERE / "lora_variants" / name
    save(adapted(VARIANTS[name]), path)
    # As whoever loads it has it: patterns are in the order of the file.
    model = PeftModel.from_pretrained(load(BASE), path, is_trainable=True).eval()
    logits, loss, found = gradients(model, make_batch(SEED))
    shapes = {name: list(tensor.shape) for name, tensor in get_peft_model_state_dict(model).items()}
    assert len(found) == len(shapes)
    weights = dict(model.merge_and_unload().named_parameters())
    expected = {"logits": logits, "loss": loss,
                **{"merged." + name: weights[name + ".weight"].detach() for name in MERGED}}
    save_file({k: v.contiguous() for k, v in expected.items()}, path / "expected.safetensors")
    print(f"{name}: loss {loss.item():.4f}, ranks {sorted({s[0] for n, s in shapes.items() if 'lora_A' in n})}")


def check(directory, base):
    model = PeftModel.from_pretrained(load(base), directory).eval()
    batch = make_batch(SEED)
    batch.tokens %= model.config.vocab_size
    batch.token %= model.config.vocab_size
    _, loss, found = gradients(model, batch)
    print(f"loss {loss.item():.6f}, {sum('lora_' in name for name, _ in model.named_parameters())} parameters")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if sys.argv[1:2] == ["check"]:
        check(*sys.argv[2:])
    else:
        for variant in sys.argv[1:] or VARIANTS:
            make(variant)
