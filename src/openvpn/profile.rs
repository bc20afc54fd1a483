//! The client's profile: one `.ovpn` file with everything in it.

use super::crypto_profile::suite;
use super::tls_auth::TlsAuthKey;
use crate::entropy::{Entropy, NoEntropy};
use crate::pki::pem::{self, NotPem};
use chrono::{DateTime, SecondsFormat, Utc};
use gatekey_aggregates::values::{
    CommonName, CryptoProfile, Host, ResourceName, Transport, VpnServerId,
};
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

/// Longest password that OpenVPN's clients and servers all pass on.
const MAX_PASSWORD: usize = 127;

/// A config's own password: letters, digits, `-` and `_`, at most 127.
#[derive(Clone)]
pub struct ProfilePassword(Zeroizing<String>);

/// Not such a password. The text is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {MAX_PASSWORD} letters, digits, `-` and `_`")]
pub struct NotPassword;

impl ProfilePassword {
    /// A new one: 32 random bytes.
    pub fn generate(entropy: &Entropy) -> Result<Self, NoEntropy> {
        entropy.token("").map(|token| Self(Zeroizing::new(token)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProfilePassword {
    type Err = NotPassword;

    fn from_str(text: &str) -> Result<Self, NotPassword> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let right = (1..=MAX_PASSWORD).contains(&text.len()) && text.bytes().all(plain);
        if right { Ok(Self(Zeroizing::new(text.to_owned()))) } else { Err(NotPassword) }
    }
}

impl fmt::Debug for ProfilePassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProfilePassword(…)")
    }
}

/// Where the client's private key is.
#[derive(Clone, Copy)]
pub enum ClientKey<'a> {
    /// Here, PKCS #8 in PEM.
    Pem(&'a str),
    /// On the person's device, where the signing request came from.
    OnDevice,
}

/// All that a profile says.
#[derive(Clone, Copy)]
pub struct Profile<'a> {
    /// The gateway or hub, and the common name that its certificate must bear.
    pub server_id: &'a VpnServerId,
    /// Where it is.
    pub host: &'a Host,
    /// Its port.
    pub port: u16,
    /// UDP or TCP.
    pub transport: Transport,
    /// Ciphers and digests.
    pub crypto_profile: CryptoProfile,
    /// The authority's certificate, in PEM.
    pub ca_pem: &'a str,
    /// The client's certificate, in PEM.
    pub certificate_pem: &'a str,
    /// The client's key.
    pub key: ClientKey<'a>,
    /// The server's `tls-auth` key, while it is in use.
    pub tls_auth: Option<&'a TlsAuthKey>,
    /// The certificate's common name, which is also the user name.
    pub common_name: &'a CommonName,
    /// The config's own password; none where nobody asks for one.
    pub password: Option<&'a ProfilePassword>,
    /// When the certificate expires.
    pub expires_at: DateTime<Utc>,
}

/// Why a profile could not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the profile's {what} cannot be read: {source}")]
pub struct BadProfile {
    what: &'static str,
    source: NotPem,
}

