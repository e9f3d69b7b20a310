"""Channels as others see them: a verdict that Python signs lets a model into use; Python checks the
pointer and what `firebrand watch` attests.

    pip install in-toto-attestation==0.9.3 securesystemslib==1.6.0 cryptography==50.0.2
    python tests/reference/channel.py target/release/firebrand        # in the repository; 40 s
"""

import base64
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import json_format
from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
from in_toto_attestation.v1 import resource_descriptor, statement, statement_pb2
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

IN_TOTO = "application/vnd.in-toto+json"
POINTER = "application/vnd.firebrand.channel+json"
PROGRAM = str(pathlib.Path(sys.argv[1]).resolve())
WORK = pathlib.Path(tempfile.mkdtemp())
ENV = os.environ | {"XDG_CONFIG_HOME": str(WORK / "settings")}


def firebrand(*words, code=0):
    done = subprocess.run([PROGRAM, *map(str, words)], env=ENV, capture_output=True, text=True)
    assert done.returncode == code, (words, done.returncode, done.stderr)
    return done.stdout


def encoded(kind, body):
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(body), body)


def sign(kind, body, key):
    """A sigstore bundle of our own making."""
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    hint = hashlib.sha256(public).hexdigest()
    signature = private.sign(encoded(kind, body), ec.ECDSA(hashes.SHA256()))
    return {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(body).decode(),
            "payloadType": kind,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": hint}],
        },
    }


def check(bundle, kind, public):
    """The payload of a bundle, of which the signature holds for two libraries."""
    envelope = bundle["dsseEnvelope"]
    assert envelope["payloadType"] == kind
    body = base64.b64decode(envelope["payload"])
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    key = serialization.load_pem_public_key(public.read_bytes())
    key.verify(signature, encoded(kind, body), ec.ECDSA(hashes.SHA256()))
    hint = bundle["verificationMaterial"]["publicKey"]["hint"]
    assert hint == hashlib.sha256(public.read_bytes()).hexdigest()
    Envelope.from_dict(envelope).verify([SSlibKey.from_crypto(key, keyid=hint)], 1)
    return body


def main():
    run, registry = WORK / "run", WORK / "registry"
    firebrand("train", "configs/quickstart.toml", "--quiet", "--set", f"output.dir={run}")
    artifact = run / "artifact"
    for role in ["gate", "promote"]:
        firebrand("keygen", WORK / f"{role}.pem")
    keys = {"train": WORK / "settings/firebrand/signing.pub.pem"}
    keys |= {role: WORK / f"{role}.pub.pem" for role in ["gate", "promote"]}
    entries = [f'[[key]]\nroles = ["{role}"]\nfile = "{file}"\n' for role, file in keys.items()]
    (WORK / "settings/firebrand/trusted-keys.toml").write_text("".join(entries))

    lines = pathlib.Path("datasets/quickstart.validation.jsonl").read_text().splitlines()[:20]
    data, suite = WORK / "data.jsonl", WORK / "eval.toml"
    data.write_text("\n".join(lines) + "\n")
    suite.write_text(f'bootstrap = 0\n[data]\npath = "{data}"\n')
    report = json.loads(firebrand("eval", run, "--config", suite, "--json", "--quiet"))
    names = [str(path.relative_to(artifact)) for path in artifact.rglob("*") if path.is_file()]
    digest = lambda name: hashlib.sha256((artifact / name).read_bytes()).hexdigest()
    verdict = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": digest(name)}} for name in names],
        "predicateType": "https://slsa.dev/verification_summary/v1",
        "predicate": {
            "verifier": {"id": "urn:firebrand:verifier:gate:v1"},
            "timeVerified": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "policy": {"uri": "gate.toml"},
            "verificationResult": "PASSED",
            "firebrand_metrics": {k: v["value"] for k, v in report["metrics"].items()},
        },
    }
    beside = run / "artifact.sigstore.jsonl"
    line = json.dumps(sign(IN_TOTO, json.dumps(verdict).encode(), WORK / "gate.pem"))
    beside.write_text(beside.read_text() + line + "\n")

    channel = ["--registry", registry, "--channel", "production", "--key", WORK / "promote.pem"]
    path = firebrand("promote", run, *channel).strip()
    bundle = json.loads(pathlib.Path(path).read_text())
    pointer = json.loads(check(bundle, POINTER, keys["promote"]))
    assert pointer["model"]["sig_sha256"] == digest("model.sig")
    assert pointer["vsa_sha256"] == hashlib.sha256(line.encode()).hexdigest()
    assert firebrand("resolve", "production", "--registry", registry).strip() == str(artifact)
    print(f"pointer: cryptography {version('cryptography')}, securesystemslib "
          f"{version('securesystemslib')}: holds, serial number {pointer['serial']}")

    def reverse(line):
        record = json.loads(line)
        for message in record["messages"]:
            message["content"] = message["content"][::-1]
        return json.dumps(record)

    data.write_text("\n".join(map(reverse, lines)) + "\n")
    (WORK / "watch.toml").write_text('[watch]\non_drift = "report"\n')
    watch = ["--config", suite, "--policy", WORK / "watch.toml", "--once", "--quiet"]
    print(firebrand("watch", *channel, *watch, code=1).strip())
    last = json.loads(beside.read_text().splitlines()[-1])
    text = check(last, IN_TOTO, keys["promote"]).decode()
    message = json_format.Parse(text, statement_pb2.Statement(), ignore_unknown_fields=False)
    statement.Statement.copy_from_pb(message).validate()
    result = test_result_pb2.TestResult()
    predicate = json.dumps(json.loads(text)["predicate"])
    json_format.Parse(predicate, result, ignore_unknown_fields=False)
    for descriptor in result.configuration:
        resource_descriptor.ResourceDescriptor.copy_from_pb(descriptor).validate()
    assert result.result == "FAILED" and "drift/loss" in result.failed_tests
    print(f"drift: in-toto-attestation {version('in-toto-attestation')}, strict: "
          f"{len(message.subject)} subjects, failed {list(result.failed_tests)}")
    firebrand("verify", run)


if __name__ == "__main__":
    main()
