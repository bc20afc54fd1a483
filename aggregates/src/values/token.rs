//! What is kept of a secret that only its holder knows.

use super::{Invalid, text_value};

/// Whether `text` is a SHA-256 digest as 64 lower-case hex digits.
pub(crate) fn is_sha256_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

text_value! {
    /// SHA-256 of a token, as 64 lower-case hex digits. A token is 32 random bytes, so its hash
    /// tells nothing about it and needs no salt.
    TokenHash, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", |text| {
        if !is_sha256_hex(text) {
            return Err(Invalid::new("must be 64 lower-case hex digits"));
        }
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_64_lower_case_hex_digits() {
        let hash = "0123456789abcdef".repeat(4);
        assert_eq!(hash.parse::<TokenHash>().unwrap().as_str(), hash);
        let upper = hash.to_uppercase();
        for wrong in ["", &hash[1..], &format!("{hash}0"), &upper, &hash.replace('f', "g")] {
            assert!(wrong.parse::<TokenHash>().is_err(), "{wrong}");
        }
    }
}
