//! What the owner of the host decides about the services for jobs.

use serde::Deserialize;

/// `[services]` in the user's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Settings {
    /// Bytes in MiB that the caches of one repository may have; the entries that were not used for the longest time make
    /// room. GitHub: 10 GB.
    pub(crate) cache_quota_mib: u32,
    /// The largest artifact in MiB.
    pub(crate) artifact_limit_mib: u32,
    /// How long artifacts are kept that do not ask for less, in days. GitHub: 90.
    pub(crate) artifact_retention_days: u32,
    /// The public address under which others fetch the keys of identity tokens, for instance that of `tci serve`. Without
    /// it the issuer is an address that only the VM knows.
    pub(crate) issuer: Option<String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            cache_quota_mib: 10 * 1024,
            artifact_limit_mib: 10 * 1024,
            artifact_retention_days: 90,
            issuer: None,
        }
    }
}

impl Settings {
    pub(super) fn cache_quota_bytes(&self) -> u64 {
        u64::from(self.cache_quota_mib) << 20
    }

    pub(super) fn artifact_limit_bytes(&self) -> u64 {
        u64::from(self.artifact_limit_mib) << 20
    }

    /// What is wrong with them: the key and why.
    pub(crate) fn problem(&self) -> Option<(&'static str, String)> {
        let is_address = |text: &str| {
            let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
            rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['?', '#', ' ']))
                && !text.ends_with('/')
        };
        match &self.issuer {
            Some(issuer) if !is_address(issuer) => Some((
                "issuer",
                format!(
                    "`{issuer}` is no address: give one like https://ci.example.org, without a `/` at its end"
                ),
            )),
            _ if self.artifact_retention_days == 0 => {
                Some(("artifact-retention-days", "artifacts are kept for one day at least".to_owned()))
            }
            _ => None,
        }
    }
}
