#!/usr/bin/env python3
"""Does an artifact do in PEFT, transformers and llama.cpp what it states that it does? Run by hand.

    pip install torch transformers peft safetensors
    effect.py ARTIFACT [--base DIR]
    pip install gguf numpy xllamacpp
    effect.py ARTIFACT [--base DIR] --llama-cpp FIREBRAND [--type f16] 2> /dev/null

Loads an adapter beside its base, or a whole model, runs the rows of tokens that `effect.json` has,
with and without what was trained, and compares the best tokens' scores and the size of the change
with what is stated there. An adapter is then silenced, as by a loader that does not find its
layers: that must be seen. Exit code 1: it does something else, or nothing.

With `--llama-cpp` the program FIREBRAND writes GGUF files (of 32 bits, if `--type` does not say `f16`): of the
base, of the adapter (`--format gguf-lora`), of both in one; or of the whole model. llama.cpp (the one in PyPI
`xllamacpp`) runs the rows with each. It tells logarithms of probabilities, which are scores but for a constant:
differences between the best tokens are compared, with and without the adapter, and not the size of the change. Its
own best token must be the one that is stated, where the next one is not as good within the tolerance. The adapter
is silenced by zeros in every B of its file.
"""
import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""

# As in src/artifact/effect.rs.
TOLERANCE = {"f32": 1e-3}
COARSE, CHANGE = 3e-2, 0.1
# Of weights that were rounded to 16 bits for GGUF, as in gguf_check.py.
OF_FILES = {"f32": 0, "f16": 5e-3}


def compare(effect, with_, without):
    """What is not as it is stated, or nothing; and the largest difference."""
    tolerance = TOLERANCE.get(effect["arithmetic"], COARSE)
    far = 0.0
    for number, row in enumerate(effect["rows"]):
        sides = [("with it", row["with"], with_[number])]
        if without is not None and "without" in row:
            sides.append(("of the base", row["without"], without[number]))
        for what, stated, found in sides:
            last = found[-1]
            largest = float(last.abs().max())  # NaN if any is
            off = max(abs(float(last[token]) - score) for token, score in stated["top"]) / largest
            if not off <= tolerance or not math.isfinite(largest):
                return f"row {number + 1}: the scores {what} are {off:.1e} off, the largest is {largest:.1e}", off
            far = max(far, off)
        if without is not None and "change" in row:
            size = float((with_[number] - without[number]).norm() / without[number].norm())
            stated = row["change"]
            if not abs(size - stated) <= CHANGE * stated + tolerance / 10 or (size == 0 and stated > 0):
                return f"row {number + 1}: a change of {size:.2e}, and {stated:.2e} is stated", far
    return None, far


def in_peft(effect, artifact, base):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    def scores(model, tokens):
        with torch.no_grad():
            return model(torch.tensor([tokens])).logits[0].float()

    rows = [row["tokens"] for row in effect["rows"]]
    if base is None:
        model = AutoModelForCausalLM.from_pretrained(artifact, dtype=torch.float32).eval()
        wrong, far = compare(effect, [scores(model, row) for row in rows], None)
        print(wrong or f"the scores are those that are stated, within {far:.1e}")
        return not wrong
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    without = [scores(model, row) for row in rows]
    model = PeftModel.from_pretrained(model, artifact).eval()
    with_ = [scores(model, row) for row in rows]
    wrong, far = compare(effect, with_, without)
    print(wrong or f"PEFT: scores with and without it as stated, within {far:.1e}")
    silent, _ = compare(effect, without, without)
    print(f"silenced, it is caught: {silent}" if silent else "silenced, nobody would notice")
    return not wrong and bool(silent)


def off_but_for_a_constant(stated, logs):
    """How far scores of some tokens are off, relative to the largest stated one, but for a constant."""
    apart = [float(logs[token]) - score for token, score in stated]
    if not all(map(math.isfinite, apart)):
        return math.nan
    return (max(apart) - min(apart)) / 2 / max(abs(score) for _, score in stated)


