#!/usr/bin/env python3
"""The cases of the public OpenSSF Model Signing conformance suite, made anew and run on Firebrand.

    pip install model-signing==1.1.1 pyOpenSSL
    python tests/reference/oms_conformance.py --firebrand target/release/firebrand [--historical DIR]

The suite (sampras343/model-signing-conformance) names 59 cases that need no network: 23 that sign
and then verify, 36 that verify a stored bundle. Its files have no licence, so none of them is here:
each case is built from its published description, with keys and certificates made on the spot.
Bundles to verify are signed by PyPI `model-signing`, and what Firebrand signs is also given to
`model_signing verify`. Three kinds cannot be had from it and are imitated: bundles in the form of
the Go client, those of older versions, and those that are malformed on purpose.

With `--historical DIR`, the nine bundles of older versions are read from a folder in the layout of
sigstore/model-transparency, `scripts/tests` (`v0.2.0-certificate/model.sig` and so on), with
`public.pem` and `authority.pem` beside them.
"""
import argparse
import base64
import datetime as dt
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

TYPE = "application/vnd.in-toto+json"
CURVES = {"p256": (ec.SECP256R1, hashes.SHA256), "p384": (ec.SECP384R1, hashes.SHA384),
          "p521": (ec.SECP521R1, hashes.SHA512)}
MODELS = {
    "simple": {"signme-1": b"signme-1\n", "signme-2": b"signme-2", "ignore-me": b"x"},
    "multi-file": {"weights.bin": b"w" * 5000, "config.json": b"{}", "subdir/adapter.bin": b"a"},
    "single-file": {"model.bin": b"m"},
    "with-git-dir": {"model.bin": b"m", ".git/HEAD": b"ref", ".github/ci.yml": b"on",
                     ".gitignore": b"*", ".gitattributes": b"*"},
    "with-dotfiles": {"model.bin": b"m", ".config": b"c", ".env.example": b"e"},
    "hidden-subdir": {"model.bin": b"m", ".cache/weights.bin": b"w", ".local/share/data.bin": b"d"},
    "with-empty-file": {"signme-1": b"s", "empty.bin": b""},
    "binary-content": {"header.bin": b"\x89PNG\r\n\x1a\n\0\0", "weights.bin": bytes(range(256)) * 9},
    "unicode-names": {"weights.bin": b"w", "\u6a21\u578b.bin": b"m"},
    "special-chars": {"file (copy).bin": b"f", "path with spaces/model.bin": b"m"},
    "empty": {".gitignore": b"*"},
}
SIGNED = {"simple": ["signme-1", "signme-2"], "with-git-dir": ["model.bin"]}


