"""Reads what the trackers of a run wrote with the packages that they are for, and compares it with `metrics.jsonl`:

    firebrand train configs/quickstart.toml --set 'output.report_to=["tensorboard","csv","mlflow","wandb","trackio"]'
    pip install tensorboard pandas mlflow-skinny trackio 'wandb<0.20' 'protobuf<7'
    python tests/reference/trackers.py checkpoints/quickstart

TensorBoard reads its event files, pandas and trackio (`import_csv`) the table, trackio the fragments in its inbox, as
its server does, MLflow its file store, and the reader in wandb's own package, with its messages, the file that
`wandb sync` uploads. Later versions of wandb have that reader in
a program of their own.
"""

import json
import os
import shutil
import struct
import sys
import tempfile
from pathlib import Path

run = Path(sys.argv[1]).resolve()
# A copy: trackio removes the fragments that it has taken.
os.environ["TRACKIO_DIR"] = str(shutil.copytree(run / "trackio", Path(tempfile.mkdtemp()) / "trackio"))
os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"

import mlflow
import pandas
import trackio
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trackio.fragments import import_inbox_dir
from trackio.sqlite_storage import SQLiteStorage
from wandb.proto import wandb_internal_pb2 as messages
from wandb.sdk.internal.datastore import DataStore

lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
steps = {line["step"]: line for line in lines if "loss" in line}
evaluations = {line["step"]: line["eval_loss"] for line in lines if "eval_loss" in line}

events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
events.Reload()
names = events.Tags()["scalars"]
print(f"{len(steps)} steps, {len(evaluations)} evaluations; TensorBoard finds {', '.join(names)}")
table = pandas.read_csv(run / "metrics.csv")

client = mlflow.MlflowClient(tracking_uri=(run / "mlruns").as_uri())
[found] = client.search_runs(["0"])
assert (found.info.status, found.info.run_name) == ("FINISHED", run.name), found.info
print(f"MLflow {mlflow.__version__}: the run {found.info.run_name}, {len(found.data.params)} settings")


def history_of_wandb():
    """Steps with their values, the settings, and whether the run has ended."""
    log = DataStore()
    log.open_for_scan(str(next((run / "wandb").glob("offline-run-*/run-*.wandb"))))
    history, settings, ended = {}, {}, False
    while (data := log.scan_data()) is not None:
        record = messages.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            settings = {item.key: json.loads(item.value_json) for item in record.run.config.update}
            assert record.run.display_name == run.name
        if kind == "history":
            values = {item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            assert values["_step"] == record.history.step.num and values["_step"] not in history
            history[values["_step"]] = values
        ended |= kind == "exit"
    return history, settings, ended


history, settings, ended = history_of_wandb()
assert ended and settings["name"] == run.name, settings
print(f"wandb {wandb.__version__}: {len(history)} steps, {len(settings)} settings")
trackio.import_csv(run / "metrics.csv", project="p", name="a")
logged = SQLiteStorage.get_logs("p", "a")
taken = import_inbox_dir()
fragments = SQLiteStorage.get_logs("firebrand", run.name)
assert import_inbox_dir() == 0 and len(fragments) == taken, (taken, len(fragments))
config = SQLiteStorage.get_run_config("firebrand", run.name)
assert config["name"] == run.name, config
print(f"trackio {trackio.__version__}: {len(logged)} points of the table, {taken} of fragments")


def single(number):
    """As TensorBoard keeps it: 32 bits."""
    return struct.unpack("f", struct.pack("f", number))[0]


def compare(name, wanted):
    found = {event.step: event.value for event in events.Scalars(name)}
    assert found == {step: single(value) for step, value in wanted.items()}, name
    column = table[["step", name]].dropna()
    assert dict(zip(column["step"], column[name])) == wanted, name
    metrics = client.get_metric_history(client.search_runs(["0"])[0].info.run_id, name)
    assert {metric.step: metric.value for metric in metrics} == wanted, name
    assert {step: values[name] for step, values in history.items() if name in values} == wanted, name
    for points in [logged, fragments]:
        assert {point["step"]: point[name] for point in points if name in point} == wanted, name


compare("eval/loss", evaluations)
for name in ["loss", "learning_rate", "grad_norm", "epoch", "target_tokens", "tokens"]:
    compare(f"train/{name}", {step: line[name] for step, line in steps.items()})
for name in ["train/tokens_per_second", "train/memory_bytes_peak"]:
    assert len(events.Scalars(name)) == len(steps), name
print("every number is that of metrics.jsonl")
