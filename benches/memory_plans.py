"""What `plan` says of each memory plan beside what a run takes, for frozen weights in each format.

memory_plans.py --firebrand PROGRAM [--shape middle] [--formats bf16 nf4 Q8_0 ...] [--plans fastest ...]
                [--layers N] [--tokens 512] [--steps 3] [--precision mixed-bf16] [--disk FOLDER] [--json FILE]

Models of random weights in known shapes (`random_llama.py`), LoRA of rank 16 on all linear layers, rows of `--tokens`.
Prints a table in Markdown: megabytes planned, megabytes at the peak of the process, the ratio of both, the median time
of the steps after the first, and that beside the fastest plan, as planned and as measured. What the process has for
itself, without a model, is measured with one of a megabyte and said at the end.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

import random_llama
from memory import CONFIG, LORA, texts

PLANS = ["fastest", "small-loss", "recompute", "small", "streamed-tables", "streamed"]
# Those that are made of bfloat16 when the model is loaded; others are blocks of a GGUF file.
MADE = {"bf16": None, "int8": "int8", "nf4": "nf4"}


def settings(options, folder, model, kept, tokens):
    config, records = folder / "run.toml", folder / "texts.jsonl"
    texts(records)
    text = CONFIG.format(model=model, records=records, lora=LORA, precision=options.precision, recompute="none",
                         format=f'weight_format = "{kept}"' if kept else "", tokens=tokens, out=folder / "out")
    text = text.replace('recompute = "none"\n', "").replace("max_steps = 2", f"max_steps = {options.steps}")
    config.write_text(text)
    return config


def planned(options, config, environment):
    found = subprocess.run([options.firebrand, "plan", config, "--json", "--quiet"], env=environment,
                           capture_output=True, text=True, check=True)
    return {plan["name"]: plan for plan in json.loads(found.stdout)["memory_plans"]}


def measured(options, config, folder, plan, environment):
    """Bytes at the peak, and the seconds of a step."""
    subprocess.run(["rm", "-rf", folder / "out"], check=True)
    command = [options.firebrand, "train", config, "--quiet", "--set", f"train.memory={plan}"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(said)
    timings = next((folder / "out").rglob("timings.jsonl")).read_text().splitlines()
    seconds = [json.loads(line)["step_seconds"] for line in timings]
    return usage.ru_maxrss * 1024, statistics.median(seconds[1:] or seconds)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--firebrand", required=True)
    parser.add_argument("--shape", choices=list(random_llama.SHAPES), default="middle")
    parser.add_argument("--formats", nargs="*", default=[*MADE, "Q8_0", "Q4_K"])
    parser.add_argument("--plans", nargs="*", default=PLANS)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--precision", default="mixed-bf16")
    parser.add_argument("--disk", help="where models are written")
    parser.add_argument("--json")
    options = parser.parse_args()
    shape = dict(random_llama.SHAPES[options.shape])
    if options.layers:
        shape["num_hidden_layers"] = options.layers
    found = []
    with tempfile.TemporaryDirectory(dir=options.disk) as folder:
        folder = pathlib.Path(folder)
        environment = dict(os.environ, FIREBRAND_CACHE=str(folder / "cache"))
        print("| weights | plan | planned MB | peak MB | planned, of the peak | s a step | time, planned | measured |")
        print("|---|---|---|---|---|---|---|---|")
        written = None
        for kind in options.formats:
            model = folder / ("bf16" if kind in MADE else kind)
            if written != model:
                if written:
                    subprocess.run(["rm", "-rf", written], check=True)
                random_llama.write(model, shape, None if kind in MADE else kind)
                written = model
            config = settings(options, folder, model, MADE.get(kind), options.tokens)
            plans, fastest = planned(options, config, environment), None
            for plan in options.plans:
                peak, seconds = measured(options, config, folder, plan, environment)
                fastest = fastest or seconds
                of = plans[plan]
                found.append({"weights": kind, "plan": plan, "planned": of["memory_bytes"], "peak": peak,
                              "step_seconds": seconds, "relative_time": of["relative_time"]})
                print(f"| {kind} | {plan} | {of['memory_bytes'] / 1e6:.0f} | {peak / 1e6:.0f} "
                      f"| {of['memory_bytes'] / peak:.2f} | {seconds:.2f} | {of['relative_time']:.2f} "
                      f"| {seconds / fastest:.2f} |", flush=True)
        random_llama.write(folder / "small", random_llama.SHAPES["small"])
        config = settings(options, folder, folder / "small", None, 64)
        base, _ = measured(options, config, folder, "fastest", environment)
        print(f"\nwithout a model the process has {base / 1e6:.0f} MB")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(found, indent=1) + "\n")
    ratios = [line["planned"] / line["peak"] for line in found]
    near = sum(0.95 <= ratio <= 1.1 for ratio in ratios)
    print(f"{near} of {len(ratios)} are between 5 % below and 10 % above the peak")


if __name__ == "__main__":
    main()
