#!/usr/bin/env python3
"""Make `bitsandbytes/CASE/`: `tiny/gqa-tied` as transformers saves it in four bits of bitsandbytes, and
the logits that it then has for the batch of `tiny/gqa-tied`.

    python bitsandbytes_base.py
"""
import json
from pathlib import Path
import shutil

from safetensors.torch import load_file, save_file
from bitsandbytes.functional import dequantize_blockwise
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "tiny" / "gqa-tied"
# With and without double quantisation, and the other code book.
CASES = {
    "nf4-nested": {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "nf4-plain": {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": False},
    "fp4-nested": {"bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": True},
}


def numbers(weight):
    """What a matrix stands for. `dequantize_4bit` takes the scales of other blocks for rows as short
    as these on CPUs with AVX-512."""
    state = weight.quant_state
    absmax = state.absmax
    if state.nested:
        absmax = dequantize_blockwise(absmax, state.state2) + state.offset
    codes = weight.data.flatten()
    codes = torch.stack([codes >> 4, codes & 15], 1).flatten()[: state.shape.numel()].long()
    return (state.code[codes] * absmax.repeat_interleave(state.blocksize)[: len(codes)]).reshape(state.shape)


def main():
    torch.set_num_threads(1)
    tokens = load_file(SOURCE / "expected.safetensors")["tokens"][:1, :16].long()
    for name, settings in CASES.items():
        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32, **settings)
        model = AutoModelForCausalLM.from_pretrained(
            SOURCE, quantization_config=config, dtype=torch.float32, attn_implementation="eager",
            device_map="cpu")
        folder = HERE / "bitsandbytes" / name
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        plain = AutoModelForCausalLM.from_pretrained(SOURCE, dtype=torch.float32, attn_implementation="eager")
        layers = dict(model.named_modules())
        with torch.no_grad():
            for path, layer in plain.named_modules():
                if hasattr(layers[path], "weight") and hasattr(layers[path].weight, "quant_state"):
                    layer.weight.copy_(numbers(layers[path].weight))
            logits = plain(tokens).logits[0]
        save_file({"tokens": tokens[0].int(), "logits": logits.float()}, folder / "expected.safetensors")
        for file in folder.iterdir():
            file.chmod(0o644)
        print(name, json.loads((folder / "config.json").read_text())["quantization_config"])


if __name__ == "__main__":
    main()
