"""A job of Firebrand for TRL: `accelerate launch train.py` in this folder.

`job.json` has the settings of the run, the learning rate of each step, and what has no counterpart here;
it names the files beside it with the rows of the whole run, tokenised and packed, in their order.
"""

import json
import pathlib

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

HERE = pathlib.Path(__file__).resolve().parent
JOB = json.loads((HERE / "job.json").read_text())


class Trainer(SFTTrainer):
    """The learning rates are those of the list, whatever schedule made them."""

    def create_scheduler(self, num_training_steps, optimizer=None):
        rates = JOB["learning_rates"]
        peak = self.args.learning_rate
        rate = lambda step: rates[min(step, len(rates) - 1)] / peak
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, rate)
        return self.lr_scheduler


def rows(part):
    name = JOB["rows"][part]
    if name is None:
        return None
    return load_dataset(JOB["rows"]["format"], data_files=str(HERE / name), split="train")


def main():
    # In 32 bits, as the weights that learn are here; `bf16` and `fp16` compute in 16 bits beside them.
    how = {"dtype": torch.float32}
    if JOB["revision"]:
        how["revision"] = JOB["revision"]
    if JOB["quantization"]:
        how["quantization_config"] = BitsAndBytesConfig(bnb_4bit_quant_type="nf4", **JOB["quantization"])
    model = AutoModelForCausalLM.from_pretrained(JOB["model"], **how)
    tokenizer = AutoTokenizer.from_pretrained(JOB["model"], revision=JOB["revision"])
    trainer = Trainer(
        model=model,
        args=SFTConfig(**JOB["arguments"]),
        train_dataset=rows("train"),
        eval_dataset=rows("validation"),
        processing_class=tokenizer,
        peft_config=LoraConfig(task_type="CAUSAL_LM", **JOB["peft"]) if JOB["peft"] is not None else None,
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
