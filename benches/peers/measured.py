"""Runs `firebrand data --digest --json` and prints its line with time, processor and memory added.

measured.py TOOL COMMAND [ARG ...]: one JSON line with the keys of data_stream.py.
"""

import json
import resource
import subprocess
import sys
import time

began = time.perf_counter()
run = subprocess.run(sys.argv[2:], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
seconds = time.perf_counter() - began
line = json.loads(run.stdout)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({
    "tool": sys.argv[1],
    "rows": line["rows"],
    "tokens": line["tokens"],
    "seconds": round(seconds, 3),
    # The whole process counts: start, tokenizer, reading, packing.
    "tokens_per_second": round(line["tokens"] / seconds),
    "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
    "first_row_seconds": round(line["first_seconds"], 3),
    "first_row_from_start_seconds": round(line["first_seconds"], 3),
    "peak_mib": round(usage.ru_maxrss / 1024),
}))
