#!/usr/bin/env python3
"""Makes the table of `docs/models.md` from results, and keeps the results in `docs/models.json`.

    models_table.py [--tests LOG] [--gguf LOG] [--gguf_lora LOG] [--artifacts LOG] [--speed LOG]
                    [--memory JSON]

LOGs are what these printed: `cargo test --release --test it`, `gguf_check.py families` and `lora`,
`family_artifacts.py`, `benches/peers/run.sh … --only families`; JSON is what `benches/memory.py
--json` wrote. A result that no file is given for stays as it was. A test that passed is kept with
the families that had stored cases then, which those are whose files are older than the LOG: one
that is new has no results yet. `tests/it/models.rs` makes the same table of the same results, and
compares.
"""
import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS, PAGE = ROOT / "docs/models.json", ROOT / "docs/models.md"
# Tests that go through every stored case of a family.
OF_CASES = {
    "logits": "families::logits_losses_and_gradients_are_those_of_transformers_and_peft",
    "gradients": "families::fast_portable_and_recomputed_gradients_are_the_same",
    "steps": "families::steps::twenty_steps_have_the_losses_of_pytorch_and_peft",
    "packed": "families::packed_documents_have_the_logits_of_documents_alone",
    "wgpu": "families::devices::each_family_on_another_device_has_the_gradients_of_the_cpu",
    "texts": "families::texts_written_with_a_cache_are_those_of_transformers_and_those_without",
    "resume": "families::resume::a_run_of_each_family_that_was_stopped_ends_in_the_same_bytes",
}
COLUMNS = ["logits", "gradients", "steps", "packed", "texts", "resume", "wgpu", "PEFT", "merge",
           "GGUF", "GGUF LoRA", "speed", "memory"]


CASES = ROOT / "tests/reference/families"


def case_families():
    """`model_type` by stored case."""
    files = sorted(CASES.glob("*.json"))
    return {file.stem: json.loads(file.read_text())["config"]["model_type"] for file in files}


def text_models():
    """By nested `model_type`: those of its text models, which alone are trained."""
    models = {}
    for file in CASES.glob("*.json"):
        config = json.loads(file.read_text())["config"]
        if "text_config" in config:
            models.setdefault(config["model_type"], set()).add(config["text_config"]["model_type"])
    return models


def tests(path, known):
    """By test that a column relies on: the families whose cases it went through when it passed.
    Those that this log is not of stay, and so does what is known of a family with a case that was
    written after the log."""
    ran = dict(re.findall(r"^test (\S+) \.\.\. (\S+)", path.read_text(), re.M))
    ended = path.stat().st_mtime
    families = case_families()
    newer = {family for case, family in families.items()
             if (CASES / f"{case}.json").stat().st_mtime > ended}
    if newer:
        print(f"newer than {path}, left as they were: {', '.join(sorted(newer))}", file=sys.stderr)
    older = set(families.values()) - newer
    kept = {test: of for test, of in known.items() if test not in ran}
    kept |= {test: sorted(older | newer & set(known.get(test, [])))
             for test, result in ran.items() if result == "ok"}
    return {test: of for test, of in kept.items() if test in OF_CASES.values()}


def family_of(case, families):
    """The family of a case of `gguf_check.py`, of those stored or its own."""
    own, moe = case.removeprefix("gguf-"), "_moe" if "moe" in case else ""
    whole = {"gemma4-unified": "gemma4_unified_text", "granite-swa": "granite_swa",
             f"qwen35{moe.replace('_', '-')}-nested": f"qwen3_5{moe}"}
    first = {"gemma3": "gemma3_text", "gemma4": "gemma4_text", "gpt": "gpt_oss",
             "qwen3": f"qwen3{moe}", "qwen35": f"qwen3_5{moe}_text"}
    start = own.split("-")[0]
    return families.get(case) or whole.get(own) or first.get(start, start)


def counted(what, found):
    """By family: how many were compared, and whether all were the same."""
    families, counts = case_families(), {}
    for case, same in found:
        one = counts.setdefault(family_of(case, families), {what: 0, "same": True})
        one[what] += 1
        one["same"] &= same
    return counts


