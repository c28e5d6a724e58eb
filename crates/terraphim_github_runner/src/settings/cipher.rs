//! Encrypting secrets, and the key for it.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{
    Aead as _, AeadCore as _, KeyInit as _, OsRng, Payload, rand_core::RngCore as _,
};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::error::SettingsError;

/// 256 bits.
const KEY_SIZE: usize = 32;
/// 192 bits, so that random ones never meet.
const NONCE_SIZE: usize = 24;

/// Encrypts and decrypts with the key of this data directory.
pub(super) struct Cipher {
    cipher: XChaCha20Poly1305,
}

impl Cipher {
    fn new(key: &[u8]) -> Cipher {
        Cipher { cipher: XChaCha20Poly1305::new_from_slice(key).expect("the length was checked") }
    }

    /// Reads the key; `None` if there is none.
    pub(super) fn open(path: &Path) -> Result<Option<Cipher>, SettingsError> {
        let failed = |operation, source| SettingsError::Io { operation, path: path.to_owned(), source };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", error)),
        };
        let mode = file.metadata().map_err(|error| failed("look at", error))?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SettingsError::OpenKey { path: path.to_owned(), mode });
        }
        let mut key = Zeroizing::new([0; KEY_SIZE + 1]);
        let mut size = 0;
        while size < key.len() {
            match file.read(&mut key[size..]).map_err(|error| failed("read", error))? {
                0 => break,
                read => size += read,
            }
        }
        if size != KEY_SIZE {
            return Err(SettingsError::BadKey { path: path.to_owned(), wanted: KEY_SIZE });
        }
        Ok(Some(Cipher::new(&key[..KEY_SIZE])))
    }

    /// Makes a key. Never replaces one: what it encrypted would be lost.
    pub(super) fn create(path: &Path) -> Result<Cipher, SettingsError> {
        let failed = |operation, source| SettingsError::Io { operation, path: path.to_owned(), source };
        let mut key = Zeroizing::new([0; KEY_SIZE]);
        OsRng.try_fill_bytes(&mut *key).map_err(|_| SettingsError::Random)?;
        // Complete before it has its name, so that a crash leaves no half of a key.
        let part = part_of(path);
        let _ = std::fs::remove_file(&part);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)
            .map_err(|error| failed("create", error))?;
        file.write_all(&*key).and_then(|()| file.sync_all()).map_err(|error| failed("write", error))?;
        std::fs::hard_link(&part, path).map_err(|error| failed("create", error))?;
        std::fs::remove_file(&part).map_err(|error| failed("clean up beside", error))?;
        Ok(Cipher::new(&*key))
    }

    /// The text encrypted for one place, as base64.
    pub(super) fn seal(&self, place: &str, text: &str) -> Result<String, SettingsError> {
        let nonce = XChaCha20Poly1305::generate_nonce(&mut OsRng);
        let payload = Payload { msg: text.as_bytes(), aad: place.as_bytes() };
        // It refuses only what is longer than 256 GiB.
        let sealed = self.cipher.encrypt(&nonce, payload).map_err(|_| SettingsError::Random)?;
        Ok(STANDARD.encode([&nonce[..], &sealed].concat()))
    }

    /// The text; `None` if it was not encrypted for this place with this key.
    pub(super) fn unseal(&self, place: &str, sealed: &str) -> Option<Zeroizing<String>> {
        let bytes = STANDARD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_SIZE)?;
        let payload = Payload { msg: sealed, aad: place.as_bytes() };
        let nonce: [u8; NONCE_SIZE] = nonce.try_into().ok()?;
        let text = self.cipher.decrypt(&XNonce::from(nonce), payload).ok()?;
        match String::from_utf8(text) {
            Ok(text) => Some(Zeroizing::new(text)),
            Err(error) => {
                drop(Zeroizing::new(error.into_bytes()));
                None
            }
        }
    }
}

/// Where a file is written before it has its name.
pub(super) fn part_of(path: &Path) -> PathBuf {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    part.into()
}
