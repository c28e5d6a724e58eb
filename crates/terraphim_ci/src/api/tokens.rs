//! Who may come in: one file for each token that was made, below `api/tokens` in the data directory. The token itself is
//! not kept.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::failure::{Context as _, Failure};

/// What is kept about a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenRecord {
    /// Its `jti`.
    pub(crate) id: String,
    /// Whose it is; empty when that is not known any more.
    pub(crate) user_id: String,
    /// For people; likewise.
    pub(crate) username: String,
    /// Seconds since 1970; 0 when that is not known any more.
    pub(crate) created_at: i64,
    /// Likewise.
    pub(crate) expires_at: i64,
    /// Whether it was taken back.
    pub(crate) revoked: bool,
}

impl TokenRecord {
    /// What takes the place of a record that cannot be read, once its token is taken back. A file that is only removed would
    /// let the token in again where `tci serve --any-user` runs.
    pub(crate) fn replacing_damaged(id: &str) -> TokenRecord {
        let (user_id, username) = (String::new(), String::new());
        TokenRecord { id: id.to_owned(), user_id, username, created_at: 0, expires_at: 0, revoked: true }
    }
}

/// All that is kept about tokens.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Oldest first.
    pub(crate) records: Vec<TokenRecord>,
    /// By id.
    pub(crate) damaged: Vec<DamagedToken>,
}

/// A token whose file cannot be read or understood.
#[derive(Debug)]
pub(crate) struct DamagedToken {
    /// Its `jti`: the name of the file.
    pub(crate) id: String,
    /// Names the file, the cause and the remedy.
    pub(crate) failure: Failure,
}

/// The directory of tokens.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    directory: PathBuf,
}

/// Whether somebody may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Good,
    Revoked,
    UnknownToken,
    UnknownUser,
}

impl Tokens {
    pub(crate) fn open(data: &Path) -> Result<Tokens, Failure> {
        let tokens = Tokens::at(data);
        make_directory(&tokens.directory)?;
        Ok(tokens)
    }

    /// The same to read only, which makes nothing.
    pub(crate) fn at(data: &Path) -> Tokens {
        Tokens { directory: data.join("api/tokens") }
    }

    /// Adds or replaces a record.
    pub(crate) fn save(&self, record: &TokenRecord) -> Result<(), Failure> {
        let text = serde_json::to_vec(record).expect("plain data is JSON");
        let path = self.path(&record.id);
        write_private(&path, &text).map_err(|error| Failure::io("write", &path, error))
    }

    /// All tokens. A file that is damaged hides no other.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(crate) fn list(&self) -> Result<Listing, Failure> {
        let mut listing = Listing::default();
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(listing),
            Err(error) => return Err(Failure::io("read", &self.directory, error)),
        };
        let paths = entries.flatten().map(|entry| entry.path());
        for path in paths.filter(|path| path.extension().is_some_and(|end| end == "json")) {
            match read(&path) {
                Ok(record) => listing.records.extend(record),
                Err(failure) => {
                    let id = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                    let remedy =
                        format!("`tci token revoke {id}` takes it back; other tokens are not concerned");
                    listing.damaged.push(DamagedToken { id, failure: failure.hint(remedy) });
                }
            }
        }
        listing.records.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        listing.damaged.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(listing)
    }

    /// Whether `user_id` may come in with the token `jti`. Tokens without one are made elsewhere with the same secret:
    /// their user must have a token here that is not revoked.
    ///
    /// # Errors
    /// The token's own file is damaged, or the directory cannot be read.
    pub(crate) fn standing(&self, user_id: &str, jti: Option<&str>) -> Result<Standing, Failure> {
        match jti {
            // Only what we made ourselves is looked for on disk.
            Some(jti) if Uuid::try_parse(jti).is_ok() => Ok(match read(&self.path(jti))? {
                // Before the user: of a damaged one that was taken back nobody knows whose it was.
                Some(record) if record.revoked => Standing::Revoked,
                Some(record) if record.user_id != user_id => Standing::UnknownToken,
                Some(_) => Standing::Good,
                None => Standing::UnknownToken,
            }),
            Some(_) => Ok(Standing::UnknownToken),
            None => {
                let listing = self.list()?;
                let mut of_user = listing.records.iter().filter(|record| record.user_id == user_id);
                if of_user.any(|record| !record.revoked) {
                    return Ok(Standing::Good);
                }
                for damaged in &listing.damaged {
                    tracing::warn!(
                        "it may be why user `{user_id}` is not known here: {}",
                        damaged.failure.message()
                    );
                }
                Ok(Standing::UnknownUser)
            }
        }
    }

    fn path(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }
}

