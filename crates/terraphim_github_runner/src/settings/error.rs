//! Why secrets and variables cannot be read or written.

use std::path::PathBuf;

use thiserror::Error;

/// Why secrets and variables cannot be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A file cannot be used.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A name that no secret or variable can have.
    #[error(
        "{name:?} cannot be the name of a secret or variable: it may have letters, digits and `_`, must not begin \
         with a digit or with GITHUB_, and has at most 255 characters"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A repository, owner or environment that cannot be.
    #[error("{text:?} is no {what}")]
    Scope {
        /// What was given.
        text: String,
        /// What it should be.
        what: &'static str,
    },
    /// The value is empty.
    #[error("the value of {name} is empty")]
    Empty {
        /// The name.
        name: String,
    },
    /// The value is too long.
    #[error("the value of {name} has {size} bytes; GitHub allows {most}, and so do we")]
    TooLong {
        /// The name.
        name: String,
        /// Its length in bytes.
        size: usize,
        /// The most there may be.
        most: usize,
    },
    /// The file is not what this program writes.
    #[error("{path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// The file was written by a newer program.
    #[error("{path} was written by a newer version of this program (format {version})")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u32,
    },
    /// There are secrets, but not the key for them.
    #[error(
        "the key {path} for the stored secrets is gone; put it back, or remove the secrets and set them again"
    )]
    NoKey {
        /// Where it was.
        path: PathBuf,
    },
    /// The key is not one.
    #[error("{path} is no key: it must have {wanted} bytes")]
    BadKey {
        /// The file.
        path: PathBuf,
        /// The length of a key.
        wanted: usize,
    },
    /// Others may read the key.
    #[error("others may read {path} (mode {mode:03o}); use `chmod 600` on it")]
    OpenKey {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A secret cannot be decrypted.
    #[error(
        "the secret {name} of {scope} cannot be decrypted: it was changed, or the key is another one; set it again"
    )]
    Undecipherable {
        /// The secret.
        name: String,
        /// Where it belongs.
        scope: String,
    },
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}
