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
import subprocess
import tempfile
import time

import random_llama
from memory import CONFIG, LORA, texts


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
            shape = random_llama.SHAPES["llama-3.2-1b"] | {"num_hidden_layers": options.layers}
            random_llama.write(folder / kind, shape, kind)
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
