//! Telling the operator a password that was made: once, on a terminal; else in a file that only
//! its owner can read.

use crate::secrets::Secret;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The file's name, in the data directory.
const FILE: &str = "admin-password.txt";

/// Shows the password of `username`, or writes it down and says where.
pub fn hand_over(data_dir: &Path, username: &str, password: &Secret) -> io::Result<()> {
    let mut out = io::stdout();
    if out.is_terminal() {
        writeln!(out, "\nSign in as `{username}` with this password, and change it at once:")?;
        writeln!(out, "\n    {}\n", password.expose())?;
        return out.flush();
    }
    let path = data_dir.join(FILE);
    // A new file: the mode of one that is there already would stay.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    writeln!(file, "{}", password.expose())?;
    file.sync_all()?;
    writeln!(
        out,
        "The password of `{username}` is in {}; change it at first sign-in",
        path.display()
    )
}
