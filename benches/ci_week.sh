#!/usr/bin/env bash
# A week of a CI that trains every night, with steps reused and from zero: ci_week.sh [CONFIG]
#
# Seven runs, each in a run directory of its own, as on a machine that is thrown away after each
# night and keeps only the cache: new data, three nights with nothing changed, two with more steps,
# one that is interrupted at 70 % and started again. CPU seconds (user and system) of both ways,
# night by night in turn, and whether both made the same weights.
#
# Environment: FIREBRAND (the program), FIRST=unchanged lets the week begin in the middle of the
# life of its data: one more run from zero before the new data comes.
set -euo pipefail
here="$(cd "$(dirname "$0")/.." && pwd)"
config="${1:-$here/configs/quickstart.toml}"
firebrand="${FIREBRAND:-${CARGO_TARGET_DIR:-$here/target}/release/firebrand}"
steps="${STEPS:-200}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export FIREBRAND_CACHE="$work/cache" XDG_CONFIG_HOME="$work/settings"
cd "$here"
# A warm-up that is a share of all steps differs from the first step on when there are more steps.
sed 's/^warmup_ratio = .*/warmup_steps = 10/' "$config" >"$work/week.toml"
config="$work/week.toml"
"$firebrand" keygen >/dev/null 2>&1 || true

# name, steps, seed of the data's order (another one stands for other data), interrupted after
nights=()
if [ "${FIRST:-new}" = unchanged ]; then
    nights+=("unchanged $steps 1 0" "unchanged $steps 1 0" "new-data $steps 2 0")
else
    nights+=("new-data $steps 1 0" "unchanged $steps 1 0" "unchanged $steps 1 0")
fi
seed="$(cut -d ' ' -f 3 <<<"${nights[2]}")"
more=$((steps * 5 / 4)) most=$((steps * 3 / 2))
nights+=("more-steps $more $seed 0" "interrupted $most $seed $((most * 7 / 10))"
    "more-steps $((most * 5 / 4)) $seed 0" "unchanged $((most * 5 / 4)) $seed 0")

cpu() { # seconds of a command
    local TIMEFORMAT='%U %S'
    { time "$@" >/dev/null 2>"$work/said" || { cat "$work/said" >&2; exit 1; }; } 2>&1 |
        awk '{ print $1 + $2 }'
}

night() { # way, number, steps, seed, interrupted after
    local set=(--quiet --set "output.dir=$work/$1-$2" --set "train.max_steps=$3" --set "seed=$4"
        --set train.lr_scheduler=wsd --set train.decay_ratio=0.1
        --set "checkpoint.reuse=$1" --set checkpoint.every_steps=20)
    local total=0
    if [ "$5" -gt 0 ]; then
        total="$(cpu "$firebrand" train "$config" "${set[@]}" --stop-after-steps "$5")"
        rm -rf "${work:?}/$1-$2"
    fi
    awk -v a="$total" -v b="$(cpu "$firebrand" train "$config" "${set[@]}")" 'BEGIN { print a + b }'
}

echo "| night | steps | from zero, CPU s | reused, CPU s | same weights |"
echo "|---|---|---|---|---|"
zero_all=0 reuse_all=0 number=0
for line in "${nights[@]}"; do
    read -r name count seed cut <<<"$line"
    number=$((number + 1))
    zero="$(night never "$number" "$count" "$seed" "$cut")"
    reuse="$(night auto "$number" "$count" "$seed" "$cut")"
    same=yes
    for way in never auto; do
        sha256sum "$work/$way-$number"/step-*/model.safetensors 2>/dev/null |
            cut -d ' ' -f 1 >"$work/$way.sha" || true
        sha256sum "$work/$way-$number"/step-*/adapter.safetensors 2>/dev/null |
            cut -d ' ' -f 1 >>"$work/$way.sha" || true
        tail -n 1 "$work/$way.sha" >"$work/$way.last"
    done
    cmp -s "$work/never.last" "$work/auto.last" || same=NO
    echo "| $name | $count | $zero | $reuse | $same |"
    zero_all="$(awk -v a="$zero_all" -v b="$zero" 'BEGIN { print a + b }')"
    reuse_all="$(awk -v a="$reuse_all" -v b="$reuse" 'BEGIN { print a + b }')"
done
awk -v z="$zero_all" -v r="$reuse_all" \
    'BEGIN { printf "| week | | %.1f | %.1f (%.0f %%) | |\n", z, r, 100 * r / z }'
