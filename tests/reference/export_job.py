"""Jobs that `firebrand export-job --to trl` has written, loaded by what they are written for: `export_job.json`.

    python export_job.py LORA_JOB FULL_JOB PARQUET_JOB

Rows by `datasets`, micro-batches by TRL's collator without padding, the loss of the first step by transformers on the
base model (an adapter changes nothing before its first update). Then the script of the second job, which trains all
weights, is run as it is, and its losses are kept: those of a whole run, with its order, its rates and its optimizer.
The third job is the second one with its rows as Parquet: the same columns of the same types, the same rows in the same
order, and the same losses.
"""
import hashlib
import importlib.util
import json
import os
import pathlib
import sys

import torch
from datasets import load_dataset
from transformers import AutoModelForCausalLM
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

HERE = pathlib.Path(__file__).parent


def loaded(folder):
    job = json.loads((folder / "job.json").read_text())
    files = job["rows"]
    return job, load_dataset(files["format"], data_files=str(folder / files["train"]), split="train")


def first_step(job, rows):
    size = job["arguments"]["per_device_train_batch_size"]
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32).eval()
    loss, count = 0.0, 0
    for step in range(job["arguments"]["gradient_accumulation_steps"]):
        batch = collate([rows[step * size + row] for row in range(size)])
        with torch.no_grad():
            logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
        labels = batch["labels"][0, 1:]
        loss += torch.nn.functional.cross_entropy(logits[0, :-1], labels, reduction="sum").item()
        count += int((labels != -100).sum())
    return loss / count, count


def trained(folder):
    os.chdir(folder)
    spec = importlib.util.spec_from_file_location("train", folder / "train.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.JOB["arguments"].update(logging_steps=1, use_cpu=True, save_strategy="no", disable_tqdm=True, bf16=False)
    losses = []
    log = script.Trainer.log
    script.Trainer.log = lambda self, logs, *more: (losses.append(logs["loss"]) if "loss" in logs else None, log(self, logs, *more))
    script.main()
    return losses


def main():
    lora, full, parquet = (pathlib.Path(folder).resolve() for folder in sys.argv[1:4])
    job, rows = loaded(lora)
    loss, count = first_step(job, rows)
    lines, columns = loaded(full)[1], loaded(parquet)[1]
    assert columns.features == lines.features, (columns.features, lines.features)
    assert columns.to_list() == lines.to_list(), "other rows in Parquet"
    tokens = ",".join(str(token) for row in rows for token in row["input_ids"])
    out = {
        "first_loss": loss,
        "first_targets": count,
        "tokens_sha256": hashlib.sha256(tokens.encode()).hexdigest(),
        "full_losses": [float(value) for value in trained(full)],
    }
    assert [float(value) for value in trained(parquet)] == out["full_losses"], "other losses from Parquet"
    (HERE / "export_job.json").write_text(json.dumps(out, indent=1) + "\n")


main()
