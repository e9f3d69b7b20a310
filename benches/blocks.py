"""Memory and time of steps beside a base in the blocks of a GGUF file: kept, and dequantised when it is loaded.

blocks.py --firebrand PROGRAM [--layers 16] [--tokens 512] [--types Q8_0 ...] [--steps 3]

Random blocks in the shape of Llama-3.2-1B, as a GGUF file is unpacked in the cache; with Q4_K the embedding is in
Q6_K, as in files of that kind (random minima of its blocks are no weights of a model: dequantised, the comparison of
gradients before the first step may refuse them). LoRA of rank 16 on all linear layers. Printed are the peak of the
process, what `plan` says of it, the median of the steps' times after the first, and tokens/s of
text that is written. Python needs numpy.
"""

import argparse
import json
import os
import pathlib
import statistics
import struct
import subprocess
import tempfile
import time

import numpy

from memory import CONFIG, LORA, texts

HERE = pathlib.Path(__file__).parent
SHAPE = {"hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 32,
         "num_key_value_heads": 8, "vocab_size": 128256}
# Numbers and bytes of a block, and where its scales are.
BLOCKS = {"Q8_0": (32, 34, [0]), "Q4_0": (32, 18, [0]), "Q5_0": (32, 22, [0]), "Q4_K": (256, 144, [0, 2]),
          "Q5_K": (256, 176, [0, 2]), "Q6_K": (256, 210, [208])}


def blocks(chance, kind, count):
    """Random codes with small scales."""
    _, size, scales = BLOCKS[kind]
    made = chance.integers(0, 256, (count, size), dtype=numpy.uint8)
    for at in scales:
        made[:, at:at + 2] = [0x11, 0x04]
    return made.tobytes()


def model(folder, layers, kind):
    """A Llama in blocks of this type."""
    hidden, wide, rows = SHAPE["hidden_size"], SHAPE["intermediate_size"], SHAPE["vocab_size"]
    keys = hidden // SHAPE["num_attention_heads"] * SHAPE["num_key_value_heads"]
    table = "Q6_K" if kind == "Q4_K" else kind
    tensors = {"model.embed_tokens.weight": ([rows, hidden], table), "model.norm.weight": ([hidden], None)}
    for layer in range(layers):
        path = f"model.layers.{layer}"
        for name, dims in {
            "self_attn.q_proj": [hidden, hidden], "self_attn.k_proj": [keys, hidden],
            "self_attn.v_proj": [keys, hidden], "self_attn.o_proj": [hidden, hidden],
            "mlp.gate_proj": [wide, hidden], "mlp.up_proj": [wide, hidden], "mlp.down_proj": [hidden, wide],
            "input_layernorm": [hidden], "post_attention_layernorm": [hidden],
        }.items():
            tensors[f"{path}.{name}.weight"] = (dims, kind if len(dims) == 2 else None)
    folder.mkdir()
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": layers,
              "rope_theta": 500000.0, "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "dtype": "float32",
              "max_position_embeddings": 8192, "bos_token_id": 1, "eos_token_id": 2} | SHAPE
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_bytes((HERE.parent / "configs" / "base-tiny" / name).read_bytes())
    types = {name: kind for name, (_, kind) in tensors.items() if kind}
    header, begin = {"__metadata__": {"firebrand.blocks": json.dumps(types)}}, 0
    for name, (dims, kind) in sorted(tensors.items(), key=lambda item: item[1][1] is not None):
        if kind:
            count, size, _ = BLOCKS[kind]
            dims, element = [dims[0], dims[1] // count * size], "U8"
        else:
            element = "F32"
        end = begin + int(numpy.prod(dims)) * (1 if kind else 4)
        header[name] = {"dtype": element, "shape": dims, "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    chance = numpy.random.default_rng(1)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, (dims, kind) in sorted(tensors.items(), key=lambda item: item[1][1] is not None):
            if kind:
                for first in range(0, dims[0], 4096):
                    rows = min(4096, dims[0] - first)
                    file.write(blocks(chance, kind, rows * dims[1] // BLOCKS[kind][0]))
            else:
                file.write(numpy.ones(dims[0], "<f4").tobytes())


def run(command, environment):
    """What it said, its peak in bytes, and the seconds it took."""
    began = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(said)
    return said, usage.ru_maxrss * 1024, time.monotonic() - began


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--firebrand", required=True)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--types", nargs="*", default=["Q8_0"])
    parser.add_argument("--precision", nargs="*", default=["f32", "mixed-bf16"])
    options = parser.parse_args()
    print("| blocks | precision | weights | planned MB | peak MB | s a step | text, tokens/s |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        environment = dict(os.environ, FIREBRAND_CACHE=str(folder / "cache"))
        records, config = folder / "texts.jsonl", folder / "run.toml"
        texts(records)
        for kind in options.types:
            model(folder / kind, options.layers, kind)
            for precision in options.precision:
                for kept in ("auto", "dequantised"):
                    config.write_text(CONFIG.format(
                        model=folder / kind, records=records, lora=LORA, precision=precision, recompute="none",
                        format=f'weight_format = "{kept}"', tokens=options.tokens, out=folder / "out",
                    ).replace("max_steps = 2", f"max_steps = {options.steps}"))
                    plan, _, _ = run([options.firebrand, "plan", config, "--json", "--quiet"], environment)
                    planned = json.loads(plan[plan.index("{\n"):])["memory_bytes"]
                    subprocess.run(["rm", "-rf", folder / "out"], check=True)
                    _, peak, _ = run([options.firebrand, "train", config, "--quiet"], environment)
                    timings = next((folder / "out").rglob("timings.jsonl")).read_text().splitlines()
                    seconds = statistics.median(json.loads(line)["step_seconds"] for line in timings[1:])
                    speed = ""
                    if precision == "f32":
                        more = [] if kept == "auto" else ["--weight-format", kept]
                        ask = [options.firebrand, "generate", folder / kind, "--prompt", "One", "--device", "cpu",
                               *more, "--max-tokens"]
                        _, _, short = run([*ask, "2"], environment)
                        _, _, long = run([*ask, "34"], environment)
                        speed = f"{32 / (long - short):.1f}"
                    print(f"| {kind} | {precision} | {kept} | {planned / 1e6:.0f} | {peak / 1e6:.0f} | "
                          f"{seconds:.2f} | {speed} |", flush=True)
            subprocess.run(["rm", "-rf", folder / kind], check=True)


if __name__ == "__main__":
    main()
