//! Tests of certificate chains: every way to lead to an authority, and every way not to.

use std::path::{Path, PathBuf};

use super::*;
use crate::snapshots::says;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/certificates").join(name)
}

fn certificates(name: &str) -> Vec<Certificate> {
    Certificate::all_from_file(&fixture(name)).unwrap()
}

fn now() -> Timestamp {
    "2030-06-01T00:00:00Z".parse().unwrap()
}

fn check_with(chain: &str, root: &str, reading: Reading) -> Result<usize, String> {
    let (chain, roots) = (certificates(&format!("{chain}.chain.pem")), certificates(root));
    anchor(&chain, &roots.iter().collect::<Vec<_>>(), now(), reading)
}

fn check(chain: &str) -> Result<usize, String> {
    check_with(chain, "root.pem", Reading::Strict)
}

#[test]
fn chains_that_lead_to_the_root_count() {
    for chain in ["good", "whole", "p384", "p521", "usage-only", "code-only", "deep"] {
        assert_eq!(check(chain), Ok(0), "{chain}");
    }
    assert_eq!(check_with("rsa", "rsa-root.pem", Reading::Strict), Ok(0));
    // An authority in the middle can be trusted by itself, and so can a single signer.
    assert_eq!(check_with("good", "issuing.pem", Reading::Strict), Ok(0));
    assert_eq!(check_with("self", "self.chain.pem", Reading::Strict), Ok(0));
    let good = certificates("good.chain.pem");
    assert_eq!(anchor(&good, &[&good[0]], now(), Reading::Strict), Ok(0));
    // The authority that vouches is told, whatever else is trusted.
    let roots = [certificates("rsa-root.pem"), certificates("root.pem")].concat();
    assert_eq!(anchor(&good, &roots.iter().collect::<Vec<_>>(), now(), Reading::Strict), Ok(1));
}

#[test]
fn every_link_must_hold() {
    let mut messages = String::new();
    for chain in [
        "expired",
        "future",
        "expired-issuing",
        "no-usage",
        "tls",
        "no-signing",
        "authority",
        "no-authority",
        "no-constraints",
        "no-cert-sign",
        "tls-issuing",
        "too-deep",
        "names",
        "critical",
        "forged",
        "other-issuer",
        "sha3",
        "rsa",
        "self",
    ] {
        let found = check(chain).unwrap_err();
        messages += &format!("{chain}: {found}\n");
    }
    says(
        messages,
        snapbox::str![[r#"
expired: `CN=Release,O=Example` expired on 2021-01-01T00:00:00Z
future: `CN=Release,O=Example` is valid from 2119-01-01T00:00:00Z on
expired-issuing: `CN=Issuing,O=Example` expired on 2021-01-01T00:00:00Z
no-usage: `CN=Release,O=Example` does not say that it may sign models
tls: `CN=Release,O=Example` is not for code signing (extended key usage)
no-signing: `CN=Release,O=Example` may not sign data (key usage)
authority: `CN=Release,O=Example` is the certificate of an authority, not of a signer
no-authority: `CN=Issuing,O=Example` is not a certificate authority: it may not sign other certificates
no-constraints: `CN=Issuing,O=Example` is not a certificate authority: it may not sign other certificates
no-cert-sign: `CN=Issuing,O=Example` is not a certificate authority: it may not sign other certificates
tls-issuing: `CN=Issuing,O=Example` may not certify code signing (extended key usage)
too-deep: `CN=Issuing,O=Example` may have at most 0 authorities below it, not 1
names: `CN=Issuing,O=Example`: the extension 2.5.29.30 is not supported
critical: `CN=Release,O=Example`: the extension 1.3.6.1.4.[NUMBER].1 is not supported
forged: `CN=Release,O=Example` is not signed by `CN=Issuing,O=Example`
other-issuer: `CN=Release,O=Example` is issued by `CN=Somebody,O=Example`
sha3: `CN=Release,O=Example` is signed by an algorithm that is not supported (2.16.840.1.101.3.4.3.10)
rsa: it is issued by `CN=RSA Root,O=Example`, which is not among the authorities that you trust (1)
self: `CN=Alone,O=Example` is the certificate of an authority, not of a signer

"#]],
    );
}

#[test]
fn order_and_completeness_count() {
    let (root, good) = (certificates("root.pem"), certificates("good.chain.pem"));
    let fails = |chain: &[Certificate], roots: &[&Certificate], part: &str| {
        let found = anchor(chain, roots, now(), Reading::Strict).unwrap_err();
        assert!(found.contains(part), "{found}");
    };
    fails(&good[..1], &[&root[0]], "issued by `CN=Issuing,O=Example`");
    fails(&[good[1].clone(), good[0].clone()], &[&root[0]], "does not say that it may sign");
    fails(&[good[0].clone(), root[0].clone()], &[&root[0]], "is issued by `CN=Issuing");
    fails(&good, &[], "you trust no authority");
    fails(&[], &[&root[0]], "there is no certificate");
}

#[test]
fn an_authority_that_has_expired_vouches_for_nobody() {
    let (root, good) = (certificates("root.pem"), certificates("good.chain.pem"));
    let later = "2121-01-01T00:00:00Z".parse().unwrap();
    let found = anchor(&good, &[&root[0]], later, Reading::Strict).unwrap_err();
    says(&found, snapbox::str!["`CN=Release,O=Example` expired on 2120-01-01T00:00:00Z"]);
    let old = certificates("expired-issuing.chain.pem");
    let found = anchor(&old[..1], &[&old[1]], now(), Reading::Strict).unwrap_err();
    says(&found, snapbox::str!["`CN=Issuing,O=Example` expired on 2021-01-01T00:00:00Z"]);
    let early = "2019-12-31T23:59:59Z".parse().unwrap();
    assert!(anchor(&good, &[&root[0]], early, Reading::Strict).is_err());
}

#[test]
fn the_standards_reading_asks_less_of_the_signer_and_nothing_less_of_the_chain() {
    let standard = |chain: &str| check_with(chain, "root.pem", Reading::Standard);
    for chain in ["good", "authority", "tls", "no-signing"] {
        assert_eq!(standard(chain), Ok(0), "{chain}");
    }
    for chain in ["expired", "future", "no-usage", "no-authority", "forged", "too-deep", "critical"]
    {
        assert!(standard(chain).is_err(), "{chain}");
    }
}

#[test]
fn damaged_certificates_are_errors() {
    let der = certificates("good.chain.pem")[0].der().to_vec();
    assert!(Certificate::from_der(&der[..der.len() - 1]).is_err());
    assert!(Certificate::from_der(&[&der[..], &[0]].concat()).is_err());
    says(
        Certificate::from_der(&vec![0; 100_000]).unwrap_err(),
        snapbox::str!["a certificate has more than 65536 bytes"],
    );
    // One bit anywhere: unreadable, or no longer signed.
    let root = certificates("root.pem");
    let issuing = certificates("good.chain.pem")[1].clone();
    for place in (0..der.len()).step_by(7) {
        let mut bent = der.clone();
        bent[place] ^= 1;
        let Ok(leaf) = Certificate::from_der(&bent) else { continue };
        let chain = [leaf, issuing.clone()];
        assert!(anchor(&chain, &[&root[0]], now(), Reading::Strict).is_err(), "byte {place}");
    }
    assert!(Certificate::all_from_pem("no").is_err());
    let text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(Certificate::all_from_pem(text).is_err());
}
