#!/usr/bin/env python3
"""Does `firebrand eval` give the numbers that transformers gives?  Run by hand.

    pip install torch transformers
    firebrand eval MODEL_DIR --config EVAL.toml --json --records > ours.json
    python tests/reference/evaluate.py MODEL_DIR RECORDS.jsonl ours.json

    firebrand eval ADAPTER --config EVAL.toml --weight-format nf4 --json --records > ours.json
    python tests/reference/evaluate.py MODEL_DIR RECORDS.jsonl ours.json ADAPTER nf4

The second has PEFT put an adapter beside the model, whose linear layers bitsandbytes rounds to NF4 with double
quantisation if that is asked for. RECORDS.jsonl holds conversations (`messages`). A token is judged if it begins inside an answer of
the assistant, or ends its turn; what these are is found here by rendering prefixes. The exit status
is 1 if a loss differs by more than 1e-4 of itself, or if another number of tokens is judged.
"""
import json
import sys

import torch
import transformers

LIMIT = 1e-4


def judged(tokenizer, messages):
    """Token ids of a conversation, and which of them are judged."""
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    spans = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = tokenizer.apply_chat_template(
            messages[:index], tokenize=False, add_generation_prompt=True)
        upto = tokenizer.apply_chat_template(messages[: index + 1], tokenize=False)
        assert text.startswith(before) and text.startswith(upto.rstrip("\n"))
        # What ends the turn belongs to it, the line end after it does not.
        spans.append((len(before), len(upto.rstrip("\n"))))
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    inside = [any(a <= start < b for a, b in spans) for start, _ in encoded["offset_mapping"]]
    return encoded["input_ids"], inside


def rounded(model):
    """The linear layers with the numbers that bitsandbytes makes of them in NF4."""
    from bitsandbytes_base import numbers
    from bitsandbytes.nn import Params4bit
    torch.set_num_threads(1)                                  # the mean of scales is summed in order
    for path, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear) and path != "lm_head":
            weight = Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4",
                                compress_statistics=True).to("cpu")
            layer.weight.data.copy_(numbers(weight))
    return model


def main():
    model_dir, records, ours, *adapter = sys.argv[1:]
    report = json.load(open(ours, encoding="utf-8"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_dir)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        model_dir, dtype=torch.float32, attn_implementation="eager").eval()
    if adapter[1:] == ["nf4"]:
        model = rounded(model)
    if adapter:
        from peft import PeftModel
        model = PeftModel.from_pretrained(model, adapter[0]).eval()
    lines = [json.loads(line) for line in open(records, encoding="utf-8") if line.strip()]
    worst, loss, targets, right, failed = 0.0, 0.0, 0, 0, False
    for line, found in zip(lines, report["records"], strict=True):
        ids, learn = judged(tokenizer, line["messages"])
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].double()
        places = [i for i in range(1, len(ids)) if learn[i]]
        wanted = torch.tensor([ids[i] for i in places])
        rows = logits[[i - 1 for i in places]]
        nll = torch.nn.functional.cross_entropy(rows, wanted, reduction="sum").item()
        correct = int((rows.argmax(-1) == wanted).sum())
        if len(places) != found["targets"]:
            print(f"{found['id']}: {found['targets']} tokens judged, {len(places)} here")
            failed = True
        worst = max(worst, abs(nll - found["loss_sum"]) / max(nll, 1e-9))
        loss, targets, right = loss + nll, targets + len(places), right + correct
    ours_loss = report["metrics"]["loss"]["value"]
    ours_accuracy = report["metrics"]["accuracy"]["value"]
    difference = abs(ours_loss - loss / targets) / (loss / targets)
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
    print(f"loss {loss / targets:.7f}, ours {ours_loss:.7f}: {difference:.1e} of it")
    print(f"the worst record: {worst:.1e}; accuracy {right / targets:.6f}, ours {ours_accuracy:.6f}")
    sys.exit(failed or difference > LIMIT or worst > LIMIT)


if __name__ == "__main__":
    main()
