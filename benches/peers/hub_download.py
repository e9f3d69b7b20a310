#!/usr/bin/env python3
"""Downloads one large file from a hub on this machine with firebrand, huggingface_hub and curl in
turn, and prints the speed of each.

    cargo build --release --example pull
    python3 -m venv v && v/bin/pip install huggingface_hub==2.4.0
    v/bin/python benches/peers/hub_download.py --pull TARGET/release/examples/pull

firebrand checks SHA-256 and syncs the file to the disk; huggingface_hub checks its size; curl
checks nothing. Each starts from an empty cache in every round; the time is that of the download
alone, measured inside each program, without its start (curl: its own `time_total`).
`--hub SCRIPT` takes another server: it is called with a folder that holds models/o/n/main/FILE and
prints `LISTENING http://...`.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = "model.safetensors"


def serve(folder):
    """The least that a client needs of a hub: hub and store on two ports, sendfile for the body."""
    path = os.path.join(folder, "models/o/n/main", NAME)
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
    blob = f"blob {len(pointer)}\0{pointer}".encode()
    commit = "c" * 40
    entry = {
        "type": "file", "path": NAME, "size": size, "oid": hashlib.sha1(blob).hexdigest(),
        "lfs": {"oid": sha256, "size": size, "pointerSize": len(pointer)},
    }
    store = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def head(self, status, length, **headers):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(length))
            self.end_headers()

        def do_GET(self):
            if self.path.startswith("/_cdn/"):
                self.head(200, size, ETag=f'"{sha256}"')
                if self.command == "GET":
                    self.wfile.flush()
                    with open(path, "rb") as file:
                        self.connection.sendfile(file)
            elif "/resolve/" in self.path:
                self.head(
                    302, 0, X_Repo_Commit=commit, X_Linked_Etag=f'"{sha256}"', ETag=f'"{sha256}"',
                    X_Linked_Size=str(size), Location=f"{store[0]}/_cdn/{sha256}",
                )
            else:
                what = [entry] if "/tree/" in self.path else {"id": "o/n", "sha": commit}
                body = json.dumps(what).encode()
                self.head(200, len(body), Content_Type="application/json")
                self.wfile.write(body)

        do_HEAD = do_GET

    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(2)]
    addresses = [f"http://127.0.0.1:{server.server_address[1]}" for server in servers]
    store.append(addresses[1])
    print(f"LISTENING {addresses[0]}", flush=True)
    threading.Thread(target=servers[1].serve_forever, daemon=True).start()
    servers[0].serve_forever()


PYTHON = """
import json, sys, time
from huggingface_hub import hf_hub_download
begun = time.perf_counter()
path = hf_hub_download("o/n", sys.argv[1])
print(json.dumps({"seconds": time.perf_counter() - begun, "path": path}))
"""


def firebrand(endpoint, environment, options):
    command = [options.pull, "dataset" if options.dataset else "model", "o/n"]
    lines = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    lines = [json.loads(line) for line in lines.stdout.splitlines()]
    return next(line for line in lines if line["path"].endswith(NAME))["seconds"]


def huggingface_hub(endpoint, environment, options):
    command = [sys.executable, "-c", PYTHON, NAME]
    environment = environment | {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1"}
    result = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(result.stdout)["seconds"]


def curl(endpoint, environment, options):
    target = os.path.join(environment["HF_HOME"], "curl")
    url = f"{endpoint}/o/n/resolve/main/{NAME}"
    command = ["curl", "-sSfL", "--noproxy", "*", "-o", target, "-w", "%{time_total}", url]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pull", required=True, help="the built example `pull`")
    parser.add_argument("--hub", help="another server's script")
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="where the caches are made; decides which disk is used")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve)

    folder = tempfile.mkdtemp(dir=options.folder)
    source = os.path.join(folder, "source", "models/o/n/main")
    os.makedirs(source)
    with open(os.path.join(source, NAME), "wb") as file:
        for _ in range(options.megabytes):
            file.write(os.urandom(1_000_000))
    for name in ["config.json", "tokenizer.json"]:
        if options.hub:
            with open(os.path.join(source, name), "w") as file:
                file.write("{}")
    options.dataset = False
    script = [options.hub] if options.hub else [__file__, "--pull", "-", "--serve"]
    root = os.path.join(folder, "source")
    if not options.hub:
        # The built-in server lists one file only, which no model has: ask for all of them.
        options.dataset = True
    server = subprocess.Popen([sys.executable, *script, root], stdout=subprocess.PIPE, text=True)
    try:
        endpoint = server.stdout.readline().split()[1]
        tools = {"firebrand": firebrand, "huggingface_hub": huggingface_hub, "curl": curl}
        speeds = {name: [] for name in tools}
        for number in range(-1, options.rounds):  # the first round warms up and does not count
            for name, tool in tools.items():
                home = os.path.join(folder, "home")
                os.makedirs(home)
                environment = {
                    key: value for key, value in os.environ.items() if not key.startswith("HF_")
                } | {"HF_HOME": home, "HF_ENDPOINT": endpoint, "FIREBRAND_CACHE": home}
                seconds = tool(endpoint, environment, options)
                shutil.rmtree(home)
                if number >= 0:
                    speeds[name].append(options.megabytes / seconds)
        load = os.getloadavg()[0]
        for name, values in speeds.items():
            middle = statistics.median(values)
            ratio = middle / statistics.median(speeds["huggingface_hub"])
            print(
                f"{name:16} {middle:6.0f} MB/s (from {min(values):.0f} to {max(values):.0f}), "
                f"{ratio:.2f} x huggingface_hub; load {load:.1f}"
            )
    finally:
        server.kill()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
