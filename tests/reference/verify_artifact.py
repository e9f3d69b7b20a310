#!/usr/bin/env python3
"""Does everybody else accept our artifact?  Run by hand against a directory that Firebrand signed.

    pip install model-signing pyOpenSSL in-toto-attestation huggingface_hub safetensors numpy
    python tests/reference/verify_artifact.py DIR PUBLIC_KEY.pem

Each line is one official program or library; the exit status is 1 if one of them refuses.
PEFT is asked only where it is installed.
"""

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path


class Skipped(Exception):
    """There is nothing to check here."""


def oms_signature(directory: Path, key: Path) -> str:
    """OpenSSF Model Signing's own program (needs no network)."""
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(directory)]
    command += ["--signature", str(directory / "model.sig"), "--public_key", str(key)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (result.stdout + result.stderr).strip().splitlines()
    last = lines[-1] if lines else "no output"
    if result.returncode != 0:
        raise ValueError(last)
    return last


def dsse_signature(directory: Path, key: Path) -> str:
    """The envelope's signature, by `cryptography` alone."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    bundle = json.loads((directory / "model.sig").read_text())
    hint = bundle["verificationMaterial"]["publicKey"]["hint"]
    if hint != hashlib.sha256(key.read_bytes()).hexdigest():
        raise ValueError("the hint is not the SHA-256 of the key file")
    envelope = bundle["dsseEnvelope"]
    kind, body = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"])
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)
    public = serialization.load_pem_public_key(key.read_bytes())
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    public.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    return f"key {hint[:12]}"


def lineage_statement(directory: Path, _key: Path) -> str:
    """in-toto's and SLSA's own types, with unknown fields refused."""
    from google.protobuf import json_format
    from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
    from in_toto_attestation.v1 import resource_descriptor, statement, statement_pb2

    path = directory / "lineage.statement.json"
    if not path.exists():
        raise Skipped("no lineage")
    text = path.read_text()
    message = json_format.Parse(text, statement_pb2.Statement(), ignore_unknown_fields=False)
    statement.Statement.copy_from_pb(message).validate()
    predicate = json.dumps(json.loads(text)["predicate"])
    provenance = provenance_pb2.Provenance()
    json_format.Parse(predicate, provenance, ignore_unknown_fields=False)
    descriptors = list(provenance.build_definition.resolved_dependencies)
    descriptors += provenance.run_details.byproducts
    for descriptor in descriptors:
        resource_descriptor.ResourceDescriptor.copy_from_pb(descriptor).validate()
    return f"{len(message.subject)} subjects, {len(descriptors)} dependencies and byproducts"


def lineage_cross_checks(directory: Path, _key: Path) -> str:
    """Header, inputs, statement and files name each other by digest."""
    from safetensors import safe_open

    path = directory / "lineage.statement.json"
    if not path.exists():
        raise Skipped("no lineage")
    statement = json.loads(path.read_text())
    inputs = (directory / "lineage.inputs.json").read_bytes()
    if statement["predicate"]["buildDefinition"] != json.loads(inputs):
        raise ValueError("buildDefinition is not lineage.inputs.json")
    for subject in statement["subject"]:
        content = (directory / subject["name"]).read_bytes()
        if hashlib.sha256(content).hexdigest() != subject["digest"]["sha256"]:
            raise ValueError(f"another {subject['name']}")
    named = 0
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, "numpy") as opened:
            digest = (opened.metadata() or {}).get("firebrand.inputs_sha256")
        if digest is None:
            continue
        if digest != hashlib.sha256(inputs).hexdigest():
            raise ValueError(f"{file.name} names other inputs")
        named += 1
    return f"{len(statement['subject'])} files, {named} headers"


def model_card(directory: Path, _key: Path) -> str:
    """The hub's own reader of model cards."""
    from huggingface_hub import ModelCard

    card = ModelCard.load(directory / "README.md")
    data = card.data.to_dict()
    return ", ".join(f"{key}={data[key]}" for key in ("library_name", "base_model") if key in data)


def weights(directory: Path, _key: Path) -> str:
    """The safetensors library reads every tensor."""
    from safetensors import safe_open

    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise Skipped("no weights")
    count = 0
    for file in files:
        with safe_open(file, "numpy") as opened:
            for name in opened.keys():
                opened.get_slice(name).get_shape()
                count += 1
    return f"{len(files)} files, {count} tensors"


def adapter_config(directory: Path, _key: Path) -> str:
    """PEFT reads its own configuration without a word about unknown keys."""
    if not (directory / "adapter_config.json").exists():
        raise Skipped("not an adapter")
    try:
        import peft
    except ImportError as error:
        raise Skipped("PEFT is not installed") from error
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = peft.PeftConfig.from_pretrained(str(directory))
    written = json.loads((directory / "adapter_config.json").read_text())
    unknown = set(written) - set(config.to_dict())
    if unknown:
        raise ValueError(f"unknown keys: {sorted(unknown)}")
    return f"PEFT {peft.__version__}, r={config.r}, {sorted(config.target_modules)}"


CHECKS = [
    ("model_signing verify key", oms_signature),
    ("DSSE by cryptography", dsse_signature),
    ("in-toto and SLSA, strict", lineage_statement),
    ("lineage cross-checks", lineage_cross_checks),
    ("huggingface_hub.ModelCard", model_card),
    ("safetensors", weights),
    ("peft.PeftConfig", adapter_config),
]


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    directory, key = Path(sys.argv[1]), Path(sys.argv[2])
    refused = 0
    for name, check in CHECKS:
        try:
            verdict, detail = "ok", check(directory, key)
        except Skipped as reason:
            verdict, detail = "-", str(reason)
        except Exception as error:  # noqa: BLE001 -- whatever a library raises is a refusal
            verdict, detail = "REFUSED", f"{type(error).__name__}: {error}"[:160]
            refused += 1
        print(f"{name:<27} {verdict:<8} {detail}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
