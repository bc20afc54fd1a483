//! Who runs this process, by what the machine knows.

use std::env;
use std::fs;

/// The user's name; `ada (sudo)` of somebody who has become root; `uid 1000` of one without a name.
pub fn name() -> String {
    let id = rustix::process::getuid();
    let sudoer = env::var("SUDO_USER").ok().filter(|it| id.is_root() && !it.is_empty());
    if let Some(name) = sudoer {
        return format!("{name} (sudo)");
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_in(&users, id.as_raw()).map_or_else(|| format!("uid {}", id.as_raw()), ToOwned::to_owned)
}

/// In a passwd(5): `ada:x:1000:1000:…`
fn name_in(users: &str, id: u32) -> Option<&str> {
    let id = id.to_string();
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_their_number() {
        let users = "root:x:0:0:root:/root:/bin/bash\nada:x:1000:1000::/home/ada:/bin/sh\nbroken\n";
        assert_eq!(name_in(users, 1000), Some("ada"));
        assert_eq!(name_in(users, 0), Some("root"));
        assert_eq!(name_in(users, 100), None);
    }

    #[test]
    fn everybody_has_a_name() {
        assert!(!name().is_empty());
    }
}