impl Profile<'_> {
    /// The `.ovpn` file. It holds secrets.
    pub fn render(&self) -> Result<Zeroizing<String>, BadProfile> {
        let proto = match self.transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp-client",
        };
        // Large enough for every profile, so that growing leaves no copies of the key behind.
        let mut text = Text(Zeroizing::new(String::with_capacity(16 * 1024)));
        let until = self.expires_at.to_rfc3339_opts(SecondsFormat::Secs, true);
        text.line(&format!(
            "# GateKey: {} on {}, until {until}.",
            self.common_name, self.server_id
        ));
        text.line("client");
        text.line("dev tun");
        text.line(&format!("proto {proto}"));
        text.line(&format!("remote {} {}", self.host, self.port));
        text.line("resolv-retry infinite");
        text.line("nobind");
        text.line("persist-key");
        text.line("persist-tun");
        text.line("# All servers share one authority: only this one may answer.");
        text.line("remote-cert-tls server");
        text.line(&format!("verify-x509-name {} name", self.server_id));
        for directive in suite(self.crypto_profile).directives() {
            text.line(&directive);
        }
        text.line("reneg-sec 3600");
        text.line("auth-nocache");
        if self.transport == Transport::Udp {
            text.line("explicit-exit-notify 1");
        }
        text.line("verb 3");

        let ca = canonical("authority", pem::CERTIFICATE, self.ca_pem)?;
        let certificate = canonical("certificate", pem::CERTIFICATE, self.certificate_pem)?;
        text.block("ca", &ca);
        text.block("cert", &certificate);
        match self.key {
            ClientKey::Pem(key) => text.block("key", &canonical("key", pem::PRIVATE_KEY, key)?),
            ClientKey::OnDevice => {
                text.line("# Your private key never left your device. Name its file here:");
                text.line("# key /path/to/your.key");
            }
        }
        if let Some(key) = self.tls_auth {
            text.line("key-direction 1");
            text.block("tls-auth", key.as_str());
        }
        if let Some(password) = self.password {
            // No `auth-user-pass` may follow: a bare one undoes this.
            text.line("<auth-user-pass>");
            text.line(self.common_name.as_str());
            text.line(password.as_str());
            text.line("</auth-user-pass>");
        }
        Ok(text.0)
    }
}

/// What to call the file: after what it is for, in letters that every system takes.
pub fn file_name(name: &ResourceName, id: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name: String = name.as_str().chars().map(|c| if plain(c) { c } else { '-' }).collect();
    let name = name.trim_matches(['.', '-']);
    // A name without one such letter says nothing.
    let name = if name.is_empty() { id } else { name };
    format!("{name}.ovpn")
}

/// The block alone, in canonical form: nothing that stands around it can become a directive.
fn canonical(
    what: &'static str,
    label: &'static str,
    text: &str,
) -> Result<Zeroizing<String>, BadProfile> {
    match pem::decode(label, text) {
        Ok(der) => Ok(pem::encode(label, &der)),
        Err(source) => Err(BadProfile { what, source }),
    }
}

struct Text(Zeroizing<String>);

