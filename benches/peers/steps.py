"""Ours and theirs in turn: steps of one row, an epoch of chat records, the start, and rows of
different lengths. Prints tables in Markdown; `run.sh` calls it.
"""

import argparse
import collections
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).parent
CONFIG = """
name = "bench"
[model]
base = "{model}"
[data]
max_seq_len = {length}
packing = {packing}
[[data.train]]
path = "{records}"
format = "{shape}"
[lora]
r = 16
lora_alpha = 32
target_modules = "all-linear"
[train]
{steps}
micro_batch_size = {rows}
gradient_accumulation_steps = {accumulate}
learning_rate = 2e-4
[checkpoint]
every_steps = 1000
reuse = "never"
[output]
dir = "{out}"
[device]
name = "cpu"
"""
PARTS = ["peak", "steps", "epoch", "lengths", "start", "overhead", "families"]
WARM_UP = 2
LENGTHS = (128, 256, 512, 1024, 2048)
PRECISIONS = ("f32", "mixed-bf16")
# The shape of Llama 3.2 1B with the vocabulary of the tokenizer that is at hand.
LLAMA_1B = {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
            "num_attention_heads": 32, "num_key_value_heads": 8}
# Two losses are in memory at the same time.
TWO_AT_ONCE = ["device.parallel_micro_batches=2", "train.loss_chunk_tokens=64"]
FOUR_IN_A_BATCH = ["train.micro_batch_size=4", "train.gradient_accumulation_steps=2"]
LEAST_MEMORY = ["train.recompute=layers", "train.loss_chunk_tokens=64"]


