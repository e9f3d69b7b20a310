"""What `plan` says of each memory plan beside what a run takes, for frozen weights in each format.

memory_plans.py --firebrand PROGRAM --table [--smollm2 DIR] [--disk FOLDER] [--json FILE]
memory_plans.py --firebrand PROGRAM [--shape middle] [--formats bf16 nf4 Q8_0 ...] [--plans fastest ...]
                [--layers N] [--tokens 512] [--rows 1] [--parallel 1] [--steps 3] [--precision mixed-bf16] [--full]

Models of random weights in known shapes (`random_llama.py`), LoRA of rank 16 on all linear layers or every weight, rows of
`--tokens`. Prints a table in Markdown: megabytes planned, megabytes at the peak of the process, the ratio of both, the
median time of the steps after the first, and that beside the first plan, as planned and as measured. `--table` goes
through the cases of `docs/memory.md`, and fails where a prediction is low by more than 5 % or high by more than 10 %.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import random_llama
from memory import CONFIG, LORA, texts

HERE = pathlib.Path(__file__).parent
PLANS = ["fastest", "small-loss", "recompute", "small", "streamed-tables", "streamed"]
# Those that are made of bfloat16 when the model is loaded; others are blocks of a GGUF file.
MADE = {"bf16": None, "int8": "int8", "nf4": "nf4"}
USUAL = {"shape": "middle", "weights": "bf16", "plan": "fastest", "tokens": 512, "rows": 1, "parallel": 1, "steps": 3,
         "precision": "mixed-bf16", "full": False, "layers": None, "config": None}
# Predictions are low by no more than the first, and high by no more than the second.
BOUNDS = (0.95, 1.10)
TABLE = [
    {"shape": "small", "tokens": 64}, {"shape": "small"}, {"config": "quickstart"},
    {"config": "quickstart", "parallel": 2}, {"shape": "tied"}, {"shape": "tied", "plan": "streamed"},
    {"shape": "tied", "precision": "f32"}, {"shape": "tied", "precision": "f32", "full": True},
    {"shape": "tied", "tokens": 4096, "steps": 2},
    {"shape": "tied", "tokens": 4096, "steps": 2, "plan": "tiled-mlp"}, *({"plan": plan} for plan in PLANS),
    {"precision": "f32"}, {"precision": "f32", "plan": "streamed"}, {"rows": 4}, {"parallel": 2}, {"tokens": 2048},
    {"tokens": 2048, "plan": "streamed"}, {"weights": "int8"}, {"weights": "nf4"}, {"weights": "nf4", "plan": "small"},
    {"weights": "nf4", "plan": "streamed"}, {"weights": "Q8_0"}, {"weights": "Q8_0", "plan": "streamed"},
    {"weights": "Q4_K"}, {"config": "smollm2-lora"}, {"config": "smollm2-lora", "parallel": 2},
]


def of_config(options, case, out):
    """A configuration of this repository, and what is set in it: a few steps."""
    here = {"output.dir": out, "checkpoint.reuse": "never", "device.name": "cpu",
            "device.parallel_micro_batches": case["parallel"]}
    if case["config"] == "quickstart":
        here["train.epochs"] = 1
    else:
        here.update({"model.base": options.smollm2, "train.max_steps": 4})
    return HERE.parent / "configs" / f"{case['config']}.toml", [f"{key}={value}" for key, value in here.items()]


def of_shape(case, folder, model, out):
    config, records = folder / "run.toml", folder / "texts.jsonl"
    texts(records)
    made = MADE.get(case["weights"])
    text = CONFIG.format(model=model, records=records, lora="" if case["full"] else LORA, precision=case["precision"],
                         recompute="none", format=f'weight_format = "{made}"' if made else "", tokens=case["tokens"],
                         out=out)
    text = text.replace('recompute = "none"\n', "")
    for key, value in {"max_steps = 2": case["steps"], "micro_batch_size = 1": case["rows"],
                       "gradient_accumulation_steps = 1": case["parallel"]}.items():
        text = text.replace(key, f"{key.split(' = ')[0]} = {value}")
    config.write_text(text + f"parallel_micro_batches = {case['parallel']}\n")
    return config, [f"train.memory={case['plan']}"]


def run(options, case, folder, written):
    """Bytes planned and at the peak, seconds of a step, and the time that was planned."""
    environment = dict(os.environ, FIREBRAND_CACHE=str(folder / "cache"))
    out = folder / "out"
    subprocess.run(["rm", "-rf", out], check=True)
    if case["config"]:
        config, changed = of_config(options, case, out)
    else:
        kind = None if case["weights"] in MADE else case["weights"]
        model = folder / f"{case['shape']}-{kind or 'bf16'}-{case['layers']}"
        if model not in written:
            if written:
                subprocess.run(["rm", "-rf", written.pop()], check=True)
            shape = dict(random_llama.SHAPES[case["shape"]])
            shape.update({"num_hidden_layers": case["layers"]} if case["layers"] else {})
            random_llama.write(model, shape, kind)
            written.add(model)
        config, changed = of_shape(case, folder, model, out)
    changed = [part for text in changed for part in ("--set", text)]
    found = subprocess.run([options.firebrand, "plan", config, "--json", "--quiet", *changed], env=environment,
                           cwd=HERE.parent, capture_output=True, text=True, check=True)
    plan = json.loads(found.stdout)
    chosen = next(plan for plan in plan["memory_plans"] if plan["chosen"])
    process = subprocess.Popen([options.firebrand, "train", config, "--quiet", *changed], env=environment,
                               cwd=HERE.parent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(said)
    timings = next(out.rglob("timings.jsonl")).read_text().splitlines()
    seconds = [json.loads(line)["step_seconds"] for line in timings]
    return {"case": case, "planned": plan["memory_bytes"], "parts": plan["memory"], "peak": usage.ru_maxrss * 1024,
            "step_seconds": statistics.median(seconds[1:] or seconds), "relative_time": chosen["relative_time"]}


def row(found, first):
    case, ratio = found["case"], found["planned"] / found["peak"]
    what = case["config"] or case["shape"]
    tokens = "as set" if case["config"] else f"{case['parallel'] * case['rows']} × {case['tokens']}"
    if case["config"] and case["parallel"] > 1:
        tokens = f"{case['parallel']} at once"
    trained = "all" if case["full"] else "LoRA"
    weights, precision, plan = (case[key] for key in ("weights", "precision", "plan"))
    if case["config"]:
        weights, precision, plan = "as they are", "auto", "as set"
    return (f"| {what} | {weights} | {precision} | {trained} | {tokens} | {plan} | {found['planned'] / 1e6:.0f} "
            f"| {found['peak'] / 1e6:.0f} | {ratio:.2f} | {found['step_seconds']:.2f} | {found['relative_time']:.2f} "
            f"| {found['step_seconds'] / first:.2f} |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--firebrand", required=True)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--smollm2", help="SmolLM2-135M-Instruct, for the table")
    parser.add_argument("--shape", choices=list(random_llama.SHAPES), default="middle")
    parser.add_argument("--formats", nargs="*", default=[*MADE, "Q8_0", "Q4_K"])
    parser.add_argument("--plans", nargs="*", default=PLANS)
    for name, usual in (("tokens", 512), ("rows", 1), ("parallel", 1), ("steps", 3)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--precision", default="mixed-bf16")
    parser.add_argument("--full", action="store_true", help="train every weight")
    parser.add_argument("--disk", help="where models are written")
    parser.add_argument("--json")
    options = parser.parse_args()
    cases = TABLE if options.table else [
        {"weights": weights, "plan": plan} | {name: getattr(options, name) for name in USUAL if hasattr(options, name)}
        for weights in options.formats for plan in options.plans]
    cases = [USUAL | case for case in cases if options.smollm2 or case.get("config") != "smollm2-lora"]
    found, written, first = [], set(), None
    print("| model | frozen weights | precision | trained | rows × tokens | plan | planned MB | peak MB "
          "| planned, of the peak | s a step | time, planned | measured |")
    print("|" + "---|" * 12)
    with tempfile.TemporaryDirectory(dir=options.disk) as folder:
        for case in cases:
            found.append(run(options, case, pathlib.Path(folder), written))
            # The time is beside that of the fastest plan before it.
            if first is None or case["plan"] == "fastest":
                first = found[-1]["step_seconds"]
            print(row(found[-1], first), flush=True)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(found, indent=1) + "\n")
    ratios = [line["planned"] / line["peak"] for line in found]
    near = sum(BOUNDS[0] <= ratio <= BOUNDS[1] for ratio in ratios)
    print(f"\n{near} of {len(ratios)} are between 5 % below and 10 % above the peak: "
          f"{min(ratios):.2f} to {max(ratios):.2f}")
    sys.exit(1 if options.table and near < len(ratios) else 0)


if __name__ == "__main__":
    main()
