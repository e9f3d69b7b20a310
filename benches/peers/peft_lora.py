"""LoRA in PyTorch + PEFT on the same rows: bf16, sdpa, fused AdamW. One JSON line.

peft_lora.py BATCHES.jsonl CONFIG, where BATCHES is what `firebrand data CONFIG --json` prints and
CONFIG the run's TOML. Documents of a row see each other here, which costs no more.
"""

import json
import sys
import time
import tomllib

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

WARM_UP = 5  # steps that are not counted


def main():
    with open(sys.argv[2], "rb") as file:
        config = tomllib.load(file)
    with open(sys.argv[1], encoding="utf-8") as file:
        batches = [json.loads(line) for line in file]
    model = AutoModelForCausalLM.from_pretrained(
        config["model"]["base"], dtype=torch.bfloat16, attn_implementation="sdpa"
    ).cuda()
    lora = config["lora"]
    model = get_peft_model(
        model,
        LoraConfig(r=lora["r"], lora_alpha=lora["lora_alpha"], target_modules="all-linear"),
    )
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=config["train"]["learning_rate"], fused=True)
    tokens, began = 0, None
    for number, batch in enumerate(batches):
        if number == min(WARM_UP, len(batches) - 1):
            torch.cuda.synchronize()
            tokens, began = 0, time.perf_counter()
        shape = (batch["rows"], batch["length"])
        ids, positions = (
            torch.tensor(batch[key]).view(shape).cuda() for key in ("tokens", "positions")
        )
        labels = torch.full((ids.numel(),), -100)
        for index, token in batch["targets"]:
            labels[index + 1 if (index + 1) % shape[1] else index] = token
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = model(
                input_ids=ids, position_ids=positions, labels=labels.view(shape).cuda()
            ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += sum(document > 0 for document in batch["documents"])
    torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    print(
        json.dumps(
            {
                "tool": f"PyTorch {torch.__version__} + PEFT, bf16",
                "tokens_per_second": round(tokens / seconds, 1),
                "peak_bytes": torch.cuda.max_memory_allocated(),
                "loss": float(loss),
            }
        )
    )


if __name__ == "__main__":
    main()