class Bench:
    def __init__(self, options):
        self.options = options
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.environment = dict(os.environ, FIREBRAND_CACHE=str(self.folder / "cache"))
        self.texts = self.folder / "texts.jsonl"
        subprocess.run([options.records, "text", "2", self.texts], check=True, capture_output=True)

    def config(self, records, shape, length, steps, accumulate=1, packing="true", rows=1):
        path = self.folder / "run.toml"
        path.write_text(CONFIG.format(
            model=self.options.model, length=length, packing=packing, records=records,
            shape=shape, steps=steps, accumulate=accumulate, rows=rows,
            out=self.folder / "out",
        ))
        return path

    def ours(self, config, *settings):
        """Tokens/s after the warm-up, its steps, peak bytes, seconds of the process."""
        out = self.folder / "out"
        subprocess.run(["rm", "-rf", out], check=True)
        command = [self.options.firebrand, "train", config, "--quiet"]
        for setting in settings:
            command += ["--set", setting]
        began = time.perf_counter()
        process = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        assert status == 0, command
        read = lambda name: [json.loads(line) for line in (out / name).read_text().splitlines()]
        steps = [line for line in read("metrics.jsonl") if "grad_norm" in line]
        timings = [line for line in read("timings.jsonl") if "step_seconds" in line]
        speeds = [s["tokens"] / t["step_seconds"] for s, t in zip(steps, timings)]
        return {
            "speed": statistics.median(speeds[WARM_UP:] or speeds), "seconds": seconds,
            "peak": usage.ru_maxrss * 1024, "losses": [s["loss"] for s in steps],
            "timings": timings,
        }

    def batches(self, config, *arguments):
        """Lines of `firebrand data --json`, one per micro-batch."""
        lines = subprocess.run(
            [self.options.firebrand, "data", config, "--json", *arguments],
            env=self.environment, check=True, capture_output=True, text=True,
        ).stdout.splitlines()
        return [line for line in lines if '"targets"' in line]

    def theirs(self, script, *arguments):
        environment = dict(os.environ, OMP_NUM_THREADS=str(os.cpu_count()))
        run = subprocess.run(
            [self.options.python, HERE / script, *map(str, arguments)], env=environment,
            check=True, capture_output=True, text=True,
        )
        return json.loads(run.stdout.splitlines()[-1])

    def peak(self):
        """What large products reach here, ours and PyTorch's, and steps as a share of it."""
        here = json.loads(subprocess.run(
            [self.options.firebrand, "doctor", "--device", "cpu", "--json"],
            env=self.environment, check=True, capture_output=True, text=True).stdout)["products"]
        there = self.theirs("products.py")
        print("\n| GFLOP/s | f32 | bf16 |\n|---|---|---|")
        bf16 = here["bf16_gflops"]
        print(f"| large products, ours | {here['f32_gflops']:.0f} "
              f"| {'' if bf16 is None else format(bf16, '.0f')} |")
        print(f"| large products, PyTorch | {there['f32']:.0f} | {there['bf16']:.0f} |")
        print(f"| units that wait for no memory | {here['peak_gflops']:.0f} | |", flush=True)
        most = {"f32": max(here["f32_gflops"], there["f32"]),
                "bf16": max(bf16 or 0, there["bf16"])}
        print("\n| a step of one row of 512 | tokens/s | GFLOP/s | of large products "
              "| PyTorch + PEFT | of large products |\n|---|---|---|---|---|---|")
        base = self.options.model
        large = self.folder / "llama-1b"
        subprocess.run([self.options.python, HERE / "family_models.py", base, large, "llama",
                        json.dumps(LLAMA_1B)], check=True, capture_output=True)
        for name, model in (("SmolLM2-135M", base), ("Llama 1B", large)):
            self.options.model = str(model)
            config = self.config(self.texts, "text", 512, "max_steps = 6")
            batches = self.folder / "batches.jsonl"
            batches.write_text("\n".join(self.batches(config)))
            apart, of_key = operations(model)
            of_token = apart + of_key * (self.mean_document(config, WARM_UP) + 64)
            for ours, theirs in (("f32", "f32"), ("mixed-bf16", "bf16")):
                found = []
                for _ in range(self.options.rounds):
                    a = self.ours(config, f"train.precision={ours}")
                    b = self.theirs("peft_lora.py", batches, config, "--device", "cpu",
                                    "--precision", theirs, "--warm-up", WARM_UP)
                    found.append((a["speed"], b["tokens_per_second"]))
                a, b = (statistics.median(column) for column in zip(*found))
                rate = lambda speed: speed * of_token / 1e9
                print(f"| {name}, {theirs} | {a:.0f} | {rate(a):.0f} | {rate(a) / most[theirs]:.2f} "
                      f"| {b:.0f} | {rate(b) / most[theirs]:.2f} |", flush=True)
        subprocess.run(["rm", "-rf", large], check=True)
        self.options.model = base

    def steps(self):
        print("\n| one row of 512 tokens, all learnt | tokens/s | peak MB | ratio | memory |")
        print("|---|---|---|---|---|")
        config = self.config(self.texts, "text", 512, "max_steps = 8")
        batches = self.folder / "batches.jsonl"
        batches.write_text("\n".join(self.batches(config)))
        for recompute in (False, True):
            for ours, theirs in (("f32", "f32"), ("mixed-bf16", "bf16")):
                found = []
                for _ in range(self.options.rounds):
                    settings = [f"train.precision={ours}"]
                    settings += LEAST_MEMORY if recompute else []
                    a = self.ours(config, *settings)
                    b = self.theirs(
                        "peft_lora.py", batches, config, "--device", "cpu",
                        "--precision", theirs, "--warm-up", WARM_UP,
                        *(["--recompute"] if recompute else []),
                    )
                    found.append((a["speed"], b["tokens_per_second"], a["peak"], b["peak_bytes"]))
                a, b, c, d = (statistics.median(column) for column in zip(*found))
                ratios = [x / y for x, y, _, _ in found]
                name = f"{theirs}{', recompute' if recompute else ''}"
                print(f"| Firebrand {name} | {a:.0f} | {c / 1e6:.0f} "
                      f"| {statistics.median(ratios):.2f} ({min(ratios):.2f}, "
                      f"{max(ratios):.2f}) | {c / d:.2f} |")
                print(f"| PyTorch + PEFT {name} | {b:.0f} | {d / 1e6:.0f} | | |", flush=True)

    def families(self):
        """A step of a random model of each family, the peaks of memory, and what `plan` says."""
        from family_models import FAMILIES
        wanted = self.options.families or list(FAMILIES)
        print("\n| family, a row of 512 tokens, f32 | weights | tokens/s | theirs | ratio | peak MB "
              "| of theirs | planned, of the peak |")
        print("|---|---|---|---|---|---|---|---|")
        base = self.options.model
        for family in wanted:
            made = self.folder / family.replace(" ", "-")
            weights = int(subprocess.run(
                [self.options.python, HERE / "family_models.py", base, made, family],
                check=True, capture_output=True, text=True).stdout.split()[-1])
            self.options.model = str(made)
            config = self.config(self.texts, "text", 512, "max_steps = 6")
            batches = self.folder / "batches.jsonl"
            batches.write_text("\n".join(self.batches(config)))
            plan = json.loads(subprocess.run(
                [self.options.firebrand, "plan", config, "--json"], env=self.environment,
                check=True, capture_output=True, text=True).stdout)
            found = []
            for _ in range(self.options.rounds):
                a = self.ours(config, "train.precision=f32")
                b = self.theirs("peft_lora.py", batches, config, "--device", "cpu",
                                "--precision", "f32", "--warm-up", WARM_UP)
                found.append((a["speed"], b["tokens_per_second"], a["peak"], b["peak_bytes"]))
            a, b, c, d = (statistics.median(column) for column in zip(*found))
            ratio = statistics.median(x / y for x, y, _, _ in found)
            print(f"| `{family}` | {weights / 1e6:.0f} M | {a:.0f} | {b:.0f} | {ratio:.2f} "
                  f"| {c / 1e6:.0f} | {c / d:.2f} | {plan['memory_bytes'] / c:.2f} |", flush=True)
            subprocess.run(["rm", "-rf", made], check=True)
        self.options.model = base

    def epoch(self):
        records = self.folder / "chat.jsonl"
        with open(records, "w", encoding="utf-8") as file:
            command = ["python3", HERE / "sft_records.py", self.texts, "32"]
            subprocess.run(command, check=True, stdout=file)
        config = self.config(records, "messages", 2048, "epochs = 1", 8, "false")
        print("\n| 32 conversations, a fifth learnt, 4 updates | seconds | peak MB |\n|---|---|---|")
        found = {}

        def add(name, run, peak):
            found.setdefault(name, []).append((run["seconds"], run[peak]))

        for _ in range(self.options.rounds):
            for precision, how, settings in (
                ("f32", "1 at once", []), ("mixed-bf16", "1 at once", []),
                ("mixed-bf16", "2 at once", TWO_AT_ONCE),
                ("mixed-bf16", "batch 4", FOUR_IN_A_BATCH),
            ):
                run = self.ours(config, f"train.precision={precision}", *settings)
                add(f"Firebrand {precision}, {how}, whole process", run, "peak")
            for batch, accumulate in ((1, 8), (4, 2)):
                run = self.theirs("trl_sft.py", records, self.options.model,
                                  HERE / "smollm2_generation.jinja", "--batch", batch,
                                  "--accumulate", accumulate)
                add(f"{run['tool']}, without imports", run, "peak_bytes")
        for name, runs in found.items():
            seconds, peaks = zip(*runs)
            print(f"| {name} | {statistics.median(seconds):.0f} ({min(seconds):.0f}, "
                  f"{max(seconds):.0f}) | {statistics.median(peaks) / 1e6:.0f} |", flush=True)

    def mean_document(self, config, after):
        """Length of its document for the mean token of the steps after some."""
        lengths = collections.Counter()
        for batch in map(json.loads, self.batches(config, "--rows", "0")):
            for place, document in enumerate(batch["documents"]):
                row = (batch["step"], batch["micro_batch"], place // batch["length"])
                if batch["step"] > after and document > 0:  # 0 is padding
                    lengths[row, document] += 1
        return sum(n * n for n in lengths.values()) / sum(lengths.values())

    def lengths(self):
        """2048 tokens a step, all at once, in rows of different lengths; and one row a step, for
        memory. What attention computes grows with the length of a document: the speed apart from it
        is that of the operations that do not."""
        found = {}
        for _ in range(self.options.rounds):
            for length in LENGTHS:
                config = self.config(self.texts, "text", length, "max_steps = 4",
                                     rows=2048 // length)
                for precision in PRECISIONS:
                    run = self.ours(config, f"train.precision={precision}")
                    found.setdefault((length, precision), []).append(run["speed"])
        print("\n| tokens a row, 2048 a step | of a document | f32 | apart from attention | bf16 "
              "| apart from attention | peak MB of one row, bf16 |")
        print("|---|---|---|---|---|---|---|")
        speeds, (of_token, of_key) = [], operations(self.options.model)
        for length in LENGTHS:
            both = [statistics.median(found[length, precision]) for precision in PRECISIONS]
            config = self.config(self.texts, "text", length, "max_steps = 4", rows=2048 // length)
            keys = self.mean_document(config, WARM_UP)
            apart = [speed * (1 + of_key * (keys + 64) / of_token) for speed in both]
            config = self.config(self.texts, "text", length, "max_steps = 2")
            peak = self.ours(config, "train.precision=mixed-bf16")["peak"]
            speeds.append((length, *apart))
            print(f"| {length} | {keys:.0f} | {both[0]:.0f} | {apart[0]:.0f} | {both[1]:.0f} "
                  f"| {apart[1]:.0f} | {peak / 1e6:.0f} |", flush=True)
        print("\nTokens/s apart from attention:\n")
        for length, *both in speeds:
            for name, speed in zip(("f32 ", "bf16"), both):
                print(f"    {length:5} {name} {'█' * round(speed / 16)} {speed:.0f}")

    def overhead(self):
        """What of a run is not forward, backward and update: start, data, metrics, checkpoints,
        hashes, the signed artifact."""
        print("\n| 200 steps | seconds | not computing | data | saves |\n|---|---|---|---|---|")
        config = self.config(self.texts, "text", 256, "max_steps = 200")
        run = self.ours(config, "train.precision=mixed-bf16", "checkpoint.every_steps=50")
        lines = [json.loads(line) for line in (self.folder / "out" / "timings.jsonl").open()]
        total = lambda *keys: sum(line.get(key, 0) for line in lines for key in keys)
        computing = total("forward_seconds", "backward_seconds", "update_seconds")
        seconds = run["seconds"]
        print(f"| Firebrand bf16, rows of 256 | {seconds:.0f} "
              f"| {100 * (1 - computing / seconds):.1f} % "
              f"| {100 * total('data_seconds') / seconds:.2f} % "
              f"| {100 * total('save_seconds') / seconds:.2f} % |", flush=True)

    def start(self):
        """From the start of the process to the end of its first step, warm file cache."""
        print("\n| to the end of the first step | seconds |\n|---|---|")
        config = self.config(self.texts, "text", 512, "max_steps = 1")
        for precision in ("f32", "mixed-bf16"):
            found = []
            for _ in range(self.options.rounds + 1):
                subprocess.run(["rm", "-rf", self.folder / "out"], check=True)
                began = time.perf_counter()
                process = subprocess.Popen(
                    [self.options.firebrand, "train", config, "--set",
                     f"train.precision={precision}"],
                    env=self.environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                    text=True,
                )
                for line in process.stderr:
                    if line.startswith("step 1/"):
                        found.append(time.perf_counter() - began)
                process.wait()
            print(f"| Firebrand {precision}, one row of 512 | "
                  f"{statistics.median(found[1:]):.2f} |", flush=True)


def operations(model):
    """Operations of a token, and those for each key that one more in its document and in a block of
    64 means, forward and backward, LoRA r 16 on all linear layers: 4 for each frozen weight of
    layers and head, 6 for each of the adapter, and for each key 14 for each number of the heads, of
    which a token sees half."""
    config = json.loads((pathlib.Path(model) / "config.json").read_text())
    frozen = adapter = 0
    for path in pathlib.Path(model).glob("*.safetensors"):
        with open(path, "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name, tensor in header.items():
            if ".layers." in name and len(tensor["shape"]) == 2:
                outputs, inputs = tensor["shape"]
                frozen += outputs * inputs
                adapter += 16 * (outputs + inputs)
    frozen += config["vocab_size"] * config["hidden_size"]
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    of_key = 14 * head * config["num_attention_heads"] * config["num_hidden_layers"]
    return 4 * frozen + 6 * adapter, of_key / 2


def main():
    parser = argparse.ArgumentParser()
    for name in ("python", "firebrand", "records", "model"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--families", nargs="*", help="of the part of this name; all by default")
    options = parser.parse_args()
    bench = Bench(options)
    for part in PARTS:
        if options.only in (None, part):
            getattr(bench, part)()


if __name__ == "__main__":
    main()
