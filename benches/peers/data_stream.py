#!/usr/bin/env python3
"""Records to packed rows with Hugging Face datasets, transformers and tokenizers: one run, one line.

  data_stream.py MODEL_DIR RECORDS.jsonl [--length 2048] [--mask] [--raw] [--procs N] [--digest]

Streams the file, renders conversations with the model's chat template (plain text goes as it is),
tokenises and packs to rows of --length tokens. Prints one JSON object. --mask also asks for the
mask of the assistant's tokens, through a template with `{% generation %}` marks. --raw leaves out
transformers' layer and calls the fast tokenizer itself. --procs N reads the file into an Arrow
cache and maps it with N processes, in place of streaming. --digest adds the sha256 of all token
ids in file order as little-endian u32, so that two programs can be seen to do the same work.
"""
import time

BEGIN = time.perf_counter()

import argparse
import hashlib
import json
import os
import resource
import sys
import tempfile
from array import array
from pathlib import Path

FORMAT = argparse.RawTextHelpFormatter
ARGUMENTS = argparse.ArgumentParser(description=__doc__, formatter_class=FORMAT)
ARGUMENTS.add_argument("model", type=Path)
ARGUMENTS.add_argument("records", type=Path)
ARGUMENTS.add_argument("--length", type=int, default=2048)
ARGUMENTS.add_argument("--batch", type=int, default=1000)
ARGUMENTS.add_argument("--mask", action="store_true")
ARGUMENTS.add_argument("--raw", action="store_true")
ARGUMENTS.add_argument("--procs", type=int, default=0)
ARGUMENTS.add_argument("--digest", action="store_true")
A = ARGUMENTS.parse_args()

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false" if A.procs else "true")

import datasets
import tokenizers
import transformers

IMPORTED = time.perf_counter()
TOKENIZER = transformers.AutoTokenizer.from_pretrained(A.model)
RAW = TOKENIZER.backend_tokenizer
MARKED = (Path(__file__).parent / "smollm2_generation.jinja").read_text(encoding="utf-8")


def render(conversations):
    return TOKENIZER.apply_chat_template(conversations, tokenize=False)


def encode(records):
    """A batch of records as token ids, and the mask where it is asked for."""
    if A.mask:
        out = TOKENIZER.apply_chat_template(
            records["messages"], chat_template=MARKED, tokenize=True, return_dict=True,
            return_assistant_tokens_mask=True)
        return {"ids": out["input_ids"], "mask": out["assistant_masks"]}
    texts = render(records["messages"]) if "messages" in records else records["text"]
    if A.raw:
        return {"ids": [one.ids for one in RAW.encode_batch_fast(texts, add_special_tokens=False)]}
    return {"ids": TOKENIZER(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]}


def same_text(path):
    """The marked template must write what the model's own writes."""
    with open(path, encoding="utf-8") as lines:
        for line, _ in zip(lines, range(200)):
            conversation = json.loads(line)["messages"]
            marked = TOKENIZER.apply_chat_template(conversation, chat_template=MARKED, tokenize=False)
            if marked != render(conversation):
                sys.exit("smollm2_generation.jinja does not fit this model's chat template")


def examples(cache):
    with open(A.records, encoding="utf-8") as lines:
        columns = list(json.loads(lines.readline()))
    load = {"data_files": str(A.records), "split": "train"}
    options = {"batched": True, "batch_size": A.batch, "remove_columns": columns}
    if A.procs:
        data = datasets.load_dataset("json", **load, cache_dir=cache)
        data = data.map(encode, **options, num_proc=A.procs)
    else:
        data = datasets.load_dataset("json", **load, streaming=True).map(encode, **options)
    yield from data.iter(A.batch)


def run(cache):
    digest, ids, mask = hashlib.sha256(), [], []
    records = tokens = learnt = rows = first = 0
    for batch in examples(cache):
        for number, one in enumerate(batch["ids"]):
            records += 1
            tokens += len(one)
            ids.extend(one)
            if A.mask:
                mask.extend(batch["mask"][number])
                learnt += sum(batch["mask"][number])
            if A.digest:
                digest.update(array("I", one).tobytes())
        # Text cut into rows of full length: the cheapest packing that trainers use.
        full = len(ids) // A.length
        packs = [ids[row * A.length:(row + 1) * A.length] for row in range(full)]
        masks = [mask[row * A.length:(row + 1) * A.length] for row in range(full if A.mask else 0)]
        del ids[:full * A.length], mask[:full * A.length]
        if packs and not first:
            first = time.perf_counter()
        rows += len(packs)
        del packs, masks
    return records, tokens, learnt, rows + bool(ids), first, digest.hexdigest()


def main():
    if A.mask:
        same_text(A.records)
    begin, cpu = time.perf_counter(), sum(os.times()[:4])
    with tempfile.TemporaryDirectory() as cache:
        records, tokens, learnt, rows, first, digest = run(cache)
    end, cpu = time.perf_counter(), sum(os.times()[:4]) - cpu
    kind = "map" if A.procs else "streaming"
    print(json.dumps({
        "tool": f"datasets {datasets.__version__} {kind}, "
                + (f"tokenizers {tokenizers.__version__}" if A.raw
                   else f"transformers {transformers.__version__}"),
        "mask": A.mask, "records": records, "tokens": tokens, "learnt": learnt if A.mask else None,
        "rows": rows, "seconds": round(end - begin, 3), "cpu_seconds": round(cpu, 3),
        "tokens_per_second": round(tokens / (end - begin)),
        "first_row_seconds": round(first - begin, 3),
        "first_row_from_start_seconds": round(first - BEGIN, 3),
        "import_seconds": round(IMPORTED - BEGIN, 3),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "sha256": digest if A.digest else None,
    }))


if __name__ == "__main__":
    main()
