#!/usr/bin/env python3
"""Makes tests/fixtures/certificates: chains that lead to an authority, and chains that must not.

    python tests/reference/certificates.py     (needs `cryptography`; keys are new each time)

Each `NAME.chain.pem` holds the signer's certificate first. All but two are for the key in
`release.key.pem`.
"""
import datetime as dt
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID as EKU, NameOID

OUT = Path(__file__).parents[1] / "fixtures" / "certificates"
CODE, TLS = EKU.CODE_SIGNING, EKU.SERVER_AUTH
USES = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"),
                      x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(subject, key, issuer, issuer_key, *, ca=None, path=None, usage=None, eku=None,
                years=(2020, 2120), hash_=hashes.SHA256(), extra=()):
    builder = (x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer))
               .public_key(key.public_key()).serial_number(x509.random_serial_number())
               .not_valid_before(dt.datetime(years[0], 1, 1))
               .not_valid_after(dt.datetime(years[1], 1, 1)))
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, path), critical=True)
    if usage is not None:
        flags = {use: use in usage for use in USES}
        builder = builder.add_extension(x509.KeyUsage(**flags), critical=True)
    if eku is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(eku), critical=False)
    for extension, critical in extra:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer_key, hash_)


def pem(*certificates):
    return b"".join(it.public_bytes(ser.Encoding.PEM) for it in certificates)


def private(key):
    return key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption())


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    p256, p384, p521 = (ec.generate_private_key(c) for c in
                        (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()))
    root_key, issuing_key, other = (ec.generate_private_key(c) for c in
                                    (ec.SECP384R1(), ec.SECP256R1(), ec.SECP256R1()))
    rsa_key = rsa.generate_private_key(65537, 2048)
    signs, authority = ["digital_signature"], ["key_cert_sign", "crl_sign"]
    root = certificate("Root", root_key, "Root", root_key, ca=True, usage=authority,
                       hash_=hashes.SHA384())
    rsa_root = certificate("RSA Root", rsa_key, "RSA Root", rsa_key, ca=True, usage=authority)

    def issuing(subject="Issuing", key=issuing_key, by=("Root", root_key), **more):
        settings = dict(ca=True, path=0, usage=authority, hash_=hashes.SHA384()) | more
        return certificate(subject, key, *by, **settings)

    def leaf(key=p256, by=("Issuing", issuing_key), **more):
        settings = dict(ca=False, usage=signs, eku=[CODE]) | more
        return certificate("Release", key, *by, **settings)

    good = issuing()
    free = ("Issuing", issuing_key)
    constraints = x509.NameConstraints([x509.DNSName("example.org")], None)
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.32473.1"), b"\x05\0")
    deep = issuing("Deeper", other, free)
    chains = {
        "good": [leaf(), good],
        "whole": [leaf(), good, root],
        "rsa": [leaf(), issuing(by=("RSA Root", rsa_key), hash_=hashes.SHA256())],
        "p384": [leaf(p384, hash_=hashes.SHA256()), good],
        "p521": [leaf(p521, hash_=hashes.SHA512()), good],
        "usage-only": [leaf(eku=None), good],
        "code-only": [leaf(usage=None), good],
        "expired": [leaf(years=(2020, 2021)), good],
        "future": [leaf(years=(2119, 2120)), good],
        "expired-issuing": [leaf(), issuing(years=(2020, 2021))],
        "no-usage": [leaf(usage=None, eku=None), good],
        "tls": [leaf(eku=[TLS]), good],
        "no-signing": [leaf(usage=["key_agreement"]), good],
        "authority": [leaf(ca=True), good],
        "no-authority": [leaf(), issuing(ca=False, path=None)],
        "no-constraints": [leaf(), issuing(ca=None)],
        "no-cert-sign": [leaf(), issuing(usage=["digital_signature"])],
        "tls-issuing": [leaf(), issuing(eku=[TLS])],
        "too-deep": [leaf(by=("Deeper", other)), deep, good],
        "deep": [leaf(by=("Deeper", other)), deep, issuing(path=1)],
        "names": [leaf(), issuing(extra=[(constraints, False)])],
        "critical": [leaf(extra=[(unknown, True)]), good],
        "forged": [leaf(by=("Issuing", other)), good],
        "other-issuer": [leaf(by=("Somebody", issuing_key)), good],
        "sha3": [leaf(hash_=hashes.SHA3_256()), good],
        "self": [certificate("Alone", p256, "Alone", p256, ca=True, usage=signs)],
    }
    for title, certificates in chains.items():
        (OUT / f"{title}.chain.pem").write_bytes(pem(*certificates))
    (OUT / "root.pem").write_bytes(pem(root))
    (OUT / "rsa-root.pem").write_bytes(pem(rsa_root))
    (OUT / "issuing.pem").write_bytes(pem(good))
    for title, key in {"release": p256, "p384": p384, "p521": p521}.items():
        (OUT / f"{title}.key.pem").write_bytes(private(key))


main()
