"""What a sweep of points that share steps costs, beside its points run alone.

    python benches/sweeps.py target/release/firebrand [--points 16] [--steps 150] [--store s3://bucket/prefix]

Sixteen points of `configs/quickstart.toml` that differ in the last rate of a `wsd` schedule with a decay of 30 % have 70 %
of their steps in common. Wall time and processor time of `sweep run` and of sixteen `train` with an empty cache each, one
run at a time; the losses of both must be the same. With a store, three workers on three folders share it, and what they
ask of it is added up.
"""
import argparse
import json
import os
import pathlib
import re
import resource
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def timed(command, folder, cache):
    environment = {**os.environ, "FIREBRAND_CACHE": str(cache)}
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    return time.monotonic() - begun, seconds, done.stderr


SETTINGS = ", ".join([
    '"train.lr_scheduler" = "wsd"', '"train.decay_ratio" = 0.3', '"data.max_seq_len" = 96', '"eval.prompts" = []',
    '"eval.max_records" = 8', '"train.gradient_accumulation_steps" = 1', '"checkpoint.every_steps" = 0',
    '"device.name" = "cpu"', '"device.threads" = 1', '"device.parallel_micro_batches" = 1',
])


def sweep_file(points, steps):
    ratios = [round(0.5 * number / points, 6) for number in range(points)]
    return f"""configs = ["configs/quickstart.toml"]
set = {{ {SETTINGS}, "train.max_steps" = {steps} }}
[[parameter]]
key = "train.min_lr_ratio"
values = {json.dumps(ratios)}
"""


def losses(run):
    return (run / "metrics.jsonl").read_text()


COUNTS = re.compile(r"\((\d+) reads, (\d+) lists, (\d+) writes, (\d+) deletes\), ([\d.]+) (k|M|G|)B sent, ([\d.]+) (k|M|G|)B received")
UNITS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}


def of_store(program, folder, points, steps, store, workers=3):
    """What workers on machines of their own ask of a store, by kind."""
    running = []
    for index in range(workers):
        machine = folder / f"machine-{index}"
        machine.mkdir()
        prepare(machine, points, steps)
        subprocess.run([program, "sweep", "plan", "sweep.toml"], cwd=machine, check=True, capture_output=True)
        command = [program, "sweep", "run", "sweeps/sweep", "--index", str(index), "--workers", str(workers), "--store", store]
        environment = {**os.environ, "FIREBRAND_CACHE": str(machine / "cache")}
        running.append((machine, subprocess.Popen(command, cwd=machine, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)))
    totals = {"points": [0] * 6, "workers": [0] * 6}
    for machine, process in running:
        said = process.communicate()[1]
        if process.returncode:
            raise SystemExit(said)
        logs = "".join(path.read_text() for path in (machine / "sweeps/sweep/logs").glob("*.log"))
        for kind, text in (("workers", said), ("points", logs)):
            for found in COUNTS.findall(text):
                numbers = [int(count) for count in found[:4]]
                numbers += [float(found[4]) * UNITS[found[5]], float(found[6]) * UNITS[found[7]]]
                totals[kind] = [a + b for a, b in zip(totals[kind], numbers)]
    for kind, (reads, lists, writes, deletes, sent, received) in totals.items():
        print(f"{kind}: {reads} reads, {lists} lists, {writes} writes, {deletes} deletes, {sent / 1e6:.1f} MB sent, {received / 1e6:.1f} MB received")


def prepare(folder, points, steps):
    for name in ("configs", "datasets", "checkpoints"):
        os.symlink(ROOT / name, folder / name)
    (folder / "sweep.toml").write_text(sweep_file(points, steps))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--points", type=int, default=16)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--lone", type=int, help="so many of the points are run alone, and stand for all")
    parser.add_argument("--store")
    asked = parser.parse_args()
    program = str(asked.program.resolve())
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        if asked.store:
            return of_store(program, folder, asked.points, asked.steps, asked.store)
        prepare(folder, asked.points, asked.steps)
        timed([program, "sweep", "plan", "sweep.toml"], folder, folder / "cache")
        planned = json.loads((folder / "sweeps/sweep/manifest.json").read_text())["points"]
        all_steps = sum(point["steps"] for point in planned)
        shared = sum(point.get("shares", {}).get("steps", 0) for point in planned)
        print(f"{len(planned)} points, {shared} of {all_steps} steps are shared")
        # What both need once: digests of the base, tokenised examples.
        first = f"sweeps/sweep/points/{planned[0]['id']}.toml"
        warm = ["--set", "train.max_steps=1", "--set", "output.dir=warm", "--set", "checkpoint.reuse=never"]
        timed([program, "train", first, "--quiet", *warm], folder, folder / "cache")
        wall, processor, said = timed([program, "sweep", "run", "sweeps/sweep"], folder, folder / "cache")
        print(f"the sweep: {wall:.1f} s, {processor:.1f} s of processors")
        lone_wall = lone_processor = 0.0
        alone_too = planned[:: len(planned) // (asked.lone or len(planned))][: asked.lone]
        for point in alone_too:
            config = f"sweeps/sweep/points/{point['id']}.toml"
            alone = ["--set", f"output.dir=alone/{point['id']}", "--set", "checkpoint.reuse=never"]
            seconds = timed([program, "train", config, "--quiet", *alone], folder, folder / "cache")
            lone_wall, lone_processor = lone_wall + seconds[0], lone_processor + seconds[1]
            same = losses(folder / "sweeps/sweep/runs" / point["id"]) == losses(folder / "alone" / point["id"])
            assert same, point["id"]
        share = len(planned) / len(alone_too)
        lone_wall, lone_processor = lone_wall * share, lone_processor * share
        print(f"{len(planned)} lone runs (of which {len(alone_too)} were made): {lone_wall:.1f} s, {lone_processor:.1f} s of processors")
        print(f"the sweep costs {wall / lone_wall:.1%} of the time, {processor / lone_processor:.1%} of the processors")


main()
