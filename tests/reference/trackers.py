"""Reads what `output.report_to = ["tensorboard", "csv"]` wrote with TensorBoard's own reader and with pandas, and
compares it with `metrics.jsonl`:

    firebrand train configs/quickstart.toml --set 'output.report_to=["tensorboard","csv"]'
    python tests/reference/trackers.py checkpoints/quickstart          # pip install tensorboard pandas
"""

import json
import struct
import sys
from pathlib import Path

import pandas
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

run = Path(sys.argv[1])
lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
steps = {line["step"]: line for line in lines if "loss" in line}
evaluations = {line["step"]: line["eval_loss"] for line in lines if "eval_loss" in line}

events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
events.Reload()
names = events.Tags()["scalars"]
print(f"{len(steps)} steps, {len(evaluations)} evaluations; TensorBoard finds {', '.join(names)}")
table = pandas.read_csv(run / "metrics.csv")


def single(number):
    """As TensorBoard keeps it: 32 bits."""
    return struct.unpack("f", struct.pack("f", number))[0]


def compare(name, wanted):
    found = {event.step: event.value for event in events.Scalars(name)}
    assert found == {step: single(value) for step, value in wanted.items()}, name
    column = table[["step", name]].dropna()
    assert dict(zip(column["step"], column[name])) == wanted, name


compare("eval/loss", evaluations)
for name in ["loss", "learning_rate", "grad_norm", "epoch", "target_tokens", "tokens"]:
    compare(f"train/{name}", {step: line[name] for step, line in steps.items()})
for name in ["train/tokens_per_second", "train/memory_bytes_peak"]:
    assert len(events.Scalars(name)) == len(steps), name
print("every number is that of metrics.jsonl")
