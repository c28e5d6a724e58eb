//! Kinds of causes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of thing made a command fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Memory ran out, or the kernel killed it for that.
    OutOfMemory,
    /// No space left.
    DiskFull,
    /// A host name could not be resolved.
    Dns,
    /// A service refused because of too many requests.
    RateLimit,
    /// A connection failed.
    Network,
    /// It took too long.
    Timeout,
    /// A test failed.
    Test,
    /// A compiler refused.
    Compile,
    /// A linker refused.
    Link,
    /// Dependencies could not be resolved or fetched.
    Dependency,
    /// Something must not be done or read.
    Permission,
    /// A program, file or module is missing.
    NotFound,
    /// The program crashed (signal, panic, uncaught exception).
    Crash,
    /// Anything else.
    Other,
}

impl Cause {
    /// Whether the machine or the network is to blame rather than the code.
    #[must_use]
    pub fn is_infrastructure(self) -> bool {
        matches!(self, Cause::OutOfMemory | Cause::DiskFull | Cause::Dns | Cause::RateLimit | Cause::Network)
    }

    /// The word in the database and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Cause::OutOfMemory => "out_of_memory",
            Cause::DiskFull => "disk_full",
            Cause::Dns => "dns",
            Cause::RateLimit => "rate_limit",
            Cause::Network => "network",
            Cause::Timeout => "timeout",
            Cause::Test => "test",
            Cause::Compile => "compile",
            Cause::Link => "link",
            Cause::Dependency => "dependency",
            Cause::Permission => "permission",
            Cause::NotFound => "not_found",
            Cause::Crash => "crash",
            Cause::Other => "other",
        }
    }

    /// What can be done about it, in general.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Cause::OutOfMemory => {
                "give the VM more memory (memory-mib of its type) or run fewer jobs at once"
            }
            Cause::DiskFull => {
                "give the VM a larger disk (disk-mib of its type) or remove what is not needed"
            }
            Cause::Dns | Cause::Network => "retry the step; if it repeats, keep what it fetches in a cache",
            Cause::RateLimit => "cache what is fetched, or authenticate",
            Cause::Timeout => "look for what hangs, or raise the time limit",
            Cause::Test => "run the named test alone",
            Cause::Compile | Cause::Link => "build locally with the same versions",
            Cause::Dependency => "update or pin the named dependency",
            Cause::Permission => "check the permissions and credentials it runs with",
            Cause::NotFound => "install what is missing, or check its path",
            Cause::Crash | Cause::Other => "look for the cause in the log",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name().replace('_', " "))
    }
}