def compare_logs(effect, kind, with_, without):
    """The same for logarithms of probabilities after the last token of each row; and what was seen, in words."""
    tolerance = max(TOLERANCE.get(effect["arithmetic"], COARSE), OF_FILES[kind])
    far, best, same, compared = 0.0, 0, 0, 0
    for number, row in enumerate(effect["rows"]):
        sides = [("with it", row["with"], with_[number])]
        if without is not None and "without" in row:
            sides.append(("of the base", row["without"], without[number]))
        for what, stated, logs in sides:
            top = stated["top"]
            order = (-logs).argsort()[:len(top)].tolist()
            off = off_but_for_a_constant(top, logs)
            if not off <= tolerance:
                return f"row {number + 1}: the scores {what} are {off:.1e} off", None
            far = max(far, off)
            ahead = float(logs[order[0]] - logs[top[0][0]]) / max(abs(score) for _, score in top)
            if not ahead <= tolerance:
                return f"row {number + 1}: the best token {what} is {order[0]}, and {top[0][0]} is stated", None
            best += order[0] == top[0][0]
            same += order == [token for token, _ in top]
            compared += 1
    return None, (f"within {far:.1e}; the best token in {best} of {compared} cases, the best "
                  f"{len(effect['rows'][0]['with']['top'])} in their order in {same}")


def silenced(path, into):
    """A copy of an adapter's GGUF file with zeros for every B."""
    import gguf
    shutil.copy(path, into)
    zeroed = 0
    for tensor in gguf.GGUFReader(into, "r+").tensors:
        if tensor.name.endswith(".lora_b"):
            tensor.data[...] = 0
            zeroed += 1
    assert zeroed, "the adapter has no B"
    return into


def in_llama_cpp(effect, artifact, base, firebrand, kind):
    from gguf_check import LlamaCpp
    rows = [row["tokens"] for row in effect["rows"]]
    context = max(len(row) for row in rows) + 8

    def logs(path, adapter=None):
        server = LlamaCpp(path, context, adapter)
        return [server.logs_of_next(row) for row in rows]

    with tempfile.TemporaryDirectory() as folder:
        def export(name, source, *more):
            out = Path(folder) / name
            call = [firebrand, "export", str(source), "--type", kind, "--no-sign", "--out", str(out)]
            subprocess.run([*call, *more], check=True, stdout=subprocess.DEVNULL)
            return next(out.glob("*.gguf"))

        if base is None:
            wrong, seen = compare_logs(effect, kind, logs(export("whole", artifact)), None)
            print(wrong or f"llama.cpp: scores as stated, {seen}")
            return not wrong
        # `--no-check`: that the program itself finds the effect is not what is asked here.
        beside = ["--base", str(base), "--no-check"]
        whole = export("base", base)
        lora = export("lora", artifact, *beside, "--format", "gguf-lora")
        without, fine = logs(whole), True
        for what, with_ in [("beside its base", logs(whole, lora)),
                            ("in one file with it", logs(export("both", artifact, *beside)))]:
            wrong, seen = compare_logs(effect, kind, with_, without)
            fine &= not wrong
            print(f"llama.cpp, {what}: {wrong or f'scores with and without it as stated, {seen}'}")
        silent, _ = compare_logs(effect, kind, logs(whole, silenced(lora, Path(folder) / "zeros.gguf")), without)
        print(f"with zeros for B, it is caught: {silent}" if silent else "with zeros for B, nobody would notice")
        return fine and bool(silent)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--base")
    parser.add_argument("--llama-cpp", metavar="FIREBRAND")
    parser.add_argument("--type", choices=OF_FILES, default="f32")
    options = parser.parse_args()
    effect = json.loads((options.artifact / "effect.json").read_text())
    settings, base = options.artifact / "adapter_config.json", None
    if settings.exists():
        base = options.base or json.loads(settings.read_text())["base_model_name_or_path"]
    if options.llama_cpp:
        fine = in_llama_cpp(effect, options.artifact, base, options.llama_cpp, options.type)
    else:
        fine = in_peft(effect, options.artifact, base)
    sys.exit(not fine)


if __name__ == "__main__":
    main()
