//! What people and things are called.

use super::{Invalid, text_value};
use serde::{Deserialize, Serialize};

fn printable(text: &str, min: usize, max: usize) -> Result<String, Invalid> {
    let trimmed = text.trim();
    let length = trimmed.chars().count();
    if length < min || length > max {
        return Err(Invalid::new(format!("must have {min} to {max} characters")));
    }
    if trimmed.chars().any(char::is_control) {
        return Err(Invalid::new("must not hold control characters"));
    }
    Ok(trimmed.to_owned())
}

/// At most the first `max` characters of what a stranger sent, for the record only.
pub fn clip(mut text: String, max: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(max) {
        text.truncate(end);
    }
    text
}

text_value! {
    /// What an admin calls a gateway, network, rule or key: 1 to 64 printable characters.
    ResourceName, "us-east-1", |text| printable(text, 1, 64)
}

text_value! {
    /// Free text about a thing: up to 1,000 printable characters.
    #[derive(Default)]
    Description, "US East Coast Gateway", |text| printable(text, 0, 1000)
}

text_value! {
    /// What a person is called: 1 to 200 printable characters.
    DisplayName, "Ada Lovelace", |text| printable(text, 1, 200)
}

text_value! {
    /// A group, as the identity provider or an admin names it: 1 to 128 printable characters without `/`.
    GroupName, "engineering", |text| {
        let name = printable(text, 1, 128)?;
        // Clients resolve dots in paths before they send them.
        if name.contains('/') || name == "." || name == ".." {
            return Err(Invalid::new("must not hold `/`, nor be `.` or `..`"));
        }
        Ok(name)
    }
}

text_value! {
    /// A user name: 1 to 64 of letters, digits and `._-`, compared without case. Holds no `@`, so
    /// that it can't be taken for an e-mail address.
    Username, "ada", |text| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
            return Err(Invalid::new("must be 1 to 64 letters, digits and `._-`"));
        }
        Ok(text.to_ascii_lowercase())
    }
}

text_value! {
    /// An e-mail address, lower-cased, at most 254 characters.
    Email, "ada@example.com", |text| {
        let wrong = || Invalid::new("must be an e-mail address, such as `ada@example.com`");
        let plain = |c: char| !c.is_control() && !c.is_whitespace() && !"\"'<>()[]\\,;:/".contains(c);
        let (local, domain) = text.rsplit_once('@').ok_or_else(wrong)?;
        if local.is_empty()
            || local.len() > 64
            || local.contains('@')
            || !local.chars().all(plain)
            || !super::address::is_hostname(domain)
            || text.len() > 254
        {
            return Err(wrong());
        }
        Ok(text.to_lowercase())
    }
}

/// What a user may do.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Uses the VPN.
    #[default]
    Member,
    /// Reads everything an admin can, and changes nothing.
    Auditor,
    /// Manages everything.
    Admin,
}

impl Role {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_and_hold_no_control_characters() {
        assert_eq!(" us-east-1 ".parse::<ResourceName>().unwrap().as_str(), "us-east-1");
        for wrong in ["", "  ", "a\u{7}b", "a\nb", &"a".repeat(65)] {
            assert!(wrong.parse::<ResourceName>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn e_mail_is_lower_case() {
        assert_eq!("Ada@Example.COM".parse::<Email>().unwrap().as_str(), "ada@example.com");
        for wrong in ["", "ada", "@example.com", "ada@", "a b@example.com", "a@b@c.d", "a@-x.com"] {
            assert!(wrong.parse::<Email>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_user_name_is_never_an_e_mail() {
        assert_eq!("Ada".parse::<Username>().unwrap().as_str(), "ada");
        assert!("ada@example.com".parse::<Username>().is_err());
    }

    #[test]
    fn a_text_is_clipped_between_characters() {
        assert_eq!(clip("häh".to_owned(), 2), "hä");
        assert_eq!(clip("häh".to_owned(), 3), "häh");
        assert_eq!(clip("häh".to_owned(), 0), "");
    }

    #[test]
    fn roles_are_written_as_in_json() {
        for role in [Role::Member, Role::Auditor, Role::Admin] {
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
    }
}
