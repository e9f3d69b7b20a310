"""What `plan` says of memory beside what a run takes at its peak, for random models of each family.

memory.py --firebrand PROGRAM --tokenizer MODEL_DIR [--families NAME ...] [--settings NAME ...]
          [--tokens N] [--json FILE]

It is run by a Python that has transformers (`peers/run.sh` makes such an environment); MODEL_DIR
lends its tokenizer. Each run makes two steps of one row. Prints a table in Markdown: megabytes planned, megabytes at the
peak of the process, and the ratio of both.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE / "peers"))
LORA = '[lora]\nr = 16\nlora_alpha = 32\ntarget_modules = "all-linear"\n'
CONFIG = """
name = "memory"
[model]
base = "{model}"
{format}
[data]
max_seq_len = {tokens}
packing = true
[[data.train]]
path = "{records}"
format = "text"
{lora}
[train]
max_steps = 2
micro_batch_size = 1
gradient_accumulation_steps = 1
learning_rate = 1e-4
precision = "{precision}"
recompute = "{recompute}"
[checkpoint]
every_steps = 1000
reuse = "never"
[output]
dir = "{out}"
[device]
name = "cpu"
"""
# What is trained, in which precision, what frozen linear layers are kept in, what is kept of
# layers.
SETTINGS = {
    "lora f32": (LORA, "f32", None, "none"),
    "lora f32 recompute": (LORA, "f32", None, "layers"),
    "lora bf16": (LORA, "mixed-bf16", None, "none"),
    "lora bf16 recompute": (LORA, "mixed-bf16", None, "layers"),
    "lora int8": (LORA, "mixed-bf16", "int8", "none"),
    "lora nf4": (LORA, "mixed-bf16", "nf4", "none"),
    "full f32": ("", "f32", None, "none"),
    "full bf16": ("", "mixed-bf16", None, "none"),
    "full bf16 recompute": ("", "mixed-bf16", None, "layers"),
}


def texts(path):
    """Records of a hundred to four hundred words."""
    chance, words = random.Random(1), (HERE / "README.md").read_text("utf-8").split()
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(400):
            text = " ".join(chance.choice(words) for _ in range(chance.randint(100, 400)))
            file.write(json.dumps({"text": text}) + "\n")


def measured(options, folder, config):
    """Bytes planned, at the peak, and planned by part; none where the setting is refused."""
    environment = dict(os.environ, FIREBRAND_CACHE=str(folder / "cache"))
    planned = subprocess.run([options.firebrand, "plan", config, "--json"], env=environment,
                             capture_output=True, text=True)
    if planned.returncode != 0:
        return None
    subprocess.run(["rm", "-rf", folder / "out"], check=True)
    process = subprocess.Popen([options.firebrand, "train", config, "--quiet"], env=environment,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(said)
    plan = json.loads(planned.stdout)
    return plan["memory_bytes"], usage.ru_maxrss * 1024, plan["memory"]


def main():
    from family_models import FAMILIES
    parser = argparse.ArgumentParser()
    for name in ("firebrand", "tokenizer"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--families", nargs="*", default=list(FAMILIES))
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS))
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--json")
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp())
    records, config = folder / "texts.jsonl", folder / "run.toml"
    texts(records)
    found = []
    print("| family | setting | planned MB | peak MB | planned, of the peak |")
    print("|---|---|---|---|---|")
    for family in options.families:
        model = folder / family
        subprocess.run([sys.executable, HERE / "peers" / "family_models.py", options.tokenizer,
                        model, family], check=True, capture_output=True)
        for setting in options.settings:
            lora, precision, kept, recompute = SETTINGS[setting]
            config.write_text(CONFIG.format(
                model=model, records=records, lora=lora, precision=precision,
                format=f'weight_format = "{kept}"' if kept else "", recompute=recompute,
                tokens=options.tokens, out=folder / "out"))
            result = measured(options, folder, config)
            if result is None:
                continue
            planned, peak, parts = result
            found.append({"family": family, "setting": setting, "planned": planned, "peak": peak,
                          "parts": parts})
            print(f"| `{family}` | {setting} | {planned / 1e6:.0f} | {peak / 1e6:.0f} "
                  f"| {planned / peak:.2f} |", flush=True)
        subprocess.run(["rm", "-rf", model], check=True)
    subprocess.run(["rm", "-rf", folder], check=True)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(found, indent=1) + "\n")
    off = [line for line in found if abs(line["planned"] / line["peak"] - 1) > 0.1]
    print(f"\n{len(found) - len(off)} of {len(found)} are within a tenth")


if __name__ == "__main__":
    main()
