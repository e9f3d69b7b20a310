#!/usr/bin/env bash
# Instructions of the small kernels, the packer and the order of the data, counted by Callgrind
# (Debian: package valgrind), beside those written down in instructions.txt:
#
#   instructions.sh [--write]
#
# Each operation runs 4 and 24 times; a twentieth of the difference is one of it. The counter does
# not know AVX-512: these are the AVX2 forms of the kernels, wherever it runs. More than 2 % above
# what is written down is an error; --write writes down what was counted.
set -euo pipefail
cd "$(dirname "$0")/.."
list=benches/instructions.txt
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
program="$(cargo bench --bench instructions --no-run --message-format json 2>/dev/null |
    sed -n 's/.*"name":"instructions".*"executable":"\([^"]*\)".*/\1/p' | tail -1)"

count() {
    valgrind --tool=callgrind --callgrind-out-file="$folder/out" "$program" "$1" "$2" \
        >/dev/null 2>"$folder/err" || { cat "$folder/err" >&2; exit 1; }
    sed -n 's/^.*Collected : \([0-9]*\).*/\1/p' "$folder/err"
}

printf '%-20s %12s %12s %8s\n' operation counted before change
"$program" | while read -r name; do
    counted=$((($(count "$name" 24) - $(count "$name" 4)) / 20))
    echo "$name $counted" >>"$folder/new"
    before="$(awk -v name="$name" '$1 == name { print $2 }' "$list" 2>/dev/null || true)"
    awk -v name="$name" -v now="$counted" -v before="${before:-0}" 'BEGIN {
        change = before > 0 ? (now / before - 1) * 100 : 0
        printf "%-20s %12d %12d %+7.2f%%\n", name, now, before, change
        exit before > 0 && change > 2
    }' || touch "$folder/worse"
done
if [ "${1:-}" = --write ]; then
    cp "$folder/new" "$list"
elif [ -e "$folder/worse" ]; then
    echo "more instructions than written down in $list" >&2
    exit 1
fi
