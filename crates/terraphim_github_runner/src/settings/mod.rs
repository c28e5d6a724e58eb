//! Secrets and variables of repositories, their environments and their owners.
//!
//! They are in `settings/settings.json` below the data directory. Secrets are encrypted there (XChaCha20-Poly1305) with
//! the key in `settings/key`, which is made at the first use and readable by its owner only; variables are not secret.
//! The encryption is bound to the place and the name of a secret, so that none can be put in another's place. Writers
//! take turns by a lock file and replace the file as a whole: a crash leaves the old or the new one.

mod cipher;
mod error;
mod file;
mod scope;
mod store;

#[cfg(test)]
mod tests;

pub use error::SettingsError;
pub use scope::{Name, SettingsScope};
pub use store::{Entry, Kind, RunSettings, SettingsStore};
