"""Steps of DPO beside TRL on the CPU, in turn: pairs a second, and the peak of memory. A table in Markdown.

preferences.py --python PYTHON --firebrand BINARY --model MODEL_DIR [--rounds N]

Pairs of short answers are those of `datasets/units.jsonl`; long ones have prompts and answers cut out of
`datasets/corpus.jsonl`.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

HERE = pathlib.Path(__file__).parent
DATASETS = HERE.parent.parent / "datasets"
STEPS = 6
BATCH = 4
CONFIG = """
name = "dpo"
[model]
base = "{model}"
[data]
max_seq_len = 2048
packing = false
[[data.train]]
path = "{pairs}"
[lora]
r = 16
lora_alpha = 32
target_modules = "all-linear"
[train]
objective = "dpo"
max_steps = {steps}
micro_batch_size = {batch}
learning_rate = 1e-4
precision = "{precision}"
[checkpoint]
every_steps = 1000
reuse = "never"
[output]
dir = "{out}"
[device]
name = "cpu"
"""


def long_pairs(path):
    """64 pairs: 150 words of a prompt, two answers of 60."""
    texts = [json.loads(line)["text"] for line in (DATASETS / "corpus.jsonl").open(encoding="utf-8")]
    words = " ".join(texts).split()
    cut = lambda first, count: " ".join(words[first:first + count])
    with path.open("w", encoding="utf-8") as file:
        for pair in range(64):
            first = pair * 300
            record = {"prompt": cut(first, 150), "chosen": cut(first + 150, 60), "rejected": cut(first + 210, 60)}
            file.write(json.dumps(record) + "\n")


def ours(options, folder, pairs, precision):
    """Seconds of a step, peak bytes, losses."""
    config, out = folder / "dpo.toml", folder / "out"
    config.write_text(CONFIG.format(model=options.model, pairs=pairs, steps=STEPS, batch=BATCH, out=out,
                                    precision={"bf16": "mixed-bf16"}.get(precision, precision)))
    subprocess.run(["rm", "-rf", out], check=True)
    process = subprocess.Popen(
        [options.firebrand, "train", config, "--quiet"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=dict(os.environ, FIREBRAND_CACHE=str(folder / "cache")))
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, config.read_text()
    read = lambda name: [json.loads(line) for line in (out / name).read_text().splitlines()]
    seconds = [line["step_seconds"] for line in read("timings.jsonl") if "step_seconds" in line]
    losses = [line["loss"] for line in read("metrics.jsonl") if "grad_norm" in line]
    return statistics.median(seconds[1:]), usage.ru_maxrss * 1024, losses


def theirs(options, pairs, precision):
    run = subprocess.run(
        [options.python, HERE / "trl_dpo.py", pairs, options.model, "--steps", str(STEPS), "--batch", str(BATCH),
         "--precision", precision], check=True, capture_output=True, text=True,
        env=dict(os.environ, OMP_NUM_THREADS=str(os.cpu_count()), HF_HUB_OFFLINE="1"))
    found = json.loads(run.stdout.splitlines()[-1])
    return found["step_seconds"], found["peak_bytes"], found["losses"]


def main():
    parser = argparse.ArgumentParser()
    for name in ("python", "firebrand", "model"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", default=["f32", "bf16"])
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp())
    long_pairs(folder / "long.jsonl")
    print(f"| DPO, {BATCH} pairs a step | pairs/s | TRL | ratio | peak MB | TRL | memory |")
    print("|---|---|---|---|---|---|---|")
    for name, pairs in (("short answers", DATASETS / "units.jsonl"), ("long", folder / "long.jsonl")):
        for precision in options.precisions:
            found = [(ours(options, folder, pairs, precision), theirs(options, pairs, precision))
                     for _ in range(options.rounds)]
            a, b = [statistics.median(one[side][0] for one in found) for side in (0, 1)]
            c, d = [statistics.median(one[side][1] for one in found) for side in (0, 1)]
            print(f"| {name}, {precision} | {BATCH / a:.2f} | {BATCH / b:.2f} | {b / a:.2f} | {c / 1e6:.0f} "
                  f"| {d / 1e6:.0f} | {c / d:.2f} |", flush=True)


if __name__ == "__main__":
    main()
