"""Writes tests/fixtures/engine-schemas: what SkyPilot and dstack themselves accept, without prose.

    pip install skypilot==0.14.1 dstack==0.22.5
    python tests/reference/engine_schemas.py

SkyPilot's is the JSON Schema by which it validates tasks; dstack's is made of the model of its task
configuration. Both are under licences that allow it (Apache License 2.0 and Mozilla Public License
2.0).
"""

import json
import pathlib

from dstack._internal.core.models.configurations import TaskConfiguration
from sky.utils import schemas

OUT = pathlib.Path(__file__).resolve().parents[1] / "fixtures/engine-schemas"
PROSE = {"description", "title", "examples", "default", "$comment"}
NAMES = {"properties", "patternProperties", "$defs"}


def plain(value, names=False):
    """Without prose; `names` are keys that the schema speaks of."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if names or k not in PROSE}
        return {k: plain(v, not names and k in NAMES) for k, v in kept.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def skypilot():
    """The schema of a task, with those of the parts that SkyPilot validates apart from it."""
    task = schemas.get_task_schema()
    task["properties"]["resources"] = schemas.get_resources_schema()
    mount = {"anyOf": [{"type": "string"}, schemas.get_storage_schema()]}
    task["properties"]["file_mounts"] = {"type": "object", "additionalProperties": mount}
    return task


def main():
    OUT.mkdir(exist_ok=True)
    for name, schema in [
        ("skypilot", skypilot()),
        ("dstack", TaskConfiguration.model_json_schema()),
    ]:
        # The path of the workspace's own schema means nothing here.
        text = json.dumps(plain(schema), separators=(",", ":"), default=list)
        (OUT / f"{name}.json").write_text(text + "\n")
        print(name, len(text), "bytes")


main()
