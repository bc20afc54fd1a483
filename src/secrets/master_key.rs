//! The master key: 32 bytes from `GATEKEY_MASTER_KEY` (base64), or from a file in the data directory
//! that only its owner can read and that is made at first start.

use super::Secret;
use super::seal::{KEY_LEN, SealError, Sealer};
use crate::entropy::system_random;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::rand::SecureRandom;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest key file that is read: 44 characters of base64 and a line end, with room.
const MAX_FILE: u64 = 256;

/// Seals the secrets table and the people's keys.
#[derive(Debug)]
pub struct MasterKey {
    sealer: Sealer,
    check: String,
}

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// Not 32 bytes of base64.
    #[error(
        "the master key in {0} must be 32 bytes in base64; make one with `openssl rand -base64 32`"
    )]
    Malformed(String),
    /// Others may read the file.
    #[error("the master key file {0} can be read by others; run `chmod 600` on it")]
    Exposed(PathBuf),
    /// The file can't be read or made.
    #[error("the master key file {0}: {1}")]
    File(PathBuf, std::io::Error),
    /// No randomness, or no cipher.
    #[error("no master key could be made")]
    Unusable(#[from] SealError),
}

impl MasterKey {
    /// From its bytes.
    pub fn from_bytes(key: [u8; KEY_LEN]) -> Result<Self, SealError> {
        let key = Zeroizing::new(key);
        let sealer = Sealer::new(&key)?;
        let tag = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()),
            b"gatekey master key check v1",
        );
        Ok(Self { sealer, check: STANDARD.encode(tag.as_ref()) })
    }

    /// From base64; `origin` names where it came from, for the error.
    pub fn from_base64(text: &str, origin: &str) -> Result<Self, MasterKeyError> {
        let malformed = || MasterKeyError::Malformed(origin.to_owned());
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| malformed())?);
        let key: [u8; KEY_LEN] = bytes.as_slice().try_into().map_err(|_| malformed())?;
        Ok(Self::from_bytes(key)?)
    }

    /// The key of this start: `given` (from the environment or the configuration file), else the
    /// file `master.key` in `data_dir`.
    pub fn load(given: Option<&Secret>, data_dir: &Path) -> Result<Self, MasterKeyError> {
        match given {
            Some(text) => Self::from_base64(text.expose(), "GATEKEY_MASTER_KEY"),
            None => Self::from_file(&data_dir.join("master.key")),
        }
    }

    /// From the file; makes it, with mode 0600, where there is none.
    pub fn from_file(path: &Path) -> Result<Self, MasterKeyError> {
        let failed = |error| MasterKeyError::File(path.to_owned(), error);
        if !path.try_exists().map_err(failed)? {
            Self::write_new(path)?;
        }
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(MasterKeyError::Exposed(path.to_owned()));
        }
        let mut text = Zeroizing::new(String::new());
        file.take(MAX_FILE).read_to_string(&mut text).map_err(failed)?;
        Self::from_base64(&text, &path.display().to_string())
    }

    /// Writes a new key whole or not at all: a start that was killed midway leaves no half a key,
    /// and of two starts at the same moment the first one's key counts.
    fn write_new(path: &Path) -> Result<(), MasterKeyError> {
        let failed = |error| MasterKeyError::File(path.to_owned(), error);
        let mut key = Zeroizing::new([0; KEY_LEN]);
        let mut suffix = [0; 8];
        let random = system_random();
        random.fill(key.as_mut()).and_then(|()| random.fill(&mut suffix)).map_err(|_| SealError)?;
        let text = Zeroizing::new(format!("{}\n", STANDARD.encode(key.as_ref())));
        let draft = path.with_extension(format!("key.{:016x}", u64::from_be_bytes(suffix)));
        let written = (|| {
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            // Unlike a rename, a link never replaces.
            match fs::hard_link(&draft, path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
                linked => linked,
            }
        })();
        let _ = fs::remove_file(&draft);
        written.map_err(failed)?;
        // The name must be durable too: a lost key is a lost database.
        match path.parent() {
            Some(directory) => File::open(directory).and_then(|it| it.sync_all()).map_err(failed),
            None => Ok(()),
        }
    }

    /// What the database keeps, to tell a wrong key before it does harm. It tells nothing about the
    /// key.
    pub fn check_value(&self) -> &str {
        &self.check
    }

    /// Seals `plain`, bound to `bound_to`.
    pub fn seal(&self, bound_to: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        self.sealer.seal(bound_to, plain)
    }

    /// Opens what [`Self::seal`] made.
    pub fn open(&self, bound_to: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.sealer.open(bound_to, sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_made_once_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let first = MasterKey::from_file(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = MasterKey::from_file(&path).unwrap();
        assert_eq!(first.check_value(), again.check_value());
        let sealed = first.seal(b"x", b"secret").unwrap();
        assert_eq!(again.open(b"x", &sealed).unwrap().as_slice(), b"secret");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        MasterKey::from_file(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(MasterKey::from_file(&path), Err(MasterKeyError::Exposed(_))));
    }

    #[test]
    fn starts_at_the_same_moment_agree_on_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let checks: Vec<String> = std::thread::scope(|scope| {
            let start = || MasterKey::load(None, dir.path()).unwrap().check_value().to_owned();
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        let kept = MasterKey::load(None, dir.path()).unwrap();
        assert!(checks.iter().all(|check| check == kept.check_value()));
        // No draft is left.
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_given_key_goes_before_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let filed = MasterKey::load(None, dir.path()).unwrap();
        let given = Secret::from(STANDARD.encode([1; KEY_LEN]));
        let loaded = MasterKey::load(Some(&given), dir.path()).unwrap();
        assert_ne!(loaded.check_value(), filed.check_value());
        let error = MasterKey::load(Some(&Secret::from("s3cret")), dir.path()).unwrap_err();
        assert!(error.to_string().contains("GATEKEY_MASTER_KEY"));
        assert!(!error.to_string().contains("s3cret"));
    }

    #[test]
    fn another_key_has_another_check_value() {
        let one = MasterKey::from_bytes([1; 32]).unwrap();
        let two = MasterKey::from_bytes([2; 32]).unwrap();
        assert_ne!(one.check_value(), two.check_value());
        assert!(MasterKey::from_base64("c2hvcnQ=", "the environment").is_err());
        assert!(!format!("{one:?}").contains("1, 1"));
    }
}
