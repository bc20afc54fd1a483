//! The three crypto profiles in OpenVPN's words.

use gatekey_aggregates::values::CryptoProfile;

/// What a profile means. Both ends get the same lines: another `auth` at one of them makes the
/// connection time out without a word, and no common data cipher makes it fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suite {
    /// `data-ciphers`, best first.
    pub data_ciphers: &'static str,
    /// What a peer gets that cannot negotiate (before 2.4).
    pub data_ciphers_fallback: Option<&'static str>,
    /// The digest of `tls-auth`, and of data ciphers that are not AEAD.
    pub auth: &'static str,
    /// The control channel's suites up to TLS 1.2; none: the library's own choice.
    pub tls_cipher: Option<&'static str>,
    /// The control channel's suites of TLS 1.3.
    pub tls_ciphersuites: Option<&'static str>,
    /// The control channel's key exchange.
    pub tls_groups: Option<&'static str>,
}

const MODERN: Suite = Suite {
    data_ciphers: "AES-256-GCM:CHACHA20-POLY1305",
    data_ciphers_fallback: None,
    auth: "SHA256",
    tls_cipher: Some(
        "TLS-ECDHE-ECDSA-WITH-AES-256-GCM-SHA384:TLS-ECDHE-ECDSA-WITH-CHACHA20-POLY1305-SHA256:TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256",
    ),
    tls_ciphersuites: Some(
        "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256",
    ),
    tls_groups: Some("X25519:secp256r1:secp384r1"),
};

const FIPS: Suite = Suite {
    data_ciphers: "AES-256-GCM:AES-128-GCM",
    data_ciphers_fallback: None,
    auth: "SHA384",
    tls_cipher: Some(
        "TLS-ECDHE-ECDSA-WITH-AES-256-GCM-SHA384:TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256",
    ),
    tls_ciphersuites: Some("TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"),
    tls_groups: Some("secp384r1:secp256r1"),
};

const COMPATIBLE: Suite = Suite {
    data_ciphers: "AES-256-GCM:CHACHA20-POLY1305:AES-256-CBC",
    data_ciphers_fallback: Some("AES-256-CBC"),
    auth: "SHA256",
    tls_cipher: None,
    tls_ciphersuites: None,
    tls_groups: None,
};

/// The suite of a profile.
pub fn suite(profile: CryptoProfile) -> &'static Suite {
    match profile {
        CryptoProfile::Modern => &MODERN,
        CryptoProfile::Fips => &FIPS,
        CryptoProfile::Compatible => &COMPATIBLE,
    }
}

impl Suite {
    /// The directives, the same for a server and for a client.
    pub fn directives(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(fallback) = self.data_ciphers_fallback {
            // 2.4 knows neither of the two, and would refuse the whole file.
            lines.push("ignore-unknown-option data-ciphers data-ciphers-fallback".to_owned());
            lines.push(format!("data-ciphers {}", self.data_ciphers));
            lines.push(format!("data-ciphers-fallback {fallback}"));
            lines.push(format!("cipher {fallback}"));
        } else {
            lines.push(format!("data-ciphers {}", self.data_ciphers));
        }
        lines.push(format!("auth {}", self.auth));
        lines.push("tls-version-min 1.2".to_owned());
        let optional = [
            ("tls-cipher", self.tls_cipher),
            ("tls-ciphersuites", self.tls_ciphersuites),
            ("tls-groups", self.tls_groups),
        ];
        for (directive, value) in optional {
            lines.extend(value.map(|value| format!("{directive} {value}")));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fips_is_aes_gcm_and_nist_curves_only() {
        let suite = suite(CryptoProfile::Fips);
        assert!(suite.data_ciphers.split(':').all(|it| it.ends_with("-GCM")));
        let suites = [suite.tls_cipher.unwrap(), suite.tls_ciphersuites.unwrap()];
        for name in suites.iter().flat_map(|it| it.split(':')) {
            assert!(name.contains("AES") && name.contains("GCM"), "{name}");
        }
        assert!(suite.tls_groups.unwrap().split(':').all(|it| it.starts_with("secp")));
    }

    #[test]
    fn modern_has_nothing_but_aead() {
        let suite = suite(CryptoProfile::Modern);
        for name in suite.data_ciphers.split(':').chain(suite.tls_cipher.unwrap().split(':')) {
            assert!(name.contains("GCM") || name.contains("POLY1305"), "{name}");
        }
    }

    #[test]
    fn what_the_gateway_scripts_ship_is_the_same() {
        for profile in [CryptoProfile::Modern, CryptoProfile::Fips, CryptoProfile::Compatible] {
            let path = format!(
                "{}/deploy/openvpn/crypto/{}.conf",
                env!("CARGO_MANIFEST_DIR"),
                profile.as_str()
            );
            let shipped = std::fs::read_to_string(&path).unwrap();
            let shipped: Vec<&str> =
                shipped.lines().filter(|it| !it.is_empty() && !it.starts_with('#')).collect();
            assert_eq!(shipped, suite(profile).directives(), "{path}");
        }
    }
}
