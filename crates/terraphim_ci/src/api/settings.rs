//! What the host allows: `[serve]` in the configuration.

use std::time::Duration;

use serde::Deserialize;

/// `[serve]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Settings {
    /// How many VMs a user may have at a time.
    pub(crate) vms_per_user: usize,
    /// Lets in every user whose token has a good signature, not only those that `tci token create` made.
    pub(crate) any_user: bool,
    /// The time limit of a command that gives none.
    pub(crate) default_timeout_seconds: u64,
    /// The largest time limit that a command may ask for.
    pub(crate) max_timeout_seconds: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        // As many VMs as a session manager has sessions by default. GitHub: 6 h per job, docs "Usage limits".
        Settings {
            vms_per_user: 10,
            any_user: false,
            default_timeout_seconds: 300,
            max_timeout_seconds: 6 * 3600,
        }
    }
}

impl Settings {
    pub(super) fn default_timeout(&self) -> Duration {
        Duration::from_secs(self.default_timeout_seconds)
    }

    pub(super) fn max_timeout(&self) -> Duration {
        Duration::from_secs(self.max_timeout_seconds)
    }
}
