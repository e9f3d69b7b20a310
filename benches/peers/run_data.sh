#!/usr/bin/env bash
# Records to packed rows, ours and theirs in turn: run_data.sh MODEL_DIR [MEGABYTES] [ROUNDS]
#
# Environment: VENV (peers/.venv), FIREBRAND (the program), SHAPE (messages or text), THREADS,
# PEERS (which of theirs).
# Every run is printed as one JSON line; medians and ratios come last.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
model="$(cd "$1" && pwd)"
megabytes="${2:-32}"
rounds="${3:-5}"
shape="${SHAPE:-messages}"
python="${VENV:-$here/.venv}/bin/python"
target="${CARGO_TARGET_DIR:-$here/../../target}/release"
firebrand="${FIREBRAND:-$target/firebrand}"
export RAYON_NUM_THREADS="${THREADS:-$(nproc)}"
export TOKENIZERS_PARALLELISM=true

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
records="$work/records.jsonl"
"$target/examples/make_datasets" "$shape" "$megabytes" "$records"
sha256sum "$records" | cut -d ' ' -f 1

cat >"$work/ours.toml" <<TOML
[model]
base = "$model"
init = "random" # only the tokenizer is needed

[data]
max_seq_len = 2048

[[data.train]]
path = "$records"

[train]
epochs = 1
TOML

# Prints one JSON line with the keys of data_stream.py. `cold` tokenises, as the others do in
# every run; `warm` reads what a run before it has kept.
ours() {
    if [ "$1" = cold ]; then rm -rf "$work/cache/examples"; fi
    FIREBRAND_CACHE="$work/cache" "$python" "$here/measured.py" "firebrand, $1" \
        "$firebrand" data "$work/ours.toml" --count --json --rows 0 --offline
}

theirs() {
    "$python" "$here/data_stream.py" "$model" "$records" "$@" 2>"$work/errors" ||
        { cat "$work/errors" >&2; return 1; }
}

# The same number of tokens on both sides, in a run that is not timed; it warms the page cache too.
theirs --digest | tee "$work/digests"
ours cold | tee -a "$work/digests"

variants=("" "--raw")
if [ "$shape" = messages ]; then variants+=("--mask"); fi
# PEERS names them, separated by `;`: "--mask", or "--mask;--mask --procs 2".
if [ -n "${PEERS:-}" ]; then IFS=';' read -r -a variants <<<"$PEERS"; fi
for round in $(seq "$rounds"); do
    echo "round $round, load average $(cut -d ' ' -f 1-3 /proc/loadavg 2>/dev/null || uptime)"
    for state in cold warm; do
        ours "$state" | tee -a "$work/runs"
    done
    for variant in "${variants[@]}"; do
        # shellcheck disable=SC2086 # an empty variant is no argument
        theirs $variant | tee -a "$work/runs"
    done
done

"$python" - "$work/runs" <<'PYTHON'
import json, statistics, sys
runs = {}
for line in open(sys.argv[1]):
    run = json.loads(line)
    runs.setdefault((run["tool"], bool(run.get("mask"))), []).append(run)
median = {key: statistics.median(run["tokens_per_second"] for run in all) for key, all in runs.items()}
ours = median[("firebrand, cold", False)]
print("| | tokens/s, median (least, most) | tokens per CPU second | first row, s | "
      "from start, s | peak MiB | ours is |")
print("|---|---|---|---|---|---|---|")
for (tool, mask), all in runs.items():
    speeds = [run["tokens_per_second"] for run in all]
    middle = lambda key: statistics.median(run[key] for run in all)
    per_cpu = statistics.median(run["tokens"] / run["cpu_seconds"] for run in all)
    ratio = f"{ours / median[tool, mask]:.1f} times as fast"
    print(f"| {tool}{', with mask' if mask else ''} | {median[tool, mask]:,.0f} ({min(speeds):,}, "
          f"{max(speeds):,}) | {per_cpu:,.0f} | {middle('first_row_seconds'):.2f} | "
          f"{middle('first_row_from_start_seconds'):.2f} | {middle('peak_mib'):.0f} | {ratio} |")
PYTHON
