#!/usr/bin/env python3
"""What becomes of other tools' own example configurations. Run by hand.

    import_examples.py FIREBRAND FOLDER...

FOLDERs hold examples of axolotl (`examples/` of its repository), LLaMA-Factory (`examples/` of its
PyPI source package) or TRL. `firebrand import` reads each; every setting of it must be taken over,
or named with a reason. Files that configure no training are counted by what is said of them. Exit
code 1: a file that is neither, or a setting that no table knows without a likely name.
"""
import collections
import re
import subprocess
import sys
from pathlib import Path


def main():
    firebrand, *folders = sys.argv[1:]
    files = sorted(p for folder in folders for p in Path(folder).rglob("*") if p.suffix in (".yml", ".yaml"))
    loads = explained = others = invalid = failed = 0
    reasons, unknown, problems = collections.Counter(), collections.Counter(), collections.Counter()
    for file in files:
        made = subprocess.run([firebrand, "import", str(file)], capture_output=True, text=True)
        if made.returncode == 2 and "not a training configuration" in made.stderr:
            others += 1
            continue
        if made.returncode == 2 and "not valid YAML" in made.stderr:
            invalid += 1
            print(f"{file.name}: {made.stderr.splitlines()[2].strip()}")
            continue
        if made.returncode != 0:
            failed += 1
            print(f"{file}: {made.stderr}")
            continue
        if "does not load yet" in made.stderr:
            explained += 1
            problems[made.stderr.split("does not load yet:\n")[1].splitlines()[0]] += 1
        else:
            loads += 1
        for line in made.stderr.splitlines():
            found = re.match(r"  line \d+, (\w+)[^:]*: .*: (not a setting .*)$", line)
            if found:
                unknown[found[1]] += 1
            elif line.startswith("  line"):
                reasons[line.rsplit(": ", 1)[1]] += 1
    print(f"{len(files)} files: {loads} load, {explained} say what is missing, {others} configure no "
          f"training, {invalid} are not valid YAML, {failed} fail")
    print("what is missing:", *(f"\n  {count} {what}" for what, count in problems.most_common()))
    print("not known:", *(f"\n  {count} {what}" for what, count in unknown.most_common()))
    return 1 if failed or not files else 0


if __name__ == "__main__":
    sys.exit(main())
