//! The shared key that authenticates a gateway's control channel (`tls-auth`).

use crate::entropy::{Entropy, NoEntropy};
use std::fmt;
use std::fmt::Write;
use zeroize::Zeroizing;

const BEGIN: &str = "-----BEGIN OpenVPN Static key V1-----";
const END: &str = "-----END OpenVPN Static key V1-----";
/// A key's lines, and the digits on each.
const LINES: usize = 16;
const DIGITS: usize = 32;

/// An OpenVPN static key of 2,048 bits, as `openvpn --genkey tls-auth` writes one.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsAuthKey(Zeroizing<String>);

/// Not an OpenVPN static key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an OpenVPN static key: {LINES} lines of {DIGITS} hex digits")]
pub struct NotTlsAuthKey;

impl TlsAuthKey {
    /// A new one.
    pub fn generate(entropy: &Entropy) -> Result<Self, NoEntropy> {
        let bytes = Zeroizing::new(entropy.bytes::<{ LINES * DIGITS / 2 }>()?);
        let mut hex = Zeroizing::new(String::with_capacity(LINES * DIGITS));
        for byte in bytes.iter() {
            // Writing to a string does not fail.
            let _ = write!(*hex, "{byte:02x}");
        }
        Ok(Self::of(&hex))
    }

    /// Reads one, whatever comments stand around it.
    pub fn parse(text: &str) -> Result<Self, NotTlsAuthKey> {
        let (_, after) = text.split_once(BEGIN).ok_or(NotTlsAuthKey)?;
        let (body, _) = after.split_once(END).ok_or(NotTlsAuthKey)?;
        let lines = || body.lines().map(str::trim).filter(|line| !line.is_empty());
        let whole = |line: &str| {
            line.len() == DIGITS && line.bytes().all(|digit| digit.is_ascii_hexdigit())
        };
        if lines().count() != LINES || !lines().all(whole) {
            return Err(NotTlsAuthKey);
        }
        let mut hex = Zeroizing::new(String::with_capacity(LINES * DIGITS));
        lines().for_each(|line| hex.push_str(line));
        hex.make_ascii_lowercase();
        Ok(Self::of(&hex))
    }

    /// The file that OpenVPN reads.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// From all its digits on one line.
    fn of(hex: &str) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(hex.len() + LINES + 120));
        text.push_str("#\n# 2048 bit OpenVPN static key\n#\n");
        text.push_str(BEGIN);
        for (index, digit) in hex.chars().enumerate() {
            if index % DIGITS == 0 {
                text.push('\n');
            }
            text.push(digit);
        }
        text.push('\n');
        text.push_str(END);
        text.push('\n');
        Self(text)
    }
}

impl fmt::Debug for TlsAuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsAuthKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn a_key_has_sixteen_lines_of_hex_and_is_new_each_time() {
        let entropy = Entropy::system(Clock::system());
        let key = TlsAuthKey::generate(&entropy).unwrap();
        let lines: Vec<&str> = key.as_str().lines().collect();
        assert_eq!(lines.len(), 3 + 1 + LINES + 1);
        assert_eq!((lines[3], lines[20]), (BEGIN, END));
        for line in &lines[4..20] {
            assert!(line.len() == 32 && line.bytes().all(|b| b.is_ascii_hexdigit()), "{line}");
        }
        assert_ne!(key, TlsAuthKey::generate(&entropy).unwrap());
        assert_eq!(TlsAuthKey::parse(key.as_str()).unwrap(), key);
        assert!(!format!("{key:?}").contains(lines[4]));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let key = TlsAuthKey::generate(&Entropy::system(Clock::system())).unwrap();
        let text = key.as_str();
        let shorter: String = text
            .lines()
            .enumerate()
            .filter(|(at, _)| *at != 7)
            .map(|(_, l)| format!("{l}\n"))
            .collect();
        let wrong = ["", "x", &shorter, &text.replacen(END, "", 1), &text.replace('a', "g")];
        for text in wrong {
            assert_eq!(TlsAuthKey::parse(text), Err(NotTlsAuthKey), "{text}");
        }
        // What OpenVPN itself may have written on another system.
        let windows = text.to_uppercase().replace(&BEGIN.to_uppercase(), BEGIN);
        let windows = windows.replace(&END.to_uppercase(), END).replace('\n', "\r\n");
        assert_eq!(TlsAuthKey::parse(&windows).unwrap(), key);
    }
}
