#!/usr/bin/env bash
# What a machine with a GPU has to show: gpu.sh [FOLDER FOR RESULTS]
#
#   1  every operation and a LoRA step against the CPU (`firebrand doctor`), and what the card is
#   2  losses of 20 LoRA steps against those of the CPU, in f32 and in the precision of `auto`
#   3  a soak of 500 steps: memory stays flat, every loss is a number
#   4  tokens/s at rows of 512 and 2048 tokens, beside PyTorch + PEFT in bf16 where that is there
#   5  what compiling kernels costs before the first step, cold and with those that were kept
#
# Nothing is downloaded but the model that CONFIG names, if it is not in the cache. Results are
# JSON and text in the folder (./gpu-results), the summary goes to stdout.
#
# Environment: FIREBRAND (the program), DEVICE (gpu), CONFIG (configs/smollm2-lora.toml), SETTINGS
# (more of them, as KEY=VALUE, for parts 2, 3 and 5), PARITY (20 steps), SOAK (500 steps), SPEED (40
# steps), LENGTHS ("512 2048"), PYTHON (with torch, transformers and peft; left out where it has
# none).
set -euo pipefail
here="$(cd "$(dirname "$0")/.." && pwd)"
out="$(mkdir -p "${1:-gpu-results}" && cd "${1:-gpu-results}" && pwd)"
firebrand="${FIREBRAND:-${CARGO_TARGET_DIR:-$here/target}/release/firebrand}"
device="${DEVICE:-gpu}" config="${CONFIG:-configs/smollm2-lora.toml}"
parity="${PARITY:-20}" soak="${SOAK:-500}" speed="${SPEED:-40}" lengths="${LENGTHS:-512 2048}"
python="${PYTHON:-python3}" look="$here/benches/peers/runs.py"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export XDG_CONFIG_HOME="$work/settings" FIREBRAND_CACHE="$work/cache"
cd "$here"

run() { # NAME DEVICE PRECISION STEPS [SETTING…]: trains; its metrics and timings go to the results
    local name="$1" on="$2" precision="$3" steps="$4"
    shift 4
    local more=()
    for setting in ${SETTINGS:-} "$@"; do more+=(--set "$setting"); done
    "$firebrand" train "$config" --resume never \
        --set "name=$name" --set "output.dir=$work/$name" --set output.sign=false \
        --set "device.name=$on" --set "train.precision=$precision" \
        --set "train.max_steps=$steps" --set 'eval.prompts=[]' --set 'data.validation=[]' \
        --set checkpoint.every_steps=0 --set checkpoint.reuse=never \
        ${more[@]+"${more[@]}"} >/dev/null 2>"$out/$name.log" ||
        { tail -n 20 "$out/$name.log" >&2; exit 1; }
    cp "$work/$name/metrics.jsonl" "$out/$name.metrics.jsonl"
    cp "$work/$name/timings.jsonl" "$out/$name.timings.jsonl"
}

echo "== 1: doctor"
"$firebrand" devices | tee "$out/devices.txt"
"$firebrand" doctor --device "$device" --checkpoints "$work" >"$out/doctor.txt" && right=yes || right=no
"$firebrand" doctor --device "$device" --checkpoints "$work" --json >"$out/doctor.json" || true
tail -n 1 "$out/doctor.txt"
[ "$right" = yes ] || { echo "the device computes wrong: see $out/doctor.txt" >&2; exit 1; }

echo "== 2: $parity steps against the CPU"
run parity-cpu cpu f32 "$parity"
run parity-f32 "$device" f32 "$parity"
run parity-auto "$device" auto "$parity"
"$python" "$look" parity "$out/parity-f32.metrics.jsonl" "$out/parity-cpu.metrics.jsonl" 1e-3
"$python" "$look" parity "$out/parity-auto.metrics.jsonl" "$out/parity-cpu.metrics.jsonl" 3e-2

echo "== 3: $soak steps"
run soak "$device" auto "$soak"
"$python" "$look" soak "$out/soak.metrics.jsonl" "$out/soak.timings.jsonl"

echo "== 4: speed"
for length in $lengths; do
    run "speed-$length" "$device" auto "$speed" "data.max_seq_len=$length" \
        train.micro_batch_size=4 train.gradient_accumulation_steps=1
    "$python" "$look" speed "firebrand, rows of $length" \
        "$out/speed-$length.metrics.jsonl" "$out/speed-$length.timings.jsonl"
    if "$python" -c 'import torch, peft; assert torch.cuda.is_available()' 2>/dev/null; then
        # The same rows, in the same order.
        { "$firebrand" data "$config" --json --set "data.max_seq_len=$length" \
            --set train.micro_batch_size=4 --set train.gradient_accumulation_steps=1 \
            --set "train.max_steps=$speed" 2>/dev/null || true; } |
            head -n "$speed" >"$work/batches.jsonl"
        "$python" benches/peers/peft_lora.py "$work/batches.jsonl" "$config" |
            tee "$out/peft-$length.json"
    else
        echo "PyTorch with CUDA and PEFT is not here: no peer to compare with"
    fi
done

echo "== 5: compiling kernels, cold and warm"
# Drivers that can be told keep them here; others are as warm as the parts above have made them.
rm -rf "$FIREBRAND_CACHE/kernels"
run first-cold "$device" auto 3
run first-warm "$device" auto 3
"$python" "$look" first "$out/first-cold.log" "$out/first-warm.log"
echo "results are in $out"
