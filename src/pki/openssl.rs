//! Tests that let the real `openssl` judge what we sign.

use super::{Issuer, KeySource, create_authority, crl, issue_client, issue_server};
use crate::clock::Clock;
use crate::entropy::Entropy;
use chrono::{DateTime, TimeDelta, Utc};
use gatekey_aggregates::values::{RevocationReason, VpnServerId};
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

struct Desk {
    dir: TempDir,
    now: DateTime<Utc>,
    entropy: Entropy,
    issuer: Issuer,
}

impl Desk {
    fn new() -> Self {
        let clock = Clock::system();
        let (now, entropy) = (clock.now(), Entropy::system(clock));
        let made = create_authority(now, &entropy).unwrap();
        let issuer = Issuer::load(&made.certificate_pem, &made.key_pem).unwrap();
        let desk = Self { dir: tempfile::tempdir().unwrap(), now, entropy, issuer };
        desk.put("ca.pem", &made.certificate_pem);
        desk
    }

    fn put(&self, name: &str, contents: &str) {
        std::fs::write(self.dir.path().join(name), contents).unwrap();
    }

    fn openssl(&self, arguments: &str) -> Output {
        openssl(self.dir.path(), arguments)
    }

    /// Runs it, and gives what it printed. It must succeed.
    fn ok(&self, arguments: &str) -> String {
        let output = self.openssl(arguments);
        let printed = printed(&output);
        assert!(output.status.success(), "openssl {arguments}: {printed}");
        printed
    }

    /// Runs it, and gives what it printed. It must fail.
    fn refused(&self, arguments: &str) -> String {
        let output = self.openssl(arguments);
        let printed = printed(&output);
        assert!(!output.status.success(), "openssl {arguments}: {printed}");
        printed
    }
}

fn openssl(dir: &Path, arguments: &str) -> Output {
    Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output().unwrap()
}

