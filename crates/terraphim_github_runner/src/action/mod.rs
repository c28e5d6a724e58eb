//! Actions of other repositories on the host: where they come from, which commit they are, and the cache of them.
//!
//! | file | what |
//! |---|---|
//! | `reference` | `owner/repository/path@ref` |
//! | `source` | GitHub, a directory or an address that mirrors it |
//! | `git` | runs git: the one way to the network |
//! | `store` | the cache: a bare repository for each repository, a ref for each commit |
//! | `called` | workflows of other repositories that workflows call |
//! | `checkout` | a repository checked out on the host, for `actions/checkout` |
//! | `lock` | `tci.lock`: which commit each action is |
//!
//! Git is run as a program. It is needed on the host anyway (a run reads the working tree with it), and it brings the
//! user's proxies, certificates and `insteadOf` rules along; a library for the same would be some hundred crates.

mod called;
mod checkout;
mod error;
mod git;
mod lock;
mod reference;
mod source;
mod store;
mod uses;

pub use called::{CalledFile, WorkflowPlace, fetch_called};
pub use checkout::{CheckedOut, Checkout, Submodules};
pub use error::{ActionError, Tried};
pub use git::GitError;
pub use lock::{LOCK_FILE, Lock, LockError, Locked};
pub use reference::ActionReference;
pub use source::Source;
pub use store::{ActionStore, Fetched, Manifest};
pub use uses::uses_of;

pub(crate) use git::header;
