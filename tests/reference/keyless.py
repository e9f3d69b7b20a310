#!/usr/bin/env python3
"""Makes tests/fixtures/keyless: Sigstore bundles, and the trusted root that they are checked with.

    python -m venv V; V/bin/pip install sigstore==4.5.1 model-signing==1.1.1 asn1crypto
    V/bin/python tests/reference/keyless.py

The services are ours and run once, here: a certificate authority that issues certificates of ten
minutes with an identity and a signed certificate timestamp (as Fulcio does), a certificate log, two
transparency logs (Rekor 1: `dsse` and `hashedrekord` 0.0.1 with an inclusion promise; Rekor 2:
`hashedrekord` 0.0.2), and a time stamping authority (RFC 3161). Keys are new each time and thrown
away. What must be accepted is given to the official verifiers before it is written: `sigstore` for
every bundle, `model_signing verify sigstore` for those of the model.
"""
import base64
import datetime as dt
import hashlib
import json
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID as EKU, NameOID, ObjectIdentifier

OUT = Path(__file__).parents[1] / "fixtures" / "keyless"
TYPE = "application/vnd.in-toto+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
IDENTITY, ISSUER = "release@example.com", "https://accounts.example.com"
SIGNED = dt.datetime(2026, 11, 1, 12, 0, tzinfo=dt.timezone.utc)
FROM, UNTIL = "2026-01-01T00:00:00Z", "2036-01-01T00:00:00Z"
MODEL = {"config.json": b'{"model_type": "none"}\n', "notes/read.txt": b"a model of nothing\n"}
DATA = b"".join(b'{"text": "The sum of %d and %d is %d."}\n' % (a, b, a + b)
                for a in range(3, 8) for b in range(2, 6))
SCT_LIST = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")


def b64(data):
    return base64.b64encode(data).decode()


def new_key():
    return ec.generate_private_key(ec.SECP256R1())


def sign(key, data, digest=hashes.SHA256):
    return key.sign(data, ec.ECDSA(digest()))


def spki(key):
    return key.public_key().public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)


def der(certificate):
    return certificate.public_bytes(ser.Encoding.DER)


def key_id(key):
    return hashlib.sha256(spki(key)).digest()


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"),
                      x509.NameAttribute(NameOID.COMMON_NAME, text)])


def authority(subject, key, issuer, issuer_key, eku, path):
    return (x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer))
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(dt.datetime(2026, 1, 1)).not_valid_after(dt.datetime(2036, 1, 1))
            .add_extension(x509.BasicConstraints(path is not None, path), critical=True)
            .add_extension(usage(path is not None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(
                issuer_key.public_key()), False)
            .add_extension(x509.ExtendedKeyUsage([eku]), critical=path is None)
            .sign(issuer_key, hashes.SHA256()))


def usage(of_authority):
    return x509.KeyUsage(not of_authority, False, False, False, False, of_authority, of_authority,
                         False, False)


class Log:
    """A transparency log: entries, their tree, and signed heads."""

    def __init__(self, origin):
        self.origin, self.key = origin, new_key()
        self.leaves = [hashlib.sha256(b"\0another entry %d" % it).digest() for it in range(5)]

    def add(self, body):
        """Index, audit path, size and root once the entry is in the log."""
        self.leaves.append(hashlib.sha256(b"\0" + body).digest())
        index = len(self.leaves) - 1
        return index, self.path(index, self.leaves), len(self.leaves), self.root(self.leaves)

    def split(self, leaves):
        half = 1
        while half * 2 < len(leaves):
            half *= 2
        return half

    def root(self, leaves):
        if len(leaves) == 1:
            return leaves[0]
        half = self.split(leaves)
        return hashlib.sha256(b"\1" + self.root(leaves[:half]) + self.root(leaves[half:])).digest()

    def path(self, index, leaves):
        if len(leaves) == 1:
            return []
        half = self.split(leaves)
        if index < half:
            return self.path(index, leaves[:half]) + [self.root(leaves[half:])]
        return self.path(index - half, leaves[half:]) + [self.root(leaves[:half])]

    def checkpoint(self, size, root):
        note = f"{self.origin}\n{size}\n{b64(root)}\n"
        signature = b64(key_id(self.key)[:4] + sign(self.key, note.encode()))
        return f"{note}\n\u2014 {self.origin} {signature}\n"


