//! What identifies a certificate, and why one is revoked.

use super::{Invalid, string_value, text_value};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Longest common name (RFC 5280, ub-common-name).
pub const COMMON_NAME_MAX: usize = 64;

impl CommonName {
    /// What is said of one that is none.
    pub const EXPECTED: &'static str =
        "must be 1 to 64 characters, of letters, digits and `._%+@-`";
}

text_value! {
    /// A certificate's common name: letters, digits and `._%+@-`, at most 64.
    CommonName, "ada@example.com", |text| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._%+@-".contains(&b);
        if text.is_empty() || text.len() > COMMON_NAME_MAX || !text.bytes().all(plain) {
            return Err(Invalid::new(CommonName::EXPECTED));
        }
        Ok(text.to_owned())
    }
}

/// A certificate's serial number (RFC 5280, 4.1.2.2): up to 20 octets, compared as a number.
///
/// Read from hex with or without colons, in any case, with or without leading zeros; written as
/// lower-case hex without colons or leading zeros.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(String);

impl Serial {
    /// What is said of one that is none.
    pub const EXPECTED: &'static str =
        "must be a certificate serial in hex, with or without colons, such as `5a:0f:3c`";

    /// From big-endian octets, as in DER or from a random source.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Invalid> {
        bytes.iter().map(|b| format!("{b:02x}")).collect::<String>().parse()
    }

    /// Lower-case hex without leading zeros.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Big-endian octets without leading zeros (one zero octet for 0).
    pub fn to_bytes(&self) -> Vec<u8> {
        let padded = if self.0.len() % 2 == 1 { format!("0{}", self.0) } else { self.0.clone() };
        padded
            .as_bytes()
            .chunks(2)
            .filter_map(|pair| std::str::from_utf8(pair).ok())
            .filter_map(|pair| u8::from_str_radix(pair, 16).ok())
            .collect()
    }
}

impl FromStr for Serial {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new(Self::EXPECTED);
        if text.len() > 64 {
            return Err(wrong());
        }
        let groups_ok =
            !text.contains(':') || text.split(':').all(|group| (1..=2).contains(&group.len()));
        let hex: String = text.chars().filter(|c| *c != ':').collect();
        if hex.is_empty() || !groups_ok || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let number = hex.trim_start_matches('0').to_ascii_lowercase();
        match number.len() {
            0 => Ok(Self("0".to_owned())),
            1..=40 => Ok(Self(number)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

string_value!(Serial, "5a0f3c");

/// Why a certificate was revoked: RFC 5280's CRLReason (5.3.1) in snake_case.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RevocationReason {
    /// No reason is given.
    #[default]
    Unspecified,
    /// The private key may be known to others.
    KeyCompromise,
    /// The authority's key may be known to others.
    CaCompromise,
    /// The subject is no longer what the certificate says.
    AffiliationChanged,
    /// Another certificate has taken its place.
    Superseded,
    /// What it was issued for has ended.
    CessationOfOperation,
    /// The right to it was taken away.
    PrivilegeWithdrawn,
}

impl RevocationReason {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "key_compromise",
            Self::CaCompromise => "ca_compromise",
            Self::AffiliationChanged => "affiliation_changed",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessation_of_operation",
            Self::PrivilegeWithdrawn => "privilege_withdrawn",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn serials_compare_as_numbers() {
        let openvpn: Serial = "05:a0:0f".parse().unwrap();
        let openssl: Serial = "5A00F".parse().unwrap();
        assert_eq!(openvpn, openssl);
        assert_eq!(openvpn.to_bytes(), [0x05, 0xa0, 0x0f]);
        for wrong in ["", ":", "xyz", "5a:", "123:45", "-1", &"a".repeat(41)] {
            assert!(wrong.parse::<Serial>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_common_name_fits_a_certificate_and_a_file_name() {
        assert!("ada+vpn@example.com".parse::<CommonName>().is_ok());
        for wrong in ["", "a b", "a/b", "a'b", "ä", "a\n", &"a".repeat(65)] {
            assert!(wrong.parse::<CommonName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn reasons_are_written_as_in_json() {
        let reasons = [
            RevocationReason::Unspecified,
            RevocationReason::KeyCompromise,
            RevocationReason::CaCompromise,
            RevocationReason::AffiliationChanged,
            RevocationReason::Superseded,
            RevocationReason::CessationOfOperation,
            RevocationReason::PrivilegeWithdrawn,
        ];
        for reason in reasons {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }

    proptest! {
        #[test]
        fn a_serial_survives_its_bytes(bytes in proptest::collection::vec(any::<u8>(), 1..=20)) {
            let serial = Serial::from_bytes(&bytes).unwrap();
            prop_assert_eq!(Serial::from_bytes(&serial.to_bytes()).unwrap(), serial);
        }
    }
}
