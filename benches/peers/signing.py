#!/usr/bin/env python3
"""Signs and verifies 1 GiB in 4 files: ours beside model-signing, and beside plain sha2.

    cargo build --release && cargo bench --no-run
    pip install model-signing==1.1.1 pyOpenSSL
    benches/peers/signing.py --firebrand target/release/firebrand --sha2 target/release/deps/sha2-*
        [--rounds 7] [--mebibytes 1024] [--folder DIR]

Rounds in turn, the files in the page cache; wall and processor seconds, medians with least and
most, and the ratio to plain sha2 of the same round.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def measure(command):
    began = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - began
    child.returncode = status
    if status != 0:
        sys.exit(f"{command} failed")
    return wall, usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--firebrand", required=True)
    parser.add_argument("--sha2", required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        root = Path(folder)
        model = root / "model"
        model.mkdir()
        files = [model / f"part-{number}.bin" for number in range(4)]
        for path in files:
            with open(path, "wb") as out:
                for _ in range(arguments.mebibytes // 4):
                    out.write(os.urandom(1 << 20))
        key, public = root / "release.pem", root / "release.pub.pem"
        measure([arguments.firebrand, "keygen", str(key)])
        theirs = [sys.executable, "-m", "model_signing"]
        other = str(root / "theirs.sig")
        ours = str(root / "ours.sig")
        commands = {
            "sha2": [arguments.sha2, *map(str, files)],
            "firebrand sign": [arguments.firebrand, "sign", "--force", "--key", str(key), str(model)],
            "firebrand verify": [arguments.firebrand, "verify", "--key", str(public), str(model)],
            "model_signing sign": [*theirs, "sign", "key", str(model), "--signature", other,
                                   "--private_key", str(key), "--ignore-paths",
                                   str(model / "model.sig")],
            "model_signing verify": [*theirs, "verify", "key", str(model), "--signature", other,
                                     "--public_key", str(public), "--ignore-paths",
                                     str(model / "model.sig")],
            "model_signing verifies ours": [*theirs, "verify", "key", str(model), "--signature",
                                            ours, "--public_key", str(public)],
        }
        measured = {name: [] for name in commands}
        for round_ in range(arguments.rounds + 1):
            for name, command in commands.items():
                if name.endswith("ours"):
                    (root / "ours.sig").write_bytes((model / "model.sig").read_bytes())
                found = measure(command)
                if round_ > 0:  # the first one fills the caches
                    measured[name].append(found)
    print(f"{arguments.mebibytes} MiB in 4 files, {os.cpu_count()} processors, "
          f"load {os.getloadavg()[0]:.1f}, {arguments.rounds} rounds")
    print(f"{'':<28} {'wall s':>22} {'CPU s':>7} {'wall / sha2':>12} {'CPU / sha2':>11}")
    for name, found in measured.items():
        wall = [it[0] for it in found]
        ratios = [statistics.median(a[part] / b[part] for a, b in zip(found, measured["sha2"]))
                  for part in (0, 1)]
        spread = f"{statistics.median(wall):.3f} ({min(wall):.3f}, {max(wall):.3f})"
        cpu = statistics.median(it[1] for it in found)
        print(f"{name:<28} {spread:>22} {cpu:>7.3f} {ratios[0]:>12.2f} {ratios[1]:>11.2f}")


main()