fn printed(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn openssl_verifies_both_kinds_each_for_its_own_purpose() {
    let desk = Desk::new();
    let name = "ada@example.com".parse().unwrap();
    let day = TimeDelta::hours(24);
    let client =
        issue_client(&desk.issuer, &name, day, KeySource::Generate, desk.now, &desk.entropy)
            .unwrap();
    let gateway = VpnServerId::Gateway("gw-001".parse().unwrap());
    let server = issue_server(&desk.issuer, &gateway, day, desk.now, &desk.entropy).unwrap();
    desk.put("client.pem", &client.certificate_pem);
    desk.put("server.pem", &server.certificate_pem);

    let strict = "verify -x509_strict -check_ss_sig -CAfile ca.pem -purpose";
    desk.ok(&format!("{strict} sslclient client.pem"));
    desk.ok(&format!("{strict} sslserver server.pem"));
    desk.ok(&format!("{strict} sslserver -verify_hostname gw-001 server.pem"));
    desk.refused(&format!("{strict} sslserver client.pem"));
    desk.refused(&format!("{strict} sslclient server.pem"));

    // Good for a day, and not for a day and a minute.
    desk.ok("x509 -in client.pem -noout -checkend 86300");
    desk.refused("x509 -in client.pem -noout -checkend 86460");
    let printed = desk.ok("x509 -in client.pem -noout -serial -fingerprint -sha256");
    assert!(printed.to_lowercase().contains(&format!("serial={}", client.serial)), "{printed}");
    assert!(printed.replace(':', "").to_lowercase().contains(&client.fingerprint), "{printed}");
}

#[test]
fn openssl_finds_the_key_in_order_and_its_own() {
    let desk = Desk::new();
    let gateway = VpnServerId::Gateway("gw-001".parse().unwrap());
    let server =
        issue_server(&desk.issuer, &gateway, TimeDelta::days(1), desk.now, &desk.entropy).unwrap();
    desk.put("server.pem", &server.certificate_pem);
    desk.put("server.key", &server.key_pem.unwrap());
    desk.ok("pkey -in server.key -check -noout");
    let of_key = desk.ok("pkey -in server.key -pubout");
    assert_eq!(of_key, desk.ok("x509 -in server.pem -noout -pubkey"));
}

#[test]
fn openssl_refuses_a_revoked_certificate_and_no_other() {
    let desk = Desk::new();
    let name = "ada@example.com".parse().unwrap();
    let issue = || {
        let day = TimeDelta::hours(24);
        issue_client(&desk.issuer, &name, day, KeySource::Generate, desk.now, &desk.entropy)
            .unwrap()
    };
    let (revoked, good) = (issue(), issue());
    desk.put("revoked.pem", &revoked.certificate_pem);
    desk.put("good.pem", &good.certificate_pem);
    let check = "verify -crl_check -x509_strict -CAfile ca.pem -CRLfile crl.pem";
    let week = desk.now + TimeDelta::days(7);

    let crl = crl::sign(&desk.issuer, 1, desk.now, week, []).unwrap();
    desk.put("crl.pem", &crl.pem);
    desk.ok(&format!("{check} good.pem"));
    desk.ok(&format!("{check} revoked.pem"));

    let entry = (revoked.serial, desk.now, RevocationReason::KeyCompromise);
    let crl = crl::sign(&desk.issuer, 2, desk.now, week, [entry]).unwrap();
    desk.put("crl.pem", &crl.pem);
    std::fs::write(desk.dir.path().join("crl.der"), &crl.der).unwrap();
    desk.ok(&format!("{check} good.pem"));
    let why = desk.refused(&format!("{check} revoked.pem"));
    assert!(why.contains("certificate revoked"), "{why}");
    let text = desk.ok("crl -inform DER -in crl.der -noout -text -CAfile ca.pem");
    assert!(text.contains("verify OK") && text.contains("Key Compromise"), "{text}");
}

#[test]
fn a_list_of_another_authority_does_not_verify() {
    let (desk, other) = (Desk::new(), Desk::new());
    let week = desk.now + TimeDelta::days(7);
    desk.put("crl.pem", &crl::sign(&other.issuer, 1, desk.now, week, []).unwrap().pem);
    let said = printed(&desk.openssl("crl -in crl.pem -noout -CAfile ca.pem"));
    assert!(said.contains("Error getting CRL issuer certificate"), "{said}");
}

#[test]
fn requests_of_openssl_are_taken_by_their_keys_strength() {
    let desk = Desk::new();
    let accepted = [
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384",
        "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048",
        "genpkey -algorithm ED25519",
    ];
    let refused = [
        "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024",
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521",
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1",
        "genpkey -algorithm ED448",
    ];
    let name = "ada@example.com".parse().unwrap();
    let sign = |request: &str| {
        let key = KeySource::Csr(request);
        issue_client(&desk.issuer, &name, TimeDelta::hours(1), key, desk.now, &desk.entropy)
    };
    // A P-256 key may sign its request with SHA-384: the key's kind is the key's, not the digest's.
    for digest in ["", " -sha256", " -sha384"] {
        for kind in accepted {
            if !digest.is_empty() && kind.contains("ED25519") {
                continue;
            }
            desk.ok(&format!("{kind} -out key.pem"));
            desk.ok(&format!(
                "req -new -key key.pem -subj /CN=root -text -out csr.pem{digest} -addext keyUsage=keyCertSign"
            ));
            let request = std::fs::read_to_string(desk.dir.path().join("csr.pem")).unwrap();
            let issued = sign(&request).unwrap_or_else(|error| panic!("{kind}{digest}: {error}"));
            desk.put("client.pem", &issued.certificate_pem);
            desk.ok("verify -x509_strict -CAfile ca.pem -purpose sslclient client.pem");
            let of_key = desk.ok("pkey -in key.pem -pubout");
            assert_eq!(of_key, desk.ok("x509 -in client.pem -noout -pubkey"), "{kind}{digest}");
        }
    }
    for kind in refused {
        desk.ok(&format!("{kind} -out key.pem"));
        desk.ok("req -new -key key.pem -subj /CN=root -out csr.pem");
        let request = std::fs::read_to_string(desk.dir.path().join("csr.pem")).unwrap();
        assert!(sign(&request).is_err(), "{kind}");
    }
}

#[test]
fn a_request_signed_with_sha_1_is_refused() {
    let desk = Desk::new();
    desk.ok("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key.pem");
    desk.ok("req -new -sha1 -key key.pem -subj /CN=root -out csr.pem");
    let request = std::fs::read_to_string(desk.dir.path().join("csr.pem")).unwrap();
    let refused = super::csr::public_key(&request);
    assert_eq!(refused, Err(super::CsrError::Signature));
}
