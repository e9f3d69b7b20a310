#!/usr/bin/env python3
"""Do others accept the verdict that a gate has signed?  Run by hand.

    pip install in-toto-attestation "securesystemslib[crypto]" cryptography
    gate_attestations.py ARTIFACT PUBLIC_KEY.pem

Reads the lines of `ARTIFACT.sigstore.jsonl` with in-toto's own types, unknown fields refused, and
checks their signatures with securesystemslib and with cryptography alone. in-toto's type of a
verification summary lacks `verifier.version` and has `verifiedLevels` as a text (both are in the
specification), and knows no extension fields: those are taken out and looked at here.
"""

import base64
import copy
import hashlib
import importlib.metadata
import json
import re
import sys
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import json_format
from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
from in_toto_attestation.predicates.vsa.v1 import vsa_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
VSA = "https://slsa.dev/verification_summary/v1"


def check_signature(bundle: dict, key: Path) -> None:
    """The envelope is signed by this key: by a library, and by hand."""
    pem = key.read_bytes()
    hint = hashlib.sha256(pem).hexdigest()
    public = SSlibKey(hint, "ecdsa", "ecdsa-sha2-nistp256", {"public": pem.decode()})
    Envelope.from_dict(copy.deepcopy(bundle["dsseEnvelope"])).verify([public], 1)
    envelope = bundle["dsseEnvelope"]
    kind, body = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"])
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    loaded = serialization.load_pem_public_key(pem)
    loaded.verify(signature, signed, ec.ECDSA(hashes.SHA256()))


def check_subjects(statement: dict, artifact: Path) -> int:
    """The statement is about every file, `model.sig` included, and no other."""
    stated = {it["name"]: it["digest"]["sha256"] for it in statement["subject"]}
    files = [path for path in artifact.rglob("*") if path.is_file()]
    here = {str(path.relative_to(artifact)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files}
    if stated != here or "model.sig" not in stated:
        raise ValueError(f"stated {sorted(stated)}, here {sorted(here)}")
    return len(here)


def check_test_result(predicate: dict) -> str:
    """in-toto's own type, strictly."""
    parsed = json_format.ParseDict(
        predicate, test_result_pb2.TestResult(), ignore_unknown_fields=False)
    if parsed.result not in ("PASSED", "WARNED", "FAILED"):
        raise ValueError(f"result {parsed.result}")
    roles = [it["annotations"]["role"] for it in predicate["configuration"]]
    if roles[:3] != ["policy", "suite", "data"]:
        raise ValueError(f"configuration {roles}")
    counts = [len(parsed.passed_tests), len(parsed.warned_tests), len(parsed.failed_tests)]
    return f"{parsed.result}, passed, warned, failed: {counts}"


def check_summary(predicate: dict) -> str:
    """The specification's fields, then in-toto's type without what it lacks."""
    if not re.fullmatch(r"[A-Z0-9_]+", "".join(predicate["verifiedLevels"])):
        raise ValueError(f"verifiedLevels {predicate['verifiedLevels']}")
    passed = predicate["verificationResult"] == "PASSED"
    if passed == ("FAILED" in predicate["verifiedLevels"]):
        raise ValueError("result and levels disagree")
    versions = predicate["verifier"]["version"]
    if not all(isinstance(version, str) for version in versions.values()):
        raise ValueError(f"verifier.version {versions}")
    for value in predicate["firebrand_metrics"].values():
        if not isinstance(value, float | int):
            raise ValueError(f"a metric is {value}")
    for key in ("resourceUri", "policy", "inputAttestations", "timeVerified", "slsaVersion"):
        if not predicate[key]:
            raise ValueError(f"{key} is missing")
    known = {key: value for key, value in predicate.items() if not key.startswith("firebrand_")}
    known["verifier"] = {"id": predicate["verifier"]["id"]}
    field = vsa_pb2.VerificationSummary.DESCRIPTOR.fields_by_name["verified_levels"]
    if not field.is_repeated:
        known["verifiedLevels"] = predicate["verifiedLevels"][0]
    json_format.ParseDict(known, vsa_pb2.VerificationSummary(), ignore_unknown_fields=False)
    return f"{predicate['verificationResult']}, {predicate['verifiedLevels']}"


def main() -> None:
    artifact, key = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    lines = (artifact.parent / f"{artifact.name}.sigstore.jsonl").read_text().splitlines()
    found = []
    for number, line in enumerate(lines, 1):
        bundle = json.loads(line)
        check_signature(bundle, key)
        payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
        statement = json.loads(payload)
        json_format.Parse(payload, statement_pb2.Statement(), ignore_unknown_fields=False)
        Statement.copy_from_pb(json_format.Parse(payload, statement_pb2.Statement())).validate()
        checks = {TEST_RESULT: check_test_result, VSA: check_summary}
        check = checks.get(statement["predicateType"])
        if check is None:
            continue
        count = check_subjects(statement, artifact)
        found.append(statement["predicateType"])
        print(f"line {number}: {statement['predicateType']}, {count} files: "
              f"{check(statement['predicate'])}")
    if not {TEST_RESULT, VSA} <= set(found):
        sys.exit(f"only {found} were found")
    packages = ("in-toto-attestation", "securesystemslib", "cryptography")
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages))


main()
