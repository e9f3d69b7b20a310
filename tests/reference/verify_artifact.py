#!/usr/bin/env python3
"""Does everybody else accept our artifact?  Run by hand against a directory that Firebrand signed.

    pip install model-signing pyOpenSSL in-toto-attestation securesystemslib[crypto] huggingface_hub \\
        safetensors numpy "cyclonedx-python-lib[json-validation]" gguf torch transformers peft
    npm install --prefix NODE @sigstore/verify@3.1.1 @sigstore/bundle@4.0.0
    verify_artifact.py DIR PUBLIC_KEY.pem [--firebrand PROGRAM] [--node NODE]

One line for each official program or library, as a Markdown table; the exit status is 1 if one of
them refuses. What is not installed is passed over, and says so.
"""

import argparse
import base64
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


HERE = Path(__file__).parent
OPTIONS = argparse.Namespace(firebrand=None, node=None)


class Skipped(Exception):
    """There is nothing to check here."""


def run(command: list[str], **options) -> str:
    """The last line of what a program says; an error if it fails."""
    result = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    lines = (result.stdout + result.stderr).strip().splitlines() or ["no output"]
    if result.returncode != 0:
        raise ValueError(lines[-1])
    return lines[-1]


def oms_signature(directory: Path, key: Path) -> str:
    """OpenSSF Model Signing's own program (needs no network)."""
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(directory)]
    command += ["--signature", str(directory / "model.sig"), "--public_key", str(key)]
    return run(command)


def oms_agreement(directory: Path, _key: Path) -> str:
    """What OpenSSF's program signs, we accept; what it refuses, we refuse; each with a new key."""
    if OPTIONS.firebrand is None:
        raise Skipped("`--firebrand` was not given")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model, sig = folder / "model", folder / "model" / "model.sig"
        shutil.copytree(directory, model)
        private, public = folder / "key.pem", folder / "key.pub.pem"
        run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", private])
        run(["openssl", "ec", "-in", private, "-pubout", "-out", public])
        sig.unlink()
        sign = [sys.executable, "-m", "model_signing", "sign", "key", str(model)]
        run([*sign, "--private_key", str(private), "--signature", str(sig)])
        theirs = [sys.executable, "-m", "model_signing", "verify", "key", str(model),
                  "--signature", str(sig), "--public_key", str(public)]
        ours = [OPTIONS.firebrand, "verify", str(model), "--key", str(public)]

        def verdicts() -> list[bool]:
            return [subprocess.run(c, capture_output=True, check=False).returncode == 0
                    for c in (theirs, ours)]

        if verdicts() != [True, True]:
            raise ValueError(f"(theirs, ours) accept their signature: {verdicts()}")
        count = 1
        changes = [model / "README.md", next(iter(sorted(model.glob("*.json"))))]
        for path in changes:
            before = path.read_bytes()
            for content in (before[:-1], before[:-1] + b"!", None):
                path.unlink()
                if content is not None:
                    path.write_bytes(content)
                if verdicts() != [False, False]:
                    raise ValueError(f"a changed {path.name}: {verdicts()}")
                path.write_bytes(before)
                count += 1
        (model / "more.txt").write_text("more")
        if verdicts() != [False, False]:
            raise ValueError(f"a file too many: {verdicts()}")
        (model / "more.txt").unlink()
    return f"{count + 1} cases, the same verdict in each"


def oms_schemas(directory: Path, _key: Path) -> str:
    """The JSON Schemas of the standard, as its own package checks them."""
    if shutil.which("oms-validate") is None:
        raise Skipped("not on PyPI; its tree was not at hand")
    return run(["oms-validate", str(directory / "model.sig"), "--method", "key"])


def sigstore_js(directory: Path, key: Path) -> str:
    """sigstore's JavaScript: shape of the bundle, and the signature of the envelope."""
    if OPTIONS.node is None:
        raise Skipped("`--node` was not given")
    environment = {**os.environ, "NODE_MODULES": str(Path(OPTIONS.node).resolve())}
    bundles = [directory / "model.sig", directory.parent / f"{directory.name}.sigstore.jsonl"]
    said = []
    for bundle in bundles:
        if bundle.exists():
            command = ["node", str(HERE / "verify_bundle.mjs"), str(bundle), str(key)]
            said.append(run(command, env=environment))
    return "; ".join(said)


def dsse_library(directory: Path, key: Path) -> str:
    """in-toto's own reader of envelopes, on the signature and on each attestation."""
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import SSlibKey

    pem = key.read_text()
    hint = hashlib.sha256(key.read_bytes()).hexdigest()
    public = SSlibKey(hint, "ecdsa", "ecdsa-sha2-nistp256", {"public": pem})
    beside = directory.parent / f"{directory.name}.sigstore.jsonl"
    lines = beside.read_text().splitlines() if beside.exists() else []
    for text in [(directory / "model.sig").read_text(), *lines]:
        envelope = Envelope.from_dict(json.loads(text)["dsseEnvelope"])
        envelope.verify([public], 1)
    return f"{1 + len(lines)} envelopes"


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


def attestations(directory: Path, _key: Path) -> str:
    """The first line beside the artifact holds the very bytes of its statement."""
    beside = directory.parent / f"{directory.name}.sigstore.jsonl"
    if not beside.exists():
        raise Skipped("no attestations")
    lines = beside.read_text().splitlines()
    payload = base64.b64decode(json.loads(lines[0])["dsseEnvelope"]["payload"], validate=True)
    if payload != (directory / "lineage.statement.json").read_bytes():
        raise ValueError("line 1 is not lineage.statement.json")
    return f"{len(lines)} lines"