impl Text {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// An inline file. It ends with a line break, so that the closing tag has its own line.
    fn block(&mut self, tag: &str, file: &str) {
        self.line(&format!("<{tag}>"));
        self.0.push_str(file);
        self.line(&format!("</{tag}>"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAwQF\n-----END PRIVATE KEY-----\n";

    /// What a profile borrows.
    struct Parts {
        server_id: VpnServerId,
        host: Host,
        common_name: CommonName,
        password: ProfilePassword,
    }

    fn parts() -> Parts {
        Parts {
            server_id: VpnServerId::Gateway("gw-001".parse().unwrap()),
            host: "vpn-us-east.example.com".parse().unwrap(),
            common_name: "ada@example.com".parse().unwrap(),
            password: "s3cret_-token".parse().unwrap(),
        }
    }

    impl Parts {
        fn profile(&self) -> Profile<'_> {
            Profile {
                server_id: &self.server_id,
                host: &self.host,
                port: 1194,
                transport: Transport::Udp,
                crypto_profile: CryptoProfile::Modern,
                ca_pem: CERTIFICATE,
                certificate_pem: CERTIFICATE,
                key: ClientKey::Pem(KEY),
                tls_auth: None,
                common_name: &self.common_name,
                password: Some(&self.password),
                expires_at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            }
        }
    }

    #[test]
    fn a_profile_reads_like_this() {
        let expected = "\
# GateKey: ada@example.com on gw-001, until 2027-01-15T08:00:00Z.
client
dev tun
proto udp
remote vpn-us-east.example.com 1194
resolv-retry infinite
nobind
persist-key
persist-tun
# All servers share one authority: only this one may answer.
remote-cert-tls server
verify-x509-name gw-001 name
data-ciphers AES-256-GCM:CHACHA20-POLY1305
auth SHA256
tls-version-min 1.2
tls-cipher TLS-ECDHE-ECDSA-WITH-AES-256-GCM-SHA384:TLS-ECDHE-ECDSA-WITH-CHACHA20-POLY1305-SHA256:TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256
tls-ciphersuites TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256
tls-groups X25519:secp256r1:secp384r1
reneg-sec 3600
auth-nocache
explicit-exit-notify 1
verb 3
<ca>
-----BEGIN CERTIFICATE-----
AAEC
-----END CERTIFICATE-----
</ca>
<cert>
-----BEGIN CERTIFICATE-----
AAEC
-----END CERTIFICATE-----
</cert>
<key>
-----BEGIN PRIVATE KEY-----
AwQF
-----END PRIVATE KEY-----
</key>
<auth-user-pass>
ada@example.com
s3cret_-token
</auth-user-pass>
";
        assert_eq!(parts().profile().render().unwrap().as_str(), expected);
    }

    #[test]
    fn tcp_says_no_goodbye() {
        let parts = parts();
        let text = Profile { transport: Transport::Tcp, ..parts.profile() }.render().unwrap();
        assert!(text.contains("\nproto tcp-client\n"));
        assert!(!text.contains("explicit-exit-notify"));
    }

    #[test]
    fn a_key_on_the_device_is_a_comment() {
        let parts = parts();
        let text = Profile { key: ClientKey::OnDevice, ..parts.profile() }.render().unwrap();
        assert!(!text.contains("PRIVATE KEY") && !text.contains("<key>"));
        assert!(text.contains("\n# key /path/to/your.key\n"));
    }

    #[test]
    fn tls_auth_brings_its_direction() {
        let key = TlsAuthKey::generate(&Entropy::system(Clock::system())).unwrap();
        let parts = parts();
        let text = Profile { tls_auth: Some(&key), ..parts.profile() }.render().unwrap();
        let block = format!("key-direction 1\n<tls-auth>\n{}</tls-auth>\n", key.as_str());
        assert!(text.contains(&block));
    }

    #[test]
    fn the_inline_password_is_the_last_word_on_it() {
        let parts = parts();
        let text = Profile { crypto_profile: CryptoProfile::Compatible, ..parts.profile() };
        let text = text.render().unwrap();
        assert_eq!(text.matches("auth-user-pass").count(), 2);
        assert!(text.ends_with("</auth-user-pass>\n"));
    }

    #[test]
    fn without_a_password_none_is_asked_for() {
        let parts = parts();
        let text = Profile { password: None, ..parts.profile() }.render().unwrap();
        assert!(!text.contains("auth-user-pass"), "{}", text.as_str());
    }

    #[test]
    fn what_stands_around_a_pem_block_does_not_get_in() {
        let evil = format!("up /bin/evil\n{CERTIFICATE}</ca>\nup /bin/evil\n");
        let parts = parts();
        let fooled = Profile { ca_pem: &evil, ..parts.profile() };
        assert_eq!(fooled.render().unwrap(), parts.profile().render().unwrap());
        let wrong = Profile { certificate_pem: KEY, ..parts.profile() };
        let error = wrong.render().unwrap_err();
        assert_eq!(error.what, "certificate");
    }

    #[test]
    fn a_password_is_plain_and_short() {
        let entropy = Entropy::system(Clock::system());
        let password = ProfilePassword::generate(&entropy).unwrap();
        assert_eq!(password.as_str().len(), 43);
        assert!(password.as_str().parse::<ProfilePassword>().is_ok());
        assert!(!format!("{password:?}").contains(password.as_str()));
        for wrong in ["", "a b", "a\nb", "</auth-user-pass>", "ä", &"a".repeat(128)] {
            assert!(wrong.parse::<ProfilePassword>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_file_name_holds_nothing_that_a_system_dislikes() {
        let name = |text: &str| file_name(&text.parse().unwrap(), "gw-001");
        assert_eq!(name("us-east-1"), "us-east-1.ovpn");
        assert_eq!(name("../../etc/passwd"), "etc-passwd.ovpn");
        assert_eq!(name("a\"; b"), "a---b.ovpn");
        assert_eq!(name("ゲート"), "gw-001.ovpn");
    }
}
