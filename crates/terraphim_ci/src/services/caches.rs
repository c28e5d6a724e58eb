//! Caches on disk: `caches/<digest of the repository>/<digest of scope, key and version>/`. When it was used last is the
//! time of an entry's `meta.json`.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{entry, policy};

/// What is kept about an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CacheMeta {
    /// Its number, which no other entry has.
    pub(crate) id: u64,
    /// `owner/name`.
    pub(crate) repository: String,
    /// The full ref whose runs have made it.
    pub(crate) scope: String,
    /// Its key.
    pub(crate) key: String,
    /// A digest of the paths and the compression, made by the client.
    pub(crate) version: String,
    /// Its length in bytes.
    pub(crate) size: u64,
    /// `sha256:` and hexadecimal digits.
    pub(crate) digest: String,
    /// In milliseconds since 1970.
    pub(crate) created_at_ms: i64,
}

/// An entry and when it was used.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CacheEntry {
    #[serde(flatten)]
    pub(crate) meta: CacheMeta,
    /// In milliseconds since 1970.
    pub(crate) last_used_at_ms: i64,
}

/// What a repository's entries need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct CacheUse {
    /// How many there are.
    pub(crate) entries: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

/// The caches of one data directory.
#[derive(Clone, Debug)]
pub(crate) struct Caches {
    root: PathBuf,
    /// Bytes that the entries of one repository may have together.
    pub(super) quota: u64,
}

impl Caches {
    pub(crate) fn new(services: &Path, quota: u64) -> Caches {
        Caches { root: services.join("caches"), quota }
    }

    /// Names of repositories do not differ by case.
    fn of_repository(&self, repository: &str) -> PathBuf {
        self.root.join(entry::name_of(&[&repository.to_lowercase()]))
    }

    pub(super) fn place(&self, repository: &str, scope: &str, key: &str, version: &str) -> PathBuf {
        self.of_repository(repository).join(entry::name_of(&[scope, key, version]))
    }

    fn place_of(&self, meta: &CacheMeta) -> PathBuf {
        self.place(&meta.repository, &meta.scope, &meta.key, &meta.version)
    }

    /// Whether exactly this entry is there.
    pub(super) fn exists(&self, repository: &str, scope: &str, key: &str, version: &str) -> io::Result<bool> {
        Ok(entry::read::<CacheMeta>(&self.place(repository, scope, key, version))?.is_some())
    }

    /// The entry that a job gets; it counts as used now.
    pub(super) fn find(
        &self,
        repository: &str,
        scopes: &[String],
        version: &str,
        key: &str,
        restore_keys: &[String],
    ) -> io::Result<Option<CacheMeta>> {
        let all = entry::list::<CacheMeta>(&self.of_repository(repository))?;
        let all: Vec<CacheMeta> = all.into_iter().map(|(_, meta)| meta).collect();
        let Some(found) = policy::choose(&all, scopes, version, key, restore_keys) else { return Ok(None) };
        match entry::touch(&self.place_of(found)) {
            Ok(()) => Ok(Some(found.clone())),
            // Evicted this moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Moves what is staged to its place and makes room for it; false if there is such an entry.
    pub(super) fn publish(&self, staging: &Path, meta: &CacheMeta) -> io::Result<bool> {
        let directory = self.of_repository(&meta.repository);
        entry::make_directory(&directory)?;
        // Two programs that make room at the same time would both throw out the same amount.
        let lock = File::create(directory.join(".lock"))?;
        lock.lock()?;
        if !entry::publish(staging, meta, &self.place_of(meta))? {
            return Ok(false);
        }
        let mut all = Vec::new();
        for (place, known) in entry::list::<CacheMeta>(&directory)? {
            // One that goes this moment needs no room.
            all.extend(entry::used_at_ms(&place).ok().map(|used_at_ms| (known, used_at_ms)));
        }
        for gone in policy::evicted(all, self.quota) {
            tracing::info!(key = %gone.key, bytes = gone.size, "evicted a cache entry of {}", gone.repository);
            entry::remove(&self.place_of(&gone))?;
        }
        Ok(true)
    }

    /// All entries, of one repository or of all, those that were used last first.
    pub(crate) fn list(&self, repository: Option<&str>) -> io::Result<Vec<CacheEntry>> {
        let directories = match repository {
            Some(repository) => vec![self.of_repository(repository)],
            None => entry::directories(&self.root)?,
        };
        let mut all = Vec::new();
        for directory in directories {
            for (place, meta) in entry::list::<CacheMeta>(&directory)? {
                let last_used_at_ms = entry::used_at_ms(&place).unwrap_or(meta.created_at_ms);
                all.push(CacheEntry { meta, last_used_at_ms });
            }
        }
        all.sort_by_key(|entry| std::cmp::Reverse((entry.last_used_at_ms, entry.meta.id)));
        Ok(all)
    }

    /// What each repository's entries need.
    pub(crate) fn usage(&self) -> io::Result<BTreeMap<String, CacheUse>> {
        let mut all: BTreeMap<String, CacheUse> = BTreeMap::new();
        for entry in self.list(None)? {
            let of_repository = all.entry(entry.meta.repository).or_default();
            of_repository.entries += 1;
            of_repository.bytes += entry.meta.size;
        }
        Ok(all)
    }

    /// Removes an entry; false if there was none.
    pub(crate) fn remove(&self, meta: &CacheMeta) -> io::Result<bool> {
        entry::remove(&self.place_of(meta))
    }
}
