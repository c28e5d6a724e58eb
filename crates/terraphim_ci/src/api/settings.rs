//! What the host allows: `[serve]` in the configuration.

use std::{num::NonZeroU64, time::Duration};

use serde::Deserialize;

/// How long a client may keep us waiting for the rest of a request, in seconds. Far more than a connection needs that works;
/// one that does not, or whose owner wants to hold many, is let go.
const CLIENT_TIMEOUT_SECONDS: NonZeroU64 = NonZeroU64::new(30).expect("30 is not 0");

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
    /// How long a client may take for the head of a request, and how long nothing may come of its body.
    pub(crate) client_timeout_seconds: NonZeroU64,
}

impl Default for Settings {
    fn default() -> Settings {
        // As many VMs as a session manager has sessions by default. GitHub: 6 h per job, docs "Usage limits".
        Settings {
            vms_per_user: 10,
            any_user: false,
            default_timeout_seconds: 300,
            max_timeout_seconds: 6 * 3600,
            client_timeout_seconds: CLIENT_TIMEOUT_SECONDS,
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

    pub(super) fn client_timeout(&self) -> Duration {
        Duration::from_secs(self.client_timeout_seconds.get())
    }
}
