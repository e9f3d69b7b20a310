"""What the logs of runs say: parity, a soak, speed, first steps. Needs nothing but Python.

runs.py parity METRICS REFERENCE LIMIT   losses differ by at most LIMIT, relative
runs.py soak METRICS TIMINGS             every loss is a number, and memory stays flat
runs.py speed NAME METRICS TIMINGS       tokens a second, the first steps left out
runs.py first COLD WARM                  seconds of compiling, as the logs of two runs say
"""

import json
import math
import re
import statistics
import sys


def lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def fail(what):
    sys.exit(f"FAILED: {what}")


def parity(ours, reference, limit):
    ours, reference = lines(ours), lines(reference)
    if len(ours) != len(reference):
        fail(f"{len(ours)} steps and {len(reference)}")
    most = max(abs(a["loss"] / b["loss"] - 1) for a, b in zip(ours, reference))
    for a, b in zip(ours, reference):
        if (a["tokens"], a["learning_rate"]) != (b["tokens"], b["learning_rate"]):
            fail(f"step {a['step']} had other tokens")
    print(f"{len(ours)} losses differ by at most {most:.1e} (allowed {float(limit):.0e})")
    if not most <= float(limit):
        fail("the losses are not those of the reference")


def soak(metrics, timings):
    steps, costs = lines(metrics), lines(timings)
    wrong = [s["step"] for s in steps if s["loss"] is None or not math.isfinite(s["loss"])]
    if wrong:
        fail(f"no number at step {wrong[0]}")
    skipped = sum(bool(s.get("skipped")) for s in steps)
    # The first quarter fills pools. From there on a device may not hold a hundredth more, and the
    # program not a twentieth: it compiles a kernel whenever a new size comes.
    quarter = len(costs) // 4
    said = []
    for key, share, slack in (("device_bytes_reserved", 1.01, 4e6), ("memory_bytes", 1.05, 16e6)):
        values = [c[key] for c in costs if c.get(key) is not None][quarter:]
        if not values:
            continue
        half = len(values) // 2
        early, late = statistics.median(values[:half]), statistics.median(values[half:])
        said.append(f"{key} {early / 1e6:.0f} then {late / 1e6:.0f} MB")
        if late > share * early + slack:
            fail(f"memory grows: {said[-1]}")
    print(f"{len(steps)} steps, {skipped} skipped, {', '.join(said)}")


def speed(name, metrics, timings):
    pairs = list(zip(lines(metrics), lines(timings)))
    pairs = pairs[len(pairs) // 4 :]
    tokens = sum(step["tokens"] for step, _ in pairs)
    seconds = sum(cost["step_seconds"] for _, cost in pairs)
    print(json.dumps({"tool": name, "tokens_per_second": round(tokens / seconds, 1)}))


def first(cold, warm):
    def seconds(log):
        with open(log, encoding="utf-8") as file:
            found = re.findall(r"compiling kernels for .* took ([0-9.]+) s", file.read())
        if not found:
            fail(f"{log} tells of no kernels that were compiled")
        return sum(map(float, found))

    print(f"compiling kernels took {seconds(cold):.1f} s cold, {seconds(warm):.1f} s warm")


if __name__ == "__main__":
    kinds = {"parity": parity, "soak": soak, "speed": speed, "first": first}
    if len(sys.argv) < 3 or sys.argv[1] not in kinds:
        sys.exit(__doc__)
    kinds[sys.argv[1]](*sys.argv[2:])