def gguf(log):
    results = re.findall(r"^(\S+): (same|'.*' but)", log, re.M)
    return counted("texts", [(case, result == "same") for case, result in results])


def gguf_lora(log):
    results = re.findall(r"^(\S+): (?:same text|OTHER TEXT), .*?( DIFFERS)?$", log, re.M)
    counts, families = counted("models", [(case, not differs) for case, differs in results]), case_families()
    for case in re.findall(r"^(\S+): (?:base|both|lora) refused: ", log, re.M):
        one = counts.setdefault(family_of(case, families), {"models": 0, "same": True})
        one["refused"] = one.get("refused", 0) + 1
    return counts


def artifacts(log):
    """Families whose adapter PEFT loads, and whose merged model transformers does."""
    return sorted(set(re.findall(r"^(\w+) +\d+ tensors .* texts are the same$", log, re.M)))


def speed(log):
    """By family: how many times as fast, and the share of memory."""
    row = r"^\| `(\w+)` \| [^|]*\| [^|]*\| [^|]*\| ([\d.]+) \| [^|]*\| ([\d.]+) "
    rows = re.findall(row, log, re.M)
    return {family: {"ratio": float(ratio), "memory": float(memory)}
            for family, ratio, memory in rows}


def memory(lines):
    """By family: the least and the largest share of the peak that was planned."""
    found = {}
    for line in lines:
        share = round(line["planned"] / line["peak"], 2)
        low, high = found.get(line["family"], (share, share))
        found[line["family"]] = (min(low, share), max(high, share))
    return {family: list(both) for family, both in found.items()}


def cell(column, family, results):
    if column in OF_CASES:
        return "yes" if family in results.get("tests", {}).get(OF_CASES[column], []) else ""
    if column in ("PEFT", "merge"):
        return "yes" if family in results.get("artifacts", []) else ""
    if column == "GGUF":
        found = results.get("gguf", {}).get(family)
        return f"{found['texts']} texts" if found and found["same"] else ""
    if column == "GGUF LoRA":
        found = results.get("gguf_lora", {}).get(family)
        if not found or not found["same"] or not found["models"]:
            return ""
        refused = found.get("refused", 0)
        return f"{found['models']} of {found['models'] + refused} models" if refused else "yes"
    found = results.get(column, {}).get(family)
    if found:
        return (f"{found['ratio']:.2f}" if column == "speed" else f"{found[0]:.2f} to {found[1]:.2f}")
    texts = [text for text in sorted(text_models().get(family, [])) if text in results.get(column, {})]
    return f"as `{'`, `'.join(texts)}`" if texts else ""


def table(results):
    lines = ["| `model_type` | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for family in sorted(set(case_families().values())):
        cells = [cell(column, family, results) for column in COLUMNS]
        lines.append(f"| `{family}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    for name in ("tests", "gguf", "gguf_lora", "artifacts", "speed", "memory"):
        parser.add_argument(f"--{name}")
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if options.tests:
        results["tests"] = tests(Path(options.tests), results.get("tests", {}))
    logs = {"gguf": gguf, "gguf_lora": gguf_lora, "artifacts": artifacts, "speed": speed}
    for name, read in logs.items():
        if getattr(options, name):
            found = read(Path(getattr(options, name)).read_text())
            known = results.get(name)
            # A log may be of some families.
            results[name] = ({**known, **found} if isinstance(known, dict)
                             else sorted({*(known or []), *found}) if isinstance(found, list) else found)
    if options.memory:
        found = memory(json.loads(Path(options.memory).read_text()))
        results["memory"] = {**results.get("memory", {}), **found}
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    page = PAGE.read_text()
    begin, end = "<!-- table -->\n", "<!-- end of table -->\n"
    before, rest = page.split(begin)
    after = rest.split(end)[1]
    PAGE.write_text(before + begin + table(results) + end + after)


if __name__ == "__main__":
    main()