class Services:
    def __init__(self, domain):
        self.domain = domain
        root, self.issuing, tsa_root = new_key(), new_key(), new_key()
        self.root = authority("root", root, "root", root, EKU.CODE_SIGNING, 1)
        self.authority = authority("issuing", self.issuing, "root", root, EKU.CODE_SIGNING, 0)
        self.tsa_root = authority("tsa root", tsa_root, "tsa root", tsa_root, EKU.TIME_STAMPING, 0)
        self.tsa_key = new_key()
        self.tsa = authority("tsa", self.tsa_key, "tsa root", tsa_root, EKU.TIME_STAMPING, None)
        self.ct = new_key()
        self.first, self.second = Log(f"rekor.{domain}"), Log(f"log2026.{domain}")

    def trusted_root(self):
        def log(at, key):
            return {"baseUrl": f"https://{at}", "hashAlgorithm": "SHA2_256",
                    "publicKey": {"rawBytes": b64(spki(key)),
                                  "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                                  "validFor": {"start": FROM}},
                    "logId": {"keyId": b64(key_id(key))}}

        def chain(uri, *certificates):
            return {"subject": {"organization": "Example", "commonName": uri},
                    "uri": f"https://{uri}", "validFor": {"start": FROM, "end": UNTIL},
                    "certChain": {"certificates": [{"rawBytes": b64(der(it))}
                                                   for it in certificates]}}
        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(it.origin, it.key) for it in (self.first, self.second)],
            "certificateAuthorities": [chain(f"fulcio.{self.domain}", self.authority, self.root)],
            "ctlogs": [log(f"ctfe.{self.domain}", self.ct)],
            "timestampAuthorities": [chain(f"tsa.{self.domain}", self.tsa, self.tsa_root)],
        }

    def certificate(self, key, at, sct=True, identity=IDENTITY, issuer=ISSUER):
        """Ten minutes, an identity, who says so, and the signed promise of the certificate log."""
        text = issuer.encode()
        builder = (x509.CertificateBuilder().subject_name(x509.Name([]))
                   .issuer_name(self.authority.subject).public_key(key.public_key())
                   .serial_number(x509.random_serial_number())
                   .not_valid_before(at).not_valid_after(at + dt.timedelta(minutes=10))
                   .add_extension(usage(False), critical=True)
                   .add_extension(x509.ExtendedKeyUsage([EKU.CODE_SIGNING]), critical=False)
                   .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
                   .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(
                       self.issuing.public_key()), False)
                   .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(identity)]), True)
                   .add_extension(x509.UnrecognizedExtension(
                       ObjectIdentifier("1.3.6.1.4.1.57264.1.1"), text), False)
                   .add_extension(x509.UnrecognizedExtension(
                       ObjectIdentifier("1.3.6.1.4.1.57264.1.8"),
                       b"\x0c" + bytes([len(text)]) + text), False))
        if not sct:
            return builder.sign(self.issuing, hashes.SHA256())
        before = builder.sign(self.issuing, hashes.SHA256()).tbs_certificate_bytes
        milliseconds = int(at.timestamp() * 1000)
        entry = key_id(self.issuing) + len(before).to_bytes(3, "big") + before
        signed = struct.pack("!BBQH", 0, 0, milliseconds, 1) + entry + b"\0\0"
        signature = sign(self.ct, signed)
        promise = (b"\0" + key_id(self.ct) + struct.pack("!QH", milliseconds, 0) + b"\x04\x03"
                   + struct.pack("!H", len(signature)) + signature)
        inner = struct.pack("!H", len(promise)) + promise
        value = struct.pack("!H", len(inner)) + inner
        value = core.OctetString(value).dump()
        builder = builder.add_extension(x509.UnrecognizedExtension(SCT_LIST, value), False)
        return builder.sign(self.issuing, hashes.SHA256())

    def entry(self, log, kind, version, spec, at):
        """An entry of the first log, with its promise and its proof."""
        body = json.dumps({"apiVersion": version, "kind": kind, "spec": spec}, sort_keys=True,
                          separators=(",", ":")).encode()
        index, path, size, root = log.add(body)
        identity = key_id(log.key)
        entry = {"logIndex": str(index), "logId": {"keyId": b64(identity)},
                 "kindVersion": {"kind": kind, "version": version}}
        if version == "0.0.1":
            seconds = int(at.timestamp())
            promise = json.dumps({"body": b64(body), "integratedTime": seconds,
                                  "logID": identity.hex(), "logIndex": index},
                                 sort_keys=True, separators=(",", ":")).encode()
            entry["integratedTime"] = str(seconds)
            entry["inclusionPromise"] = {"signedEntryTimestamp": b64(sign(log.key, promise))}
        entry["inclusionProof"] = {
            "logIndex": str(index), "rootHash": b64(root), "treeSize": str(size),
            "hashes": [b64(it) for it in path],
            "checkpoint": {"envelope": log.checkpoint(size, root)}}
        entry["canonicalizedBody"] = b64(body)
        return entry

    def time_stamp(self, signature, at):
        """A granted answer of RFC 3161 about these bytes."""
        digest = hashlib.sha256(signature).digest()
        sha256 = algos.DigestAlgorithm({"algorithm": "sha256"})
        info = tsp.TSTInfo({
            "version": "v1", "policy": "1.3.6.1.4.1.57264.2",
            "message_imprint": {"hash_algorithm": {"algorithm": "sha256"},
                                "hashed_message": digest},
            "serial_number": 7, "gen_time": at})
        certificate = asn1_x509.Certificate.load(der(self.tsa))
        attributes = cms.CMSAttributes([
            {"type": "content_type", "values": ["tst_info"]},
            {"type": "signing_time", "values": [cms.Time("utc_time", core.UTCTime(at))]},
            {"type": "message_digest", "values": [hashlib.sha256(info.dump()).digest()]},
            {"type": "signing_certificate_v2", "values": [{"certs": [
                {"hash_algorithm": {"algorithm": "sha256"},
                 "cert_hash": hashlib.sha256(der(self.tsa)).digest()}]}]}])
        attributes = cms.CMSAttributes(sorted(attributes, key=lambda it: it.dump()))
        made = sign(self.tsa_key, attributes.dump())
        content = cms.SignedData({
            "version": "v3", "digest_algorithms": [sha256],
            "encap_content_info": {"content_type": "tst_info",
                                   "content": core.ParsableOctetString(info.dump())},
            "certificates": [certificate],
            "signer_infos": [{
                "version": "v1",
                "sid": {"issuer_and_serial_number": {
                    "issuer": certificate.issuer,
                    "serial_number": certificate.serial_number}},
                "digest_algorithm": {"algorithm": "sha256"},
                "signed_attrs": attributes,
                "signature_algorithm": {"algorithm": "sha256_ecdsa"},
                "signature": made}]})
        answer = tsp.TimeStampResp({
            "status": {"status": "granted"},
            "time_stamp_token": {"content_type": "signed_data", "content": content}})
        return answer.dump()

    def bundle(self, payload=None, data=None, kind="first", at=SIGNED, stamped=None, **more):
        """A bundle over a statement (`payload`) or over bytes (`data`)."""
        key = new_key()
        certificate = self.certificate(key, at, **more)
        pem = b64(certificate.public_bytes(ser.Encoding.PEM))
        later = stamped or at + dt.timedelta(seconds=5)
        if payload is not None:
            signed = b"DSSEv1 %d %s %d %s" % (len(TYPE), TYPE.encode(), len(payload), payload)
        else:
            signed = data
        signature = sign(key, signed)
        material = {"certificate": {"rawBytes": b64(der(certificate))}}
        if kind == "second":
            spec = {"hashedRekordV002": {
                "data": {"algorithm": "SHA2_256", "digest": b64(hashlib.sha256(signed).digest())},
                "signature": {"content": b64(signature), "verifier": {
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "x509Certificate": {"rawBytes": b64(der(certificate))}}}}}
            entry = self.entry(self.second, "hashedrekord", "0.0.2", spec, later)
            stamps = [{"signedTimestamp": b64(self.time_stamp(signature, later))}]
            material["timestampVerificationData"] = {"rfc3161Timestamps": stamps}
        elif payload is not None:
            envelope = json.dumps(payload.decode()).encode()
            spec = {"envelopeHash": {"algorithm": "sha256",
                                     "value": hashlib.sha256(envelope).hexdigest()},
                    "payloadHash": {"algorithm": "sha256",
                                    "value": hashlib.sha256(payload).hexdigest()},
                    "signatures": [{"signature": b64(signature), "verifier": pem}]}
            entry = self.entry(self.first, "dsse", "0.0.1", spec, later)
        else:
            spec = {"data": {"hash": {"algorithm": "sha256",
                                      "value": hashlib.sha256(data).hexdigest()}},
                    "signature": {"content": b64(signature), "publicKey": {"content": pem}}}
            entry = self.entry(self.first, "hashedrekord", "0.0.1", spec, later)
        material["tlogEntries"] = [entry]
        bundle = {"mediaType": BUNDLE, "verificationMaterial": material}
        if payload is not None:
            bundle["dsseEnvelope"] = {"payload": b64(payload), "payloadType": TYPE,
                                      "signatures": [{"sig": b64(signature)}]}
        else:
            bundle["messageSignature"] = {
                "messageDigest": {"algorithm": "SHA2_256",
                                  "digest": b64(hashlib.sha256(data).digest())},
                "signature": b64(signature)}
        return bundle


