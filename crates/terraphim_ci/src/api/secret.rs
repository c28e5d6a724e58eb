//! The secret that signs tokens: from the environment, else from a file in the data directory.

use std::{
    env, fmt, fs, io,
    io::Write as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::{exit::Exit, failure::Failure};

/// The environment variable that wins over the file.
pub(crate) const VARIABLE: &str = "TCI_JWT_SECRET";
/// RFC 7518 section 3.2: a key of the same size as the hash output, or larger.
const LEAST_BYTES: usize = 32;

/// Never printed.
#[derive(Clone)]
pub(crate) struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Secret {
    /// `$TCI_JWT_SECRET`, else the file `api/jwt-secret` below `data`, which is made with a random secret when it is
    /// not there.
    pub(crate) fn load(data: &Path) -> Result<Secret, Failure> {
        if let Some(text) = env::var_os(VARIABLE).filter(|text| !text.is_empty()) {
            return Secret::checked(text.as_encoded_bytes(), VARIABLE);
        }
        let path = file(data);
        match fs::read(&path) {
            Ok(bytes) => {
                check_mode(&path)?;
                Secret::checked(bytes.trim_ascii(), &path.display().to_string())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Secret::make(&path),
            Err(error) => Err(Failure::io("read", &path, error)),
        }
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn checked(bytes: &[u8], source: &str) -> Result<Secret, Failure> {
        if bytes.len() < LEAST_BYTES {
            return Err(Failure::usage(format!(
                "the JWT secret in {source} has {} bytes, {LEAST_BYTES} are the least",
                bytes.len()
            ))
            .hint("`openssl rand -hex 32` prints a good one"));
        }
        Ok(Secret(bytes.to_vec()))
    }

    fn make(path: &Path) -> Result<Secret, Failure> {
        let text = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        super::tokens::make_directory(path.parent().unwrap_or(path))?;
        let written = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        match written.and_then(|mut file| file.write_all(format!("{text}\n").as_bytes())) {
            Ok(()) => Ok(Secret(text.into_bytes())),
            Err(error) => Err(Failure::io("create", path, error)),
        }
    }
}

fn file(data: &Path) -> PathBuf {
    data.join("api/jwt-secret")
}

fn check_mode(path: &Path) -> Result<(), Failure> {
    let mode = fs::metadata(path).map_err(|error| Failure::io("look at", path, error))?.mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let message = format!("{} can be read by others (mode {mode:03o})", path.display());
    Err(Failure::usage(message).ending(Exit::Infrastructure).hint(format!("chmod 600 {}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_made_once_private_and_not_taken_from_an_open_file() {
        let data = tempfile::tempdir().unwrap();
        let first = Secret::load(data.path()).unwrap();
        assert_eq!(Secret::load(data.path()).unwrap().bytes(), first.bytes());
        assert_eq!(format!("{first:?}"), "***");
        let path = file(data.path());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Secret::load(data.path()).is_err());
    }

    #[test]
    fn a_short_secret_is_refused() {
        assert!(Secret::checked(b"guess me", "x").is_err());
        assert!(Secret::checked(&[7; 32], "x").is_ok());
    }
}
