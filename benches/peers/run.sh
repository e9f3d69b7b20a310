#!/usr/bin/env bash
# The training step beside PyTorch + PEFT and TRL on the CPU, in turn:
# run.sh MODEL_DIR [ROUNDS]. Needs `cargo build --release` and the example `make_datasets`.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
model="$(cd "$1" && pwd)"
folder="$here/.venv-train"
if [ ! -x "$folder/bin/python" ]; then
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet torch==2.15.0 transformers==5.24.0 peft==0.21.2 \
        trl==1.16.0 datasets==5.2.0
fi
target="${CARGO_TARGET_DIR:-$here/../../target}/release"
export HF_HUB_OFFLINE=1
exec "$folder/bin/python" "$here/steps.py" --python "$folder/bin/python" \
    --firebrand "$target/firebrand" --records "$target/examples/make_datasets" \
    --model "$model" --rounds "${2:-3}" "${@:3}"