def bill_of_materials(directory: Path, _key: Path) -> str:
    """CycloneDX's strict validator, under 1.6 and, with the version changed, under 1.7."""
    path = directory / "bom.cdx.json"
    if not path.exists():
        raise Skipped("no bill of materials")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = path.read_text()
    newer = json.loads(text)
    newer["specVersion"], newer["$schema"] = "1.7", newer["$schema"].replace("1.6", "1.7")
    versions = [(SchemaVersion.V1_6, text), (SchemaVersion.V1_7, json.dumps(newer))]
    for version, document in versions:
        error = JsonStrictValidator(version).validate_str(document)
        if error is not None:
            raise ValueError(f"{version}: {error}")
    for file in newer["metadata"]["component"]["components"]:
        content = (directory / file["name"]).read_bytes()
        if hashlib.sha256(content).hexdigest() != file["hashes"][0]["content"]:
            raise ValueError(f"another {file['name']}")
    return f"1.6 and 1.7, {len(newer['metadata']['component']['components'])} files"


def gguf_file(directory: Path, _key: Path) -> str:
    """ggml's own reader."""
    files = sorted(directory.glob("*.gguf"))
    if not files:
        raise Skipped("no GGUF")
    import gguf

    reader = gguf.GGUFReader(files[0])
    inputs = hashlib.sha256((directory / "lineage.inputs.json").read_bytes()).hexdigest()
    if reader.fields["firebrand.inputs_sha256"].contents() != inputs:
        raise ValueError("it names other inputs")
    return f"{len(reader.tensors)} tensors, {len(reader.fields)} keys"


def loaded(directory: Path, _key: Path) -> str:
    """PEFT or transformers loads it, and computes."""
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise Skipped("no safetensors")
    try:
        import torch
        import transformers
    except ImportError as error:
        raise Skipped(f"{error.name} is not installed") from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    adapter = (directory / "adapter_config.json").exists()
    settings = json.loads((directory / ("adapter_config.json" if adapter else "config.json")).read_text())
    scores = settings.get("task_type") == "SEQ_CLS" or "SequenceClassification" in str(settings.get("architectures"))
    kind = "SequenceClassification" if scores else "CausalLM"
    labels = {}
    if adapter:
        import peft

        Auto = getattr(peft, f"AutoPeftModelFor{kind}")
        if scores:
            names = json.loads((directory / "score_head.json").read_text())["labels"]
            labels = {"id2label": dict(enumerate(names))}
    else:
        Auto = getattr(transformers, f"AutoModelFor{kind}")
    model = Auto.from_pretrained(str(directory), dtype=torch.float32, **labels)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(directory))
    tokens = tokenizer("The capital of", return_tensors="pt")["input_ids"]
    logits = model(input_ids=tokens).logits
    if not bool(torch.isfinite(logits).all()):
        raise ValueError("logits that are no numbers")
    return f"{type(model).__name__}, logits {list(logits.shape)}"


CHECKS = [
    ("`model_signing verify key`", "model-signing", oms_signature),
    ("its signatures in `firebrand verify`", "model-signing", oms_agreement),
    ("OMS JSON Schemas", "oms-schemas", oms_schemas),
    ("DSSE by cryptography alone", "cryptography", dsse_signature),
    ("securesystemslib `Envelope.verify`", "securesystemslib", dsse_library),
    ("npm `@sigstore/verify`, `bundle`", "node", sigstore_js),
    ("in-toto statement and SLSA, strict", "in-toto-attestation", lineage_statement),
    ("lineage, files and headers agree", "safetensors", lineage_cross_checks),
    ("attestations beside it", "-", attestations),
    ("CycloneDX, strict", "cyclonedx-python-lib", bill_of_materials),
    ("`huggingface_hub.ModelCard`", "huggingface_hub", model_card),
    ("safetensors", "safetensors", weights),
    ("gguf `GGUFReader`", "gguf", gguf_file),
    ("`peft.PeftConfig`", "peft", adapter_config),
    ("PEFT or transformers computes", "transformers", loaded),
]


def version(package: str) -> str:
    if package == "node":
        if OPTIONS.node is None:
            return "-"
        names = ["verify", "bundle"]
        paths = [Path(OPTIONS.node) / "node_modules/@sigstore" / n / "package.json" for n in names]
        return ", ".join(json.loads(path.read_text())["version"] for path in paths)
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("key", type=Path)
    parser.add_argument("--firebrand")
    parser.add_argument("--node")
    parser.parse_args(namespace=OPTIONS)
    refused = 0
    print("| program or library | version | verdict | |\n|---|---|---|---|")
    for name, package, check in CHECKS:
        try:
            verdict, detail = "accepts", check(OPTIONS.directory, OPTIONS.key)
        except Skipped as reason:
            verdict, detail = "-", str(reason)
        except ImportError as error:
            verdict, detail = "-", f"{error.name} is not installed"
        except Exception as error:  # noqa: BLE001 -- whatever a library raises is a refusal
            verdict, detail = "REFUSES", f"{type(error).__name__}: {error}"[:160]
            refused += 1
        print(f"| {name} | {version(package)} | {verdict} | {detail} |", flush=True)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