def statement():
    """What `firebrand sign` states of the model, byte for byte."""
    digests = {it: hashlib.sha256(MODEL[it]).hexdigest() for it in sorted(MODEL)}
    root = hashlib.sha256(b"".join(bytes.fromhex(it) for it in digests.values())).hexdigest()
    return json.dumps({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "model", "digest": {"sha256": root}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "resources": [{"name": it, "algorithm": "sha256", "digest": digests[it]}
                          for it in digests],
            "serialization": {
                "method": "files", "hash_type": "sha256", "allow_symlinks": False,
                "ignore_paths": [".git", ".gitattributes", ".github", ".gitignore", "model.sig"],
            }}}, separators=(",", ":")).encode()


def accepted(root, bundle, data=None):
    """What the official verifiers say."""
    from sigstore.models import Bundle, TrustedRoot
    from sigstore.verify import Verifier, policy
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "root.json"
        path.write_text(json.dumps(root))
        verifier = Verifier(trusted_root=TrustedRoot.from_file(str(path)))
        theirs = Bundle.from_json(json.dumps(bundle))
        who = policy.Identity(identity=IDENTITY, issuer=ISSUER)
        if data is None:
            verifier.verify_dsse(theirs, who)
        else:
            verifier.verify_artifact(data, theirs, who)


