"""One epoch of supervised fine-tuning with LoRA in TRL's SFTTrainer on the CPU. One JSON line.

trl_sft.py RECORDS.jsonl MODEL_DIR TEMPLATE [--precision bf16|f32] [--batch N] [--accumulate N]

RECORDS are lines of `{"messages": [...]}`; TEMPLATE is the model's chat template with generation
marks, so that answers alone are learnt.
"""

import argparse
import json
import resource
import tempfile
import time

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("records")
    parser.add_argument("model")
    parser.add_argument("template")
    parser.add_argument("--precision", choices=["bf16", "f32"], default="bf16")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--accumulate", type=int, default=2)
    options = parser.parse_args()
    with open(options.records, encoding="utf-8") as file:
        rows = [{"messages": json.loads(line)["messages"]} for line in file]
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    with open(options.template, encoding="utf-8") as file:
        tokenizer.chat_template = file.read()
    half = options.precision == "bf16"
    model = AutoModelForCausalLM.from_pretrained(
        options.model, dtype=torch.bfloat16 if half else torch.float32
    )
    settings = SFTConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=options.batch,
        gradient_accumulation_steps=options.accumulate, num_train_epochs=1, learning_rate=2e-4,
        max_length=2048, assistant_only_loss=True, bf16=half, use_cpu=True, save_strategy="no",
        report_to=[], logging_steps=1, disable_tqdm=True, gradient_checkpointing=False,
        dataloader_num_workers=0,
    )
    began = time.perf_counter()
    trainer = SFTTrainer(
        model=model, args=settings, train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
    )
    trainer.train()
    seconds = time.perf_counter() - began
    print(json.dumps({
        "tool": f"TRL {options.precision}, batch {options.batch}",
        "seconds": round(seconds, 2),
        "updates": trainer.state.global_step,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    }))


if __name__ == "__main__":
    main()
