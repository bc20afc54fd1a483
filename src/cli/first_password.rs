//! Telling the operator the password that was made for the first admin: once, on a terminal; else
//! into a file that only its owner can read.

use crate::first_start::ADMIN;
use crate::secrets::Secret;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The file's name, in the data directory.
const FILE: &str = "admin-password.txt";

/// Shows the password, or writes it down and says where.
pub fn hand_over(data_dir: &Path, password: &Secret) -> io::Result<()> {
    let mut out = io::stdout();
    if out.is_terminal() {
        writeln!(out, "\nSign in as `{ADMIN}` with this password, and change it at once:")?;
        writeln!(out, "\n    {}\n", password.expose())?;
        return out.flush();
    }
    let path = data_dir.join(FILE);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    writeln!(file, "{}", password.expose())?;
    file.sync_all()?;
    writeln!(out, "The password of `{ADMIN}` is in {}; change it at first sign-in", path.display())
}
