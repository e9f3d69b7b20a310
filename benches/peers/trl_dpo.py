"""Some steps of DPO with LoRA in TRL's DPOTrainer on the CPU. One JSON line.

trl_dpo.py PAIRS.jsonl MODEL_DIR --steps N [--precision bf16|f32] [--batch N]

PAIRS are lines of `{"prompt": ..., "chosen": ..., "rejected": ...}`, each a text. The reference is the
model with its adapter disabled, as TRL does it by default.
"""

import argparse
import json
import resource
import statistics
import tempfile
import time

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer


class Clock(TrainerCallback):
    """Seconds of each step."""

    def __init__(self):
        self.seconds = []

    def on_step_begin(self, *_, **__):
        self.began = time.perf_counter()

    def on_step_end(self, *_, **__):
        self.seconds.append(time.perf_counter() - self.began)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("pairs")
    parser.add_argument("model")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--precision", choices=["bf16", "f32"], default="f32")
    parser.add_argument("--batch", type=int, default=4)
    options = parser.parse_args()
    turn = lambda role, text: [{"role": role, "content": text}]
    with open(options.pairs, encoding="utf-8") as file:
        rows = [{"prompt": turn("user", pair["prompt"]), "chosen": turn("assistant", pair["chosen"]),
                 "rejected": turn("assistant", pair["rejected"])} for pair in map(json.loads, file)]
    half = options.precision == "bf16"
    model = AutoModelForCausalLM.from_pretrained(
        options.model, dtype=torch.bfloat16 if half else torch.float32
    )
    settings = DPOConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=options.batch,
        max_steps=options.steps, learning_rate=1e-4, max_length=2048, bf16=half, use_cpu=True,
        save_strategy="no", report_to=[], logging_steps=1, disable_tqdm=True,
        gradient_checkpointing=False, dataloader_num_workers=0, beta=0.1,
    )
    clock = Clock()
    trainer = DPOTrainer(
        model=model, args=settings, train_dataset=Dataset.from_list(rows), callbacks=[clock],
        processing_class=AutoTokenizer.from_pretrained(options.model),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
    )
    trainer.train()
    print(json.dumps({
        "tool": f"TRL {options.precision}",
        "step_seconds": statistics.median(clock.seconds[1:]),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    }))


if __name__ == "__main__":
    main()