fn read(path: &Path) -> Result<Option<TokenRecord>, Failure> {
    match fs::read(path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map(Some).context(format!("{} is damaged", path.display()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::io("read", path, error)),
    }
}

/// Makes a directory that only its owner may enter.
pub(super) fn make_directory(path: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Failure::io("create", path, error))
}

/// Writes a file that only its owner may read; a reader sees the old content or the new one.
pub(super) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("{}.new", Uuid::new_v4().simple()));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(content).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standing_follows_the_records() {
        let data = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(data.path()).unwrap();
        let id = Uuid::new_v4().to_string();
        let mut record = TokenRecord {
            id: id.clone(),
            user_id: "alice".into(),
            username: "Alice".into(),
            created_at: 1,
            expires_at: 2,
            revoked: false,
        };
        tokens.save(&record).unwrap();
        let standing = |user: &str, jti: Option<&str>| tokens.standing(user, jti).unwrap();
        assert_eq!(standing("alice", Some(&id)), Standing::Good);
        assert_eq!(standing("alice", None), Standing::Good);
        assert_eq!(standing("bob", None), Standing::UnknownUser);
        assert_eq!(standing("bob", Some(&id)), Standing::UnknownToken);
        assert_eq!(standing("alice", Some("../../jwt-secret")), Standing::UnknownToken);
        record.revoked = true;
        tokens.save(&record).unwrap();
        assert_eq!(standing("alice", Some(&id)), Standing::Revoked);
        assert_eq!(standing("alice", None), Standing::UnknownUser);
        assert_eq!(tokens.list().unwrap().records, [record]);
    }

    #[test]
    fn a_damaged_record_is_named_and_concerns_no_other() {
        let data = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(data.path()).unwrap();
        let good = TokenRecord {
            id: Uuid::new_v4().to_string(),
            user_id: "alice".into(),
            username: "Alice".into(),
            created_at: 1,
            expires_at: 2,
            revoked: false,
        };
        tokens.save(&good).unwrap();
        let damaged = Uuid::new_v4().to_string();
        fs::write(tokens.path(&damaged), r#"{"id": "#).unwrap();
        let listing = tokens.list().unwrap();
        assert_eq!(listing.records, std::slice::from_ref(&good));
        let [found] = &listing.damaged[..] else { panic!("{listing:?}") };
        assert_eq!(found.id, damaged);
        let (message, remedy) = (found.failure.message(), found.failure.remedy().unwrap());
        assert!(message.contains(&format!("{damaged}.json is damaged")), "{message}");
        assert!(remedy.contains(&format!("tci token revoke {damaged}")), "{remedy}");
        // Others come in, with tokens of theirs and with tokens that were made elsewhere; this one does not.
        assert_eq!(tokens.standing("alice", Some(&good.id)).unwrap(), Standing::Good);
        assert_eq!(tokens.standing("alice", None).unwrap(), Standing::Good);
        assert_eq!(tokens.standing("bob", None).unwrap(), Standing::UnknownUser);
        assert!(tokens.standing("bob", Some(&damaged)).is_err());
        tokens.save(&TokenRecord::replacing_damaged(&damaged)).unwrap();
        assert_eq!(tokens.standing("bob", Some(&damaged)).unwrap(), Standing::Revoked);
        assert!(tokens.list().unwrap().damaged.is_empty());
    }
}
