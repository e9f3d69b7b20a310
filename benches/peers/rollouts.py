"""Completions for GRPO beside transformers on the CPU, in turn: 16 of up to 128 tokens of a prompt.

rollouts.py --python PYTHON --firebrand BINARY --model MODEL_DIR [--rounds N]

Ours are those of a GRPO run's steps, rewards included; theirs are `generate` with 16 returned sequences of a prompt, as TRL
asks for them. Both draw at temperature 1 from all tokens, and stop where the model does. A table in Markdown: tokens that
were written in a second.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

SAMPLES, TOKENS = 16, 128
PROMPTS = ["Tell me a story about a lighthouse keeper and a storm."]
CONFIG = """
name = "rollouts"
[model]
base = "{model}"
[data]
max_seq_len = 256
[[data.train]]
path = "{data}"
format = "messages"
[lora]
[train]
objective = "grpo"
max_steps = 2
micro_batch_size = 1
learning_rate = 1e-6
precision = "{precision}"
[grpo]
num_generations = {samples}
max_completion_length = {tokens}
[[grpo.reward]]
name = "word"
kind = "regex"
pattern = "the"
[checkpoint]
every_steps = 1000
[output]
dir = "{out}"
[device]
name = "cpu"
"""


def ours(options, folder, precision):
    """Tokens a second, of the median step."""
    data, config, out = folder / "prompts.jsonl", folder / "rollouts.toml", folder / "out"
    turns = lambda prompt: {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": "."}]}
    data.write_text("".join(json.dumps(turns(prompt)) + "\n" for prompt in PROMPTS))
    config.write_text(CONFIG.format(model=options.model, data=data, out=out, samples=SAMPLES, tokens=TOKENS,
                                    precision={"bf16": "mixed-bf16"}.get(precision, precision)))
    subprocess.run(["rm", "-rf", out], check=True)
    subprocess.run([options.firebrand, "train", config, "--quiet"], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    written = {}
    for line in (out / "rollouts.jsonl").read_text().splitlines():
        group = json.loads(line)
        tokens = sum(len(completion["tokens"]) for completion in group["completions"])
        written[group["step"]] = written.get(group["step"], 0) + tokens
    timings = [json.loads(line) for line in (out / "timings.jsonl").read_text().splitlines()]
    speeds = [written[line["step"]] / line["data_seconds"] for line in timings if line.get("step") in written]
    return statistics.median(speeds)


def theirs(options, precision):
    run = subprocess.run([options.python, __file__, "--theirs", "--model", options.model, "--precision", precision],
                         check=True, capture_output=True, text=True)
    return json.loads(run.stdout.splitlines()[-1])


def measure_theirs(options):
    import time

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype).eval()
    torch.manual_seed(0)
    speeds = []
    for _ in range(2):
        began, written = time.perf_counter(), 0
        for prompt in PROMPTS:
            tokens = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True,
                                                   return_tensors="pt", return_dict=True)
            with torch.no_grad():
                found = model.generate(**tokens, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                                       num_return_sequences=SAMPLES, max_new_tokens=TOKENS)
            completions = found[:, tokens["input_ids"].shape[1]:]
            end = model.generation_config.eos_token_id
            end = end if isinstance(end, list) else [end]
            for row in completions.tolist():
                first = next((place for place, token in enumerate(row) if token in end), len(row) - 1)
                written += first + 1
        speeds.append(written / (time.perf_counter() - began))
    print(json.dumps(statistics.median(speeds)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--theirs", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="f32", help=argparse.SUPPRESS)
    parser.add_argument("--model", required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--firebrand", default="firebrand")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", default=["f32", "bf16"])
    options = parser.parse_args()
    if options.theirs:
        return measure_theirs(options)
    folder = pathlib.Path(tempfile.mkdtemp())
    print(f"| {SAMPLES} completions of up to {TOKENS} tokens | tokens/s | transformers | ratio |")
    print("|---|---|---|---|")
    for precision in options.precisions:
        found = [(ours(options, folder, precision), theirs(options, precision)) for _ in range(options.rounds)]
        a, b = [statistics.median(pair[side] for pair in found) for side in (0, 1)]
        print(f"| {precision} | {a:.0f} | {b:.0f} | {a / b:.2f} |", flush=True)


if __name__ == "__main__":
    main()
