#!/usr/bin/env bash
# Unit tests of the products of matrices, compiled for AArch64 and run by qemu's emulator: about ten
# minutes. Right results are tested; how fast they are on such a processor is not known.
# Needs `rustup target add aarch64-unknown-linux-gnu`, and of Debian's packages `qemu-user` and
# `gcc-aarch64-linux-gnu`.
set -euo pipefail
cd "$(dirname "$0")"
for program in qemu-aarch64 aarch64-linux-gnu-gcc; do
    command -v "$program" >/dev/null || { echo "there is no $program here" >&2; exit 2; }
done
export CARGO_TARGET_DIR="${XDG_CACHE_HOME:-$HOME/.cache}/firebrand/aarch64"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu"
cargo test --release --target aarch64-unknown-linux-gnu "$@"
