"""Writes tests/fixtures/ci-schemas: the official schemas of CI files, without their prose.

    pip install check-jsonschema==0.39.0 kubernetes-validate==1.37.0
    python tests/reference/ci_schemas.py

GitHub's and GitLab's are those of SchemaStore as check-jsonschema carries them; Kubernetes' is the
OpenAPI definition of version 1.37, strict, as kubernetes-validate carries it. All three are under
the Apache License 2.0. With `--check`, the files of examples/ci are checked with the unabridged
schemas by those two programs instead.
"""

import json
import pathlib
import subprocess
import sys

import check_jsonschema
import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
VENDOR = pathlib.Path(check_jsonschema.__file__).parent / "builtin_schemas/vendor"
CLUSTER = pathlib.Path(kubernetes_validate.__file__).parent
CLUSTER = CLUSTER / "kubernetes-json-schema/v1.37.0-local-strict"
KINDS = ["job-batch-v1", "cronjob-batch-v1", "persistentvolumeclaim-v1", "configmap-v1"]
PROSE = {
    "description", "markdownDescription", "title", "examples", "default", "deprecationMessage",
    "enumDescriptions", "markdownEnumDescriptions", "$comment",
    "x-intellij-html-description",
}
BOOK = "/api/_definitions.json#/$defs/"
NAMES = {"properties", "patternProperties", "definitions", "$defs"}


def plain(value, names=False):
    """Without prose; `names` are keys that the schema speaks of."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if names or not (k in PROSE or k.startswith("x-"))}
        return {k: plain(v, not names and k in NAMES) for k, v in kept.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def kubernetes():
    """The kinds that are used, with all that they refer to, in one file."""
    read = lambda name: json.loads((CLUSTER / f"{name}.json").read_text())
    text = lambda value: json.dumps(plain(value)).replace(BOOK, "#/$defs/")
    book = {name: text(it) for name, it in read("_definitions")["$defs"].items()}
    roots = [text(read(kind)) for kind in KINDS]
    wanted, left = set(), list(roots)
    while left:
        for part in left.pop().split('"#/$defs/')[1:]:
            name = part.split('"')[0]
            if name not in wanted:
                wanted.add(name)
                left.append(book[name])
    whole = [json.loads(root) for root in roots]
    for root in whole:
        root.pop("$schema", None)
        root.pop("$id", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "oneOf": whole,
        "$defs": {name: json.loads(book[name]) for name in sorted(wanted)},
    }


def main():
    if "--check" in sys.argv:
        return check()
    out = ROOT / "tests/fixtures/ci-schemas"
    out.mkdir(exist_ok=True)
    files = {
        "github-workflow": plain(json.loads((VENDOR / "github-workflows.json").read_text())),
        "gitlab-ci": plain(json.loads((VENDOR / "gitlab-ci.json").read_text())),
        "kubernetes": kubernetes(),
    }
    for name, schema in files.items():
        text = json.dumps(schema, separators=(",", ":"))
        (out / f"{name}.json").write_text(text + "\n")
        print(name, len(text), "bytes")


def check():
    folder = ROOT / "examples/ci"
    program = [sys.executable, "-m", "check_jsonschema"]
    github = sorted(str(path) for path in folder.glob("github-*.yml"))
    calls = [
        program + ["--builtin-schema", "vendor.github-workflows", *github],
        program + ["--builtin-schema", "vendor.gitlab-ci", str(folder / "gitlab-ci.yml")],
    ]
    for call in calls:
        subprocess.run(call, check=True)
    # What Kustomize makes of examples/kubernetes.
    for path in sorted((ROOT / "tests/fixtures/kubernetes").glob("*.yml")):
        for document in yaml.safe_load_all(path.read_text()):
            kubernetes_validate.validate(document, "1.37", strict=True)
            print("ok --", path.name, document["kind"])


if __name__ == "__main__":
    main()
