"""Text written token by token on the CPU, beside llama.cpp from the same GGUF files, in turn.

decoding.py --firebrand BINARY --model MODEL_DIR [--types f32 q8_0 q4_k_m] [--tokens N] [--rounds N]

It is run by a Python with PyPI `xllamacpp`. Both write the most likely N tokens (200) after the same few words, with two
threads, and read a prompt of about a thousand tokens. A table in Markdown: tokens a second, medians of the rounds.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import urllib.request

PROMPT = "The lighthouse keeper had been alone for so long that"
LONG = " ".join(["The storm came in from the north, and the lamp had to be lit before noon."] * 60)


def ours(options, file, prompt, tokens):
    """Tokens a second of the prompt and of the answer."""
    said = subprocess.run(
        [options.firebrand, "generate", file, "--prompt", prompt, "--max-tokens", str(tokens), "--temperature", "0",
         "--device", "cpu"], check=True, capture_output=True, text=True).stderr
    return [float(speed) for speed in re.findall(r"([\d.]+) tokens/s", said)][:2]


class LlamaCpp:
    """A server of llama.cpp within this process."""

    def __init__(self, file):
        import xllamacpp
        settings = xllamacpp.CommonParams()
        settings.model.path = str(file)
        settings.n_ctx, settings.n_gpu_layers, settings.n_parallel = 2048, 0, 1
        settings.warmup, settings.cpuparams.n_threads = False, os.cpu_count()
        self.server = xllamacpp.Server(settings)

    def speeds(self, prompt, tokens):
        question = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
        request = urllib.request.Request(f"{self.server.listening_address}/completion", json.dumps(question).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            timings = json.load(answer)["timings"]
        return timings["prompt_per_second"], timings["predicted_per_second"]


def main():
    parser = argparse.ArgumentParser()
    for name in ("firebrand", "model"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--types", nargs="*", default=["f32", "q8_0", "q4_k_m"])
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    print("| weights | MB | written, tokens/s | llama.cpp | ratio | prompt, tokens/s | llama.cpp | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.types:
            out = pathlib.Path(folder) / kind
            subprocess.run([options.firebrand, "export", options.model, "--format", "gguf", "--type", kind, "--out", out,
                            "--no-sign"], check=True, capture_output=True)
            [file] = out.glob("*.gguf")
            there, found = LlamaCpp(file), []
            for _ in range(options.rounds):
                found.append([ours(options, file, PROMPT, options.tokens)[1], there.speeds(PROMPT, options.tokens)[1],
                              ours(options, file, LONG, 8)[0], there.speeds(LONG, 8)[0]])
            a, b, c, d = (statistics.median(column) for column in zip(*found))
            print(f"| {kind.upper()} | {file.stat().st_size / 1e6:.0f} | {a:.1f} | {b:.1f} | {a / b:.2f} "
                  f"| {c:.0f} | {d:.0f} | {c / d:.2f} |", flush=True)


if __name__ == "__main__":
    main()
