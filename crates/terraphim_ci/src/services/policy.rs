//! Which cache entry a job gets, and where it may put one. Pure.
//!
//! Rules: GitHub's "Dependency caching reference", sections "Cache key matching" and "Restrictions for accessing a cache".

use super::caches::CacheMeta;

/// The longest key. GitHub: 512 characters.
const KEY_LIMIT: usize = 512;

/// Which branches' entries a job reads, and which it writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scopes {
    /// In the order in which they are searched: its own, the base of its pull request, the default branch.
    pub(super) read: Vec<String>,
    /// Its own; absent when it may not write.
    pub(super) write: Option<String>,
}

/// What the scopes of a job follow from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'a> {
    /// `github.ref`
    pub(super) git_ref: &'a str,
    /// `github.base_ref`: a branch's name, for pull requests.
    pub(super) base_ref: &'a str,
    /// The default branch's name, if it is known.
    pub(super) default_branch: Option<&'a str>,
    /// A pull request of another repository.
    pub(super) is_from_outside: bool,
}

impl Scopes {
    /// The scopes of a job.
    pub(super) fn of(origin: Origin<'_>) -> Scopes {
        let branch = |name: &str| format!("refs/heads/{name}");
        let mut read = vec![origin.git_ref.to_owned()];
        let base = Some(origin.base_ref).filter(|base| !base.is_empty());
        for name in base.into_iter().chain(origin.default_branch) {
            let scope = branch(name);
            if !read.contains(&scope) {
                read.push(scope);
            }
        }
        // A run for a pull request has a ref of its own, which no other run reads. Where it does not (a payload that was
        // made by hand), code from outside writes nothing at all.
        let is_own = origin.git_ref.starts_with("refs/pull/");
        let write = (!origin.is_from_outside || is_own).then(|| origin.git_ref.to_owned());
        Scopes { read, write }
    }
}

/// Checks a key that a client wants to save under or look for.
pub(super) fn check_key(key: &str) -> Result<(), String> {
    match key.chars().count() {
        0 => Err("the key is empty".to_owned()),
        1..=KEY_LIMIT if key.contains(',') => Err(format!("the key {key:?} contains a comma")),
        1..=KEY_LIMIT => Ok(()),
        count => Err(format!("the key has {count} characters, at most {KEY_LIMIT} are possible")),
    }
}

/// The entry that a job gets: branch by branch the exact key, then the key as a prefix, then each restore key as a prefix;
/// of several the newest. Versions must be equal.
pub(super) fn choose<'a>(
    entries: &'a [CacheMeta],
    scopes: &[String],
    version: &str,
    key: &str,
    restore_keys: &[String],
) -> Option<&'a CacheMeta> {
    scopes.iter().find_map(|scope| {
        let of_branch = || entries.iter().filter(|entry| entry.scope == *scope && entry.version == version);
        let starting_with = |prefix: &str| {
            let fits = of_branch().filter(|entry| entry.key.starts_with(prefix));
            fits.max_by_key(|entry| (entry.created_at_ms, entry.id))
        };
        let exact = of_branch().find(|entry| entry.key == key);
        exact
            .or_else(|| starting_with(key))
            .or_else(|| restore_keys.iter().find_map(|restore| starting_with(restore)))
    })
}

/// Which entries have to go so that `quota` bytes hold the rest: those that were not used for the longest time.
pub(super) fn evicted(mut entries: Vec<(CacheMeta, i64)>, quota: u64) -> Vec<CacheMeta> {
    entries.sort_by_key(|(entry, used_at_ms)| (*used_at_ms, entry.created_at_ms, entry.id));
    let mut total: u64 = entries.iter().map(|(entry, _)| entry.size).sum();
    let mut gone = Vec::new();
    for (entry, _) in entries {
        if total <= quota {
            break;
        }
        total -= entry.size;
        gone.push(entry);
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64, scope: &str, key: &str) -> CacheMeta {
        CacheMeta {
            id,
            repository: "acme/tool".into(),
            scope: scope.into(),
            key: key.into(),
            version: "v".into(),
            size: 10,
            digest: "sha256:0".into(),
            created_at_ms: i64::try_from(id).unwrap(),
        }
    }

    #[test]
    fn the_own_branch_comes_first_and_the_exact_key_before_newer_prefixes() {
        let main = "refs/heads/main".to_owned();
        let feature = "refs/heads/feature".to_owned();
        let entries = [
            entry(1, &main, "npm-abc"),
            entry(2, &main, "npm-abc-2"),
            entry(3, &main, "npm-x"),
            entry(4, &feature, "npm-y"),
            entry(5, "refs/heads/other", "npm-abc"),
        ];
        let scopes = [feature, main];
        let find = |key: &str, restore: &[&str]| {
            let restore: Vec<String> = restore.iter().map(|key| (*key).to_owned()).collect();
            choose(&entries, &scopes, "v", key, &restore).map(|entry| entry.id)
        };
        assert_eq!(find("npm-abc", &[]), Some(1));
        assert_eq!(find("npm-ab", &[]), Some(2));
        // A restore key in the own branch goes before the exact key elsewhere.
        assert_eq!(find("npm-abc", &["npm-"]), Some(4));
        assert_eq!(find("none", &["npm-z", "npm-a"]), Some(2));
        assert_eq!(find("NPM-ABC", &[]), None);
        assert_eq!(choose(&entries, &scopes, "w", "npm-abc", &[]), None);
    }

    #[test]
    fn a_pull_request_from_outside_writes_nothing_that_a_branch_reads() {
        let of = |git_ref, base_ref, is_from_outside| {
            Scopes::of(Origin { git_ref, base_ref, default_branch: Some("main"), is_from_outside })
        };
        let inside = of("refs/heads/main", "", false);
        assert_eq!(inside.read, ["refs/heads/main"]);
        assert_eq!(inside.write.as_deref(), Some("refs/heads/main"));
        let outside = of("refs/pull/7/merge", "release", true);
        assert_eq!(outside.read, ["refs/pull/7/merge", "refs/heads/release", "refs/heads/main"]);
        assert_eq!(outside.write.as_deref(), Some("refs/pull/7/merge"));
        assert_eq!(of("refs/heads/main", "main", true).write, None);
        assert_eq!(of("refs/heads/refs/pull/1", "main", true).write, None);
    }

    #[test]
    fn the_least_recently_used_go_first_and_no_more_than_needed() {
        let entries: Vec<_> =
            [(1, 30), (2, 10), (3, 20)].map(|(id, used)| (entry(id, "refs/heads/main", "k"), used)).to_vec();
        let gone = |quota| evicted(entries.clone(), quota).iter().map(|entry| entry.id).collect::<Vec<_>>();
        assert_eq!(gone(30), [0; 0]);
        assert_eq!(gone(29), [2]);
        assert_eq!(gone(10), [2, 3]);
        assert_eq!(gone(0), [2, 3, 1]);
    }

    #[test]
    fn keys_have_limits() {
        assert!(check_key("npm-1").is_ok() && check_key(&"ü".repeat(512)).is_ok());
        for bad in [String::new(), "a,b".to_owned(), "x".repeat(513)] {
            assert!(check_key(&bad).is_err());
        }
    }
}
