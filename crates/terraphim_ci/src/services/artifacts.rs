//! Artifacts on disk: `artifacts/<run>/<digest of the name>/`. A name is unique in its run.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::entry;

/// The longest name in bytes, so that a file can be called so.
const NAME_LIMIT: usize = 255;
/// GitHub refuses these in names, because some file system does.
const BAD_IN_NAMES: [char; 11] = ['"', ':', '<', '>', '|', '*', '?', '\r', '\n', '\\', '/'];

/// What is kept about an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ArtifactMeta {
    /// Its number, which no other artifact has.
    pub(crate) id: u64,
    /// The number of its run, see `tci runs ls`.
    pub(crate) run: i64,
    /// `owner/name`.
    pub(crate) repository: String,
    /// The key of the job that made it.
    pub(crate) job: String,
    /// How the services called that job.
    pub(crate) job_backend_id: String,
    /// Its name.
    pub(crate) name: String,
    /// Its length in bytes.
    pub(crate) size: u64,
    /// `sha256:` and hexadecimal digits.
    pub(crate) digest: String,
    /// `application/zip` unless the client said otherwise.
    pub(crate) content_type: String,
    /// In milliseconds since 1970.
    pub(crate) created_at_ms: i64,
    /// Likewise.
    pub(crate) expires_at_ms: i64,
}

impl ArtifactMeta {
    /// Whether its bytes are an archive of the files that were uploaded.
    pub(crate) fn is_zip(&self) -> bool {
        let zips = ["application/zip", "application/x-zip-compressed", "application/zip-compressed"];
        zips.contains(&self.content_type.as_str())
    }
}

/// The artifacts of one data directory.
#[derive(Clone, Debug)]
pub(crate) struct Artifacts {
    root: PathBuf,
}

impl Artifacts {
    pub(crate) fn new(services: &Path) -> Artifacts {
        Artifacts { root: services.join("artifacts") }
    }

    fn of_run(&self, run: i64) -> PathBuf {
        self.root.join(run.to_string())
    }

    /// Where the artifact of this name is, or would be.
    pub(super) fn place(&self, run: i64, name: &str) -> PathBuf {
        self.of_run(run).join(entry::name_of(&[name]))
    }

    /// The file with the bytes of an artifact.
    pub(crate) fn content(&self, meta: &ArtifactMeta) -> PathBuf {
        entry::content(&self.place(meta.run, &meta.name))
    }

    /// The artifact of this name; an expired one does not count.
    pub(super) fn get(&self, run: i64, name: &str, now_ms: i64) -> io::Result<Option<ArtifactMeta>> {
        let found = entry::read::<ArtifactMeta>(&self.place(run, name))?;
        Ok(found.filter(|meta| meta.expires_at_ms > now_ms))
    }

    /// The artifacts of a run that have not expired, oldest first.
    pub(crate) fn list(&self, run: i64, now_ms: i64) -> io::Result<Vec<ArtifactMeta>> {
        let all = entry::list::<ArtifactMeta>(&self.of_run(run))?;
        let mut all: Vec<ArtifactMeta> = all.into_iter().map(|(_, meta)| meta).collect();
        all.retain(|meta| meta.expires_at_ms > now_ms);
        all.sort_by_key(|meta| meta.id);
        Ok(all)
    }

    /// The artifacts of all runs, oldest first.
    pub(crate) fn list_all(&self, now_ms: i64) -> io::Result<Vec<ArtifactMeta>> {
        let mut all = Vec::new();
        for run in self.runs()? {
            all.extend(self.list(run, now_ms)?);
        }
        all.sort_by_key(|meta| meta.id);
        Ok(all)
    }

    fn runs(&self) -> io::Result<Vec<i64>> {
        let directories = entry::directories(&self.root)?;
        Ok(directories.iter().filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect())
    }

    /// Moves what is staged to its place; false if there is an artifact of this name.
    pub(super) fn publish(&self, staging: &Path, meta: &ArtifactMeta) -> io::Result<bool> {
        let place = self.place(meta.run, &meta.name);
        // One that has expired makes room.
        if entry::read::<ArtifactMeta>(&place)?.is_some_and(|old| old.expires_at_ms <= meta.created_at_ms) {
            entry::remove(&place)?;
        }
        entry::publish(staging, meta, &place)
    }

    /// Removes an artifact; false if there was none.
    pub(crate) fn remove(&self, meta: &ArtifactMeta) -> io::Result<bool> {
        let removed = entry::remove(&self.place(meta.run, &meta.name))?;
        // The run's directory goes with its last artifact; it stays when it is not empty.
        let _ = std::fs::remove_dir(self.of_run(meta.run));
        Ok(removed)
    }

    /// Removes what has expired.
    pub(super) fn remove_expired(&self, now_ms: i64) -> io::Result<()> {
        for run in self.runs()? {
            for (_, meta) in entry::list::<ArtifactMeta>(&self.of_run(run))? {
                if meta.expires_at_ms <= now_ms {
                    self.remove(&meta)?;
                }
            }
        }
        Ok(())
    }
}

/// Checks the name of a new artifact.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > NAME_LIMIT {
        return Err(format!("the artifact name has {} bytes: use 1 to {NAME_LIMIT}", name.len()));
    }
    if matches!(name, "." | "..") {
        return Err(format!("an artifact cannot be called {name:?}"));
    }
    match name.chars().find(|c| BAD_IN_NAMES.contains(c) || c.is_control()) {
        Some(bad) => Err(format!("the artifact name {name:?} contains {bad:?}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_file_names() {
        for good in ["a", "my-artifact", "ä b.tar.gz", ".hidden", "..."] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "../x", "a/b", "a\\b", "a\nb", "a\0b", "a:b", &"x".repeat(256)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