def model_signing(root, bundle):
    """`model_signing verify sigstore` on the model, with our trusted root in its configuration."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for file, text in MODEL.items():
            (folder / "model" / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / "model" / file).write_bytes(text)
        (folder / "model.sig").write_text(json.dumps(bundle))
        config = {"mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
                  "trustedRoot": root,
                  "signingConfig": {
                      "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
                      "caUrls": [], "oidcUrls": [], "rekorTlogUrls": [], "tsaUrls": [],
                      "rekorTlogConfig": {"selector": "ANY"}, "tsaConfig": {"selector": "ANY"}}}
        (folder / "trust.json").write_text(json.dumps(config))
        done = subprocess.run(
            [sys.executable, "-m", "model_signing", "verify", "sigstore", str(folder / "model"),
             "--signature", str(folder / "model.sig"), "--identity", IDENTITY,
             "--identity_provider", ISSUER, "--trust_config", str(folder / "trust.json")],
            capture_output=True, text=True)
        return done.returncode, (done.stdout + done.stderr).strip().splitlines()[-1:]


def main():
    ours, others = Services("example.com"), Services("example.org")
    root, payload = ours.trusted_root(), statement()
    bundles = {
        "model": ours.bundle(payload),
        "model-rekor2": ours.bundle(payload, kind="second"),
        "data": ours.bundle(data=DATA),
        "data-rekor2": ours.bundle(data=DATA, kind="second"),
    }
    for kind, bundle in bundles.items():
        accepted(root, bundle, DATA if kind.startswith("data") else None)
        print(f"{kind}: accepted by sigstore-python")
        if kind.startswith("model"):
            print(f"{kind}: model_signing verify sigstore: {model_signing(root, bundle)}")
    late = SIGNED + dt.timedelta(minutes=11)
    bad = {
        "expired": ours.bundle(payload, stamped=late),
        "expired-rekor2": ours.bundle(payload, kind="second", stamped=late),
        "no-sct": ours.bundle(payload, sct=False),
    }
    for kind, bundle in bad.items():
        try:
            accepted(root, bundle)
        except Exception as error:  # noqa: BLE001: any refusal will do
            print(f"{kind}: refused by sigstore-python: {error}")
        else:
            sys.exit(f"{kind}: accepted by sigstore-python")
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    for kind, bundle in (bundles | bad).items():
        (OUT / f"{kind}.sigstore.json").write_text(json.dumps(bundle) + "\n")
    for file, text in {"data.jsonl": DATA, **{f"model/{it}": MODEL[it] for it in MODEL}}.items():
        (OUT / file).parent.mkdir(parents=True, exist_ok=True)
        (OUT / file).write_bytes(text)
    for kind, services in {"trusted_root": ours, "other_root": others}.items():
        (OUT / f"{kind}.json").write_text(json.dumps(services.trusted_root()) + "\n")


main()