class Suite:
    def __init__(self, firebrand, historical):
        self.firebrand, self.historical = firebrand, historical
        self.folder = Path(tempfile.mkdtemp(prefix="oms-"))
        self.rows = []
        self.make_keys()

    # -- keys and certificates

    def make_keys(self):
        keys = self.keys = {name: ec.generate_private_key(curve()) for name, (curve, _)
                            in CURVES.items()}
        keys["wrong"] = ec.generate_private_key(ec.SECP256R1())
        for name, key in keys.items():
            self.save(f"{name}.pem", key.private_bytes(
                ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption()))
            self.save(f"{name}.pub", key.public_key().public_bytes(
                ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo))
        root, issuing, wrong = (ec.generate_private_key(ec.SECP384R1()) for _ in range(3))
        now = dt.datetime.now(dt.timezone.utc)
        span = (now - dt.timedelta(days=1), now + dt.timedelta(days=3650))
        past = (dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 2))
        leaf = keys["p256"]
        for name, args in {
            "root": ("root", root, "root", root, True, span),
            "issuing": ("issuing", issuing, "root", root, True, span),
            "wrong-root": ("wrong", wrong, "wrong", wrong, True, span),
            "leaf": ("leaf", leaf, "issuing", issuing, False, span),
            "expired": ("leaf", leaf, "issuing", issuing, False, past),
            "self": ("self", leaf, "self", leaf, False, span),
        }.items():
            self.save(f"{name}.crt", self.certificate(*args))

    def certificate(self, subject, key, issuer, issuer_key, authority, span):
        def name(text):
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
        builder = (x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer))
                   .public_key(key.public_key()).serial_number(x509.random_serial_number())
                   .not_valid_before(span[0]).not_valid_after(span[1])
                   .add_extension(x509.BasicConstraints(authority, None), critical=True)
                   .add_extension(x509.KeyUsage(not authority, False, False, False, False,
                                                authority, authority, False, False), critical=True))
        if not authority:
            usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
            builder = builder.add_extension(usage, critical=False)
        return builder.sign(issuer_key, hashes.SHA256()).public_bytes(ser.Encoding.PEM)

    def save(self, name, data):
        (self.folder / name).write_bytes(data)

    def path(self, name):
        return str(self.folder / name)

    # -- models and commands

    def model(self, kind):
        root = Path(tempfile.mkdtemp(dir=self.folder)) / "model"
        for name, data in MODELS[kind].items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        return root

    def run(self, *arguments):
        done = subprocess.run(arguments, capture_output=True, text=True)
        self.said = (done.stdout + done.stderr).strip()
        return done.returncode == 0

    def sign(self, model, bundle, key="p256", chain=None, ignore=()):
        method = ["--method", "certificate" if chain else "key"]
        more = ["--signing-cert", self.path(chain[0])] if chain else []
        for name in (chain or [])[1:]:
            more += ["--cert-chain", self.path(name)]
        for path in ignore:
            more += ["--ignore-paths", str(model / path)]
        return self.run(self.firebrand, "sign-model", *method, "--model-path", str(model),
                        "--output-bundle", str(bundle), "--private-key", self.path(f"{key}.pem"),
                        *more)

    def verify(self, model, bundle, key="p256", roots=None, ignore=(), unsigned=False):
        more = ["--method", "certificate"] if roots else ["--method", "key", "--public-key",
                                                          self.path(f"{key}.pub")]
        for name in roots or []:
            more += ["--cert-chain", self.path(name)]
        for path in ignore:
            more += ["--ignore-paths", str(model / path)]
        more += ["--ignore-unsigned-files"] if unsigned else []
        return self.run(self.firebrand, "verify-model", "--model-path", str(model), "--bundle",
                        str(bundle), *more)

    def theirs(self, what, model, bundle, key="p256", chain=None, ignore=(), unsigned=False):
        """The reference program on the same files."""
        more = ["--signature", str(bundle)]
        if what == "sign" and chain:
            more = ["certificate", *more, "--private_key", self.path(f"{key}.pem"),
                    "--signing_certificate", self.path(chain[0])]
            for name in chain[1:]:
                more += ["--certificate_chain", self.path(name)]
        elif chain:
            more = ["certificate", *more]
            for name in chain:
                more += ["--certificate_chain", self.path(name)]
        elif what == "sign":
            more = ["key", *more, "--private_key", self.path(f"{key}.pem")]
        else:
            more = ["key", *more, "--public_key", self.path(f"{key}.pub")]
        for path in ignore:
            more += ["--ignore-paths", str(model / path)]
        more += ["--ignore_unsigned_files"] if unsigned else []
        return self.run(sys.executable, "-m", "model_signing", what, *more, str(model))

    def row(self, kind, name, right, made_by, other=""):
        self.rows.append((kind, name, right, made_by, other))
        if not right:
            print(f"  {name}: {self.said}", file=sys.stderr)

    # -- 23 cases that sign and verify

    def roundtrips(self):
        self.roundtrip("key-simple", "simple", ignore=["ignore-me"])
        self.roundtrip("certificate-simple", "simple", chain=True, ignore=["ignore-me"])
        self.roundtrip("key-multi-file", "multi-file")
        self.roundtrip("certificate-multi-file", "multi-file", chain=True)
        self.roundtrip("certificate-self-signed", "simple", chain=["self.crt", "self.crt"],
                       roots=["self.crt"], ignore=["ignore-me"])
        self.roundtrip("key-single-file", "single-file")
        self.roundtrip("key-ignore-paths", "simple", ignore=["ignore-me"])
        self.roundtrip("key-ignore-unsigned", "simple", ignore=["ignore-me"], inject=True)
        self.roundtrip("key-default-ignores", "with-git-dir")
        self.roundtrip("key-dotfile-included", "with-dotfiles")
        self.roundtrip("key-files-in-hidden-dir", "hidden-subdir")
        self.roundtrip("key-empty-file", "with-empty-file")
        self.roundtrip("key-binary-content", "binary-content")
        self.roundtrip("key-unicode-filename", "unicode-names")
        self.roundtrip("key-special-chars-path", "special-chars")
        self.roundtrip("key-p384", "simple", key="p384", ignore=["ignore-me"])
        self.roundtrip("key-p521", "simple", key="p521", ignore=["ignore-me"])
        self.roundtrip("key-simple-deterministic", "simple", ignore=["ignore-me"], again=True)
        self.roundtrip("key-sig-inside-model", "multi-file", inside=True)
        self.unsignable("key-empty-model-rejected", "empty", None)
        self.unsignable("key-symlink-default-rejected", "simple", "signme-1")
        self.unsignable("key-symlink-outside-root", "simple", "/tmp/nonexistent-target")
        self.unsignable("key-symlink-cycle", "simple", ".")

    def roundtrip(self, name, kind, key="p256", chain=None, roots=None, ignore=(), inject=False,
                  again=False, inside=False):
        chain = ["leaf.crt", "issuing.crt"] if chain is True else chain
        roots = roots or (["root.crt"] if chain else None)
        model = self.model(kind)
        bundle = (model if inside else model.parent) / "bundle.sig"
        right = self.sign(model, bundle, key, chain, ignore)
        if right:
            right = self.well_formed(bundle, model, kind, ignore, chain)
        if inject:
            (model / "injected.bin").write_text("later")
        right = right and self.verify(model, bundle, key, roots, ignore, inject)
        other = right and self.theirs("verify", model, bundle, key, roots, ignore, inject)
        if again:
            second = model.parent / "second.sig"
            right = right and self.sign(model, second, key, chain, ignore)
            right = right and second.read_bytes() == bundle.read_bytes()
        self.row("roundtrip", name, right, "Firebrand", "accepts" if other else "rejects")

    def unsignable(self, name, kind, link):
        model = self.model(kind)
        if link:
            os.symlink(link, model / "link")
        right = not self.sign(model, model.parent / "bundle.sig")
        self.row("roundtrip", name, right and not (model.parent / "bundle.sig").exists(), "-")

    def well_formed(self, path, model, kind, ignore, chain):
        """What the suite asks of every new bundle."""
        bundle = json.loads(path.read_text())
        statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        resources = statement["predicate"]["resources"]
        names = [it["name"] for it in resources]
        root = hashlib.sha256(b"".join(bytes.fromhex(it["digest"]) for it in resources)).hexdigest()
        wanted = SIGNED.get(kind) or sorted(MODELS[kind])
        material = bundle["verificationMaterial"]
        checks = {
            "payload type": bundle["dsseEnvelope"]["payloadType"] == TYPE,
            "statement": statement["_type"] == "https://in-toto.io/Statement/v1",
            "predicate": statement["predicateType"] == "https://model_signing/signature/v1.0",
            "one subject": [it["name"] for it in statement["subject"]] == [model.name],
            "root digest": statement["subject"][0]["digest"] == {"sha256": root},
            "sorted": names == sorted(names),
            "files": names == wanted,
            "fields": all(set(it) == {"name", "algorithm", "digest"} for it in resources),
            "serialization": {"method", "hash_type", "allow_symlinks"}
                             <= set(statement["predicate"]["serialization"])
                             and "shard_size" not in statement["predicate"]["serialization"],
            "material": ("x509CertificateChain" if chain else "publicKey") in material,
        }
        wrong = [what for what, holds in checks.items() if not holds]
        self.said = f"bundle: {wrong}"
        return not wrong

    # -- 36 cases that verify what others have signed

    def stored(self, kind, key="p256", chain=None, ignore=()):
        """A model and a bundle by the reference program."""
        model = self.model(kind)
        bundle = model.parent / "bundle.sig"
        assert self.theirs("sign", model, bundle, key, chain, ignore), self.said
        return model, bundle

    def positives(self):
        chain, roots, ignore = ["leaf.crt", "issuing.crt"], ["root.crt"], ["ignore-me"]
        self.accepts("key-simple", *self.stored("simple", ignore=ignore), ignore=ignore)
        self.accepts("certificate-simple", *self.stored("simple", chain=chain, ignore=ignore),
                     roots=roots, ignore=ignore)
        self.accepts("key-multi-file", *self.stored("multi-file", "p384"), key="p384")
        self.accepts("key-ignore-paths", *self.stored("simple", ignore=ignore), ignore=ignore)
        self.accepts("key-single-file", *self.stored("single-file"))
        model, bundle = self.stored("simple", ignore=ignore)
        (model / "extra.bin").write_text("later")
        self.accepts("key-simple-ignore-unsigned-files", model, bundle, ignore=ignore, unsigned=True)
        for name, certified in [("key-simple-go", False), ("certificate-simple-go", True)]:
            model, bundle = self.like_go(certified)
            self.accepts(name, model, bundle, roots=roots if certified else None, ignore=ignore,
                         made_by="imitated")

    def accepts(self, name, model, bundle, kind="positive", made_by="model-signing", **more):
        self.row(kind, name, self.verify(model, bundle, **more), made_by)

    def like_go(self, certified):
        model, bundle = self.stored("simple", chain=["leaf.crt", "issuing.crt"] if certified else None,
                                    ignore=["ignore-me"])
        value = json.loads(bundle.read_text())
        statement = json.loads(base64.b64decode(value["dsseEnvelope"]["payload"]))
        self.seal(value, json.dumps(statement, separators=(", ", ":")).encode())
        del value["dsseEnvelope"]["signatures"][0]["keyid"]
        bundle.write_text(json.dumps(value, separators=(",", ":")))
        return model, bundle

    def seal(self, bundle, payload, key="p256", kind=TYPE, digest=None, pae=None):
        pae = pae or b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
        signature = self.keys[key].sign(pae, ec.ECDSA((digest or CURVES[key][1])()))
        bundle["dsseEnvelope"] = {
            "payload": base64.b64encode(payload).decode(), "payloadType": kind,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": None}]}

    def history(self):
        for version in ["v0.2.0", "v0.3.1", "v1.0.0", "v1.0.1", "v1.1.0"]:
            for kind in ["elliptic-key", "certificate"]:
                if (version, kind) == ("v0.2.0", "elliptic-key"):
                    continue
                name = f"{version}-{kind}"
                if self.historical:
                    self.real(name, version, kind)
                else:
                    self.imitated(name, version, kind)

    def real(self, name, version, kind):
        root = Path(tempfile.mkdtemp(dir=self.folder)) / "model"
        shutil.copytree(self.historical / name, root)
        shutil.copy(self.historical / "public.pem", self.path("old.pub"))
        shutil.copy(self.historical / "authority.pem", self.path("old.crt"))
        bundle = root / "model.sig"
        single = kind == "elliptic-key" and version in ("v0.3.1", "v1.0.0")
        roots = ["old.crt"] if kind == "certificate" else None
        self.accepts(f"historical-{name}", root / "signme-1" if single else root, bundle,
                     "historical", "its own signer", key="old", roots=roots,
                     ignore=[] if single else ["ignore-me"])

    def imitated(self, name, version, kind):
        model = self.model("simple")
        bundle = model.parent / "bundle.sig"
        digests = {it: hashlib.sha256(MODELS["simple"][it]).hexdigest() for it in SIGNED["simple"]}
        single = kind == "elliptic-key" and version in ("v0.3.1", "v1.0.0")
        if single:
            digests = {".": digests["signme-1"]}
        root = hashlib.sha256(b"".join(bytes.fromhex(it) for it in digests.values())).hexdigest()
        serialization = {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
        if version == "v1.1.0":
            serialization["ignore_paths"] = ["ignore-me", ".git", ".gitignore"]
        statement = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": name, "digest": {"sha256": root}}],
            "predicateType": "https://model_signing/signature/v1.0",
            "predicate": {"serialization": serialization, "resources": [
                {"name": it, "algorithm": "sha256", "digest": digests[it]} for it in digests]}}
        old = {}
        if version == "v0.2.0":
            statement["subject"] = [
                {"name": it, "digest": {"sha256": digests[it]},
                 "annotations": {"actual_hash_algorithm": "file-sha256"}} for it in digests]
            statement["predicateType"] = "https://model_signing/Digests/v0.1"
            statement["predicate"] = {"unused": "Unused"}
        payload = json.dumps(statement, indent=2).encode()
        if version == "v0.2.0":
            shown = f"DSSEV1 {len(TYPE)} {TYPE} {len(payload)} {payload}".encode()
            old = {"digest": hashes.SHA256, "pae": shown}
        value = {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}
        if kind == "certificate":
            raw = [base64.b64encode(x509.load_pem_x509_certificate((self.folder / it).read_bytes())
                   .public_bytes(ser.Encoding.DER)).decode() for it in ["leaf.crt", "issuing.crt"]]
            material = {"x509CertificateChain": {"certificates": [{"rawBytes": it} for it in raw]}}
        elif version == "v1.1.0":
            hint = hashlib.sha256((self.folder / "p384.pub").read_bytes()).hexdigest()
            material = {"publicKey": {"hint": hint}, "tlogEntries": []}
        else:
            raw = base64.b64encode((self.folder / "p384.pub").read_bytes()).decode()
            material = {"publicKey": {"rawBytes": raw, "keyDetails": "PKIX_ECDSA_P384_SHA_384"}}
        value["verificationMaterial"] = material
        key = "p256" if kind == "certificate" else "p384"
        self.seal(value, payload, key, **old)
        bundle.write_text(json.dumps(value))
        self.accepts(f"historical-{name}", model / "signme-1" if single else model, bundle,
                     "historical", "imitated", key=key,
                     roots=["root.crt"] if kind == "certificate" else None,
                     ignore=[] if single else ["ignore-me"])

    def negatives(self):
        ignore, chain = ["ignore-me"], ["leaf.crt", "issuing.crt"]

        def case(name, change=None, bend=None, made_by="model-signing", restate=None, chain=None,
                 **more):
            model, bundle = self.stored("simple", chain=chain, ignore=ignore)
            roots = ["root.crt"] if chain else None
            assert self.verify(model, bundle, roots=roots, ignore=ignore), self.said
            if change:
                change(model)
            if bend:
                bundle.write_bytes(bend(bundle.read_bytes()))
            if restate:
                value = json.loads(bundle.read_text())
                statement = json.loads(base64.b64decode(value["dsseEnvelope"]["payload"]))
                kind = restate(statement) or TYPE
                self.seal(value, json.dumps(statement).encode(), kind=kind)
                bundle.write_text(json.dumps(value))
                made_by = "imitated"
            more = {"ignore": ignore, "roots": roots} | more
            self.row("negative", name, not self.verify(model, bundle, **more), made_by)

        def edit(change):
            def bend(data):
                value = json.loads(data)
                change(value)
                return json.dumps(value).encode()
            return bend

        case("key-simple-tampered-content_fail", lambda m: (m / "signme-1").write_text("other"))
        case("key-simple-wrong-key_fail", key="wrong")
        case("key-simple-missing-file_fail", lambda m: (m / "signme-2").unlink())
        case("key-simple-extra-file_fail", lambda m: (m / "injected.bin").write_text("x"))
        case("certificate-simple-wrong-ca_fail", chain=chain, roots=["wrong-root.crt"])
        case("key-simple-corrupted-bundle_fail", bend=lambda data: b"not json" + data[20:])
        case("key-simple-truncated-bundle_fail", bend=lambda data: data[:100])
        case("key-simple-wrong-mediatype_fail", bend=edit(lambda b: b.update(
            mediaType="application/vnd.dev.sigstore.bundle.v0.1+json")))
        case("key-simple-no-signature_fail",
             bend=edit(lambda b: b["dsseEnvelope"].update(signatures=[])))
        case("malformed-empty-bundle_fail", bend=lambda data: b"")
        case("malformed-missing-envelope_fail", bend=edit(lambda b: b.pop("dsseEnvelope")))
        case("malformed-wrong-predicate_fail",
             restate=lambda s: s.update(predicateType="https://example.com/wrong"))
        model, bundle = self.stored("simple", chain=chain, ignore=ignore)
        value = json.loads(bundle.read_text())
        old = x509.load_pem_x509_certificate((self.folder / "expired.crt").read_bytes())
        raw = base64.b64encode(old.public_bytes(ser.Encoding.DER)).decode()
        certificates = value["verificationMaterial"]["x509CertificateChain"]["certificates"]
        certificates[0]["rawBytes"] = raw
        bundle.write_text(json.dumps(value))
        self.row("negative", "certificate-expired_fail", not self.verify(
            model, bundle, roots=["root.crt"], ignore=ignore) and "expired" in self.said,
            "imitated")
        case("key-verify-as-certificate_fail", roots=["root.crt"])
        case("malformed-empty-resources_fail",
             restate=lambda s: s["predicate"].update(resources=[]))
        case("malformed-no-predicate_fail", restate=lambda s: s.pop("predicate") and None)
        case("malformed-no-subject_fail", restate=lambda s: s.update(subject=[]))
        case("malformed-wrong-payload-type_fail", restate=lambda s: "application/json")
        case("malformed-wrong-statement-type_fail",
             restate=lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--firebrand", required=True)
    parser.add_argument("--historical", type=Path)
    arguments = parser.parse_args()
    suite = Suite(arguments.firebrand, arguments.historical)
    try:
        suite.roundtrips()
        suite.positives()
        suite.history()
        suite.negatives()
    finally:
        shutil.rmtree(suite.folder, ignore_errors=True)
    print(f"{'kind':<11} {'case':<44} {'as expected':<12} {'bundle by':<15} model_signing verify")
    for kind, name, right, made_by, other in suite.rows:
        print(f"{kind:<11} {name:<44} {'yes' if right else 'NO':<12} {made_by:<15} {other}")
    passed = sum(right for _, _, right, _, _ in suite.rows)
    print(f"\n{passed} of {len(suite.rows)} as expected")
    for made_by in sorted({it[3] for it in suite.rows}):
        of = [it for it in suite.rows if it[3] == made_by]
        print(f"  bundle by {made_by}: {sum(it[2] for it in of)} of {len(of)}")
    refused = [it[1] for it in suite.rows if it[4] == "rejects"]
    print(f"  ours, refused by model_signing: {refused or 'none'}")
    sys.exit(passed != len(suite.rows))


main()
