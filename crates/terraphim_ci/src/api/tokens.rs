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
    /// Whose it is.
    pub(crate) user_id: String,
    /// For people.
    pub(crate) username: String,
    /// Seconds since 1970.
    pub(crate) created_at: i64,
    /// Likewise.
    pub(crate) expires_at: i64,
    /// Whether it was taken back.
    pub(crate) revoked: bool,
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

    /// All records, oldest first.
    pub(crate) fn list(&self) -> Result<Vec<TokenRecord>, Failure> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Failure::io("read", &self.directory, error)),
        };
        let names =
            entries.flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == "json"));
        let read = |entry: fs::DirEntry| read(&entry.path()).map(Option::into_iter);
        let mut all: Vec<TokenRecord> =
            names.map(read).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        all.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(all)
    }

    /// Whether `user_id` may come in with the token `jti`. Tokens without one are made elsewhere with the same secret:
    /// their user must have a token here that is not revoked.
    pub(crate) fn standing(&self, user_id: &str, jti: Option<&str>) -> Result<Standing, Failure> {
        match jti {
            // Only what we made ourselves is looked for on disk.
            Some(jti) if Uuid::try_parse(jti).is_ok() => Ok(match read(&self.path(jti))? {
                Some(record) if record.user_id != user_id => Standing::UnknownToken,
                Some(record) if record.revoked => Standing::Revoked,
                Some(_) => Standing::Good,
                None => Standing::UnknownToken,
            }),
            Some(_) => Ok(Standing::UnknownToken),
            None => {
                let mut of_user = self.list()?.into_iter().filter(|record| record.user_id == user_id);
                let known = of_user.any(|record| !record.revoked);
                Ok(if known { Standing::Good } else { Standing::UnknownUser })
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
        assert_eq!(tokens.list().unwrap(), [record]);
    }
}
