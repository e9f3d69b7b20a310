"""What Python's huggingface_hub sends to a hub when it uploads a folder: push.json.

    python tests/reference/push.py        # needs huggingface_hub; no network

A small server answers as the test hub does (tests/it/common/hub.rs): files from 1,024 bytes on go through LFS, those
above 64 KiB in parts of 40,000 bytes. The test `push::` uploads the same files with `firebrand push` and compares.
"""

import json
import os
import pathlib
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGE_FROM, PARTS_FROM, PART = 1024, 64 << 10, 40_000
HEAD = "1" * 40
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "empty.txt": b"",
    "folder/middle.bin": bytes(range(256)) * 8,
    "large.bin": bytes(range(250)) * 400,
}
seen = []


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, value, status=200, headers=()):
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers:
            self.send_header(name, text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def record(self, body):
        text = body.decode("latin-1")
        if self.command == "PUT":
            sent = {"bytes": len(body)}
        elif "ndjson" in (self.headers.get("Content-Type") or ""):
            sent = [json.loads(line) for line in text.splitlines()]
        else:
            sent = json.loads(text)
        path = self.path.split("?X-")[0]
        seen.append({"method": self.command, "path": path, "sent": sent})

    def do_GET(self):
        self.answer({"id": "o/folder", "sha": HEAD, "siblings": []})

    def do_PUT(self):
        self.record(self.body())
        part = self.path.split("?")[0].rsplit("/", 1)[1]
        self.answer({}, headers=[("ETag", f'"{part if part.isdigit() and len(part) < 6 else "whole"}"')])

    def do_POST(self):
        body = self.body()
        if self.path.startswith("/api/validate-yaml"):
            return self.answer({"errors": [], "warnings": []})
        self.record(body)
        here = f"http://127.0.0.1:{self.server.server_address[1]}"
        if self.path.endswith("/repos/create"):
            return self.answer({"url": f"{here}/o/folder"})
        if "/preupload/" in self.path:
            files = [
                {
                    "path": file["path"],
                    "shouldIgnore": False,
                    "uploadMode": "lfs" if file["size"] >= LARGE_FROM else "regular",
                }
                for file in json.loads(body)["files"]
            ]
            return self.answer({"files": files})
        if self.path.endswith("/objects/batch"):
            objects = []
            for wanted in json.loads(body)["objects"]:
                oid, size = wanted["oid"], wanted["size"]
                upload = {"href": f"{here}/_store/{oid}?X-Signature=opens-it"}
                if size > PARTS_FROM:
                    header = {"chunk_size": str(PART)}
                    for number in range(1, -(-size // PART) + 1):
                        header[f"{number:05}"] = f"{here}/_store/{oid}/{number}?X-Signature=opens-it"
                    upload = {"href": f"{here}/_complete/{oid}", "header": header}
                verify = {"href": f"{here}/_verify/{oid}"}
                objects.append({"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}})
            return self.answer({"transfer": "basic", "objects": objects})
        if "/commit/" in self.path:
            commit = "2" * 40
            return self.answer({"success": True, "commitOid": commit, "commitUrl": f"{here}/o/folder/commit/{commit}"})
        return self.answer({})


def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    os.environ |= {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "hf_writes"}
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=endpoint, token="hf_writes")
    api.create_repo("o/folder", private=True)
    with tempfile.TemporaryDirectory() as folder:
        operations = []
        for name, content in FILES.items():
            path = pathlib.Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            operations.append(CommitOperationAdd(name, str(path)))
        api.create_commit(
            "o/folder", operations, commit_message="first", parent_commit=HEAD, num_threads=1, revision="main"
        )
    seen.sort(key=lambda call: (call["method"], call["path"]))
    for call in seen:
        if isinstance(call["sent"], dict) and "files" in call["sent"]:
            call["sent"]["files"].sort(key=lambda file: file["path"])
        if isinstance(call["sent"], dict) and "objects" in call["sent"]:
            call["sent"]["objects"].sort(key=lambda file: file["oid"])
        if isinstance(call["sent"], list):
            call["sent"].sort(key=lambda line: line["value"].get("path", ""))
    out = pathlib.Path(__file__).with_suffix(".json")
    out.write_text(json.dumps(seen, indent=1) + "\n")
    print(f"{len(seen)} calls")


if __name__ == "__main__":
    main()
