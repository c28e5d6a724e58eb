//! What the actions of a job may ask for: artifacts, caches, identity tokens. The unmodified official clients work.
//!
//! A server on a Unix socket speaks their protocols; the agent in the VM carries connections to
//! `http://results.localhost:PORT` to it, so no network is needed. It starts when the first job needs it and ends with
//! the process. See docs/services.md.
//!
//! | module | owns |
//! |---|---|
//! | [`access`] | opening the services for a job: port, tokens, variables |
//! | [`server`], [`call`], [`error`] | routes, reading calls, refusals |
//! | [`artifact_calls`], [`cache_calls`], [`blob`], [`oidc`] | the protocols |
//! | [`artifacts`], [`caches`], [`entry`] | what is kept |
//! | [`upload`], [`staging`], [`state`] | what is under way |
//! | [`policy`] | which cache entry a job gets, and where it may write (pure) |
//! | [`token`], [`settings`] | who calls; what the owner of the host decides |

mod access;
mod artifact_calls;
mod artifacts;
mod blob;
mod cache_calls;
mod caches;
mod call;
mod entry;
mod error;
#[cfg(test)]
mod official;
mod oidc;
mod policy;
mod server;
mod settings;
mod staging;
mod state;
#[cfg(test)]
mod tests;
mod token;
mod upload;

pub(crate) use access::Services;
pub(crate) use artifacts::{ArtifactMeta, Artifacts};
pub(crate) use caches::{CacheEntry, Caches};
pub(crate) use oidc::{IssuerKey, configuration};
pub(crate) use settings::Settings;

use std::path::{Path, PathBuf};

/// The name of the services in a guest. Official clients work with servers of this form.
const HOST: &str = terraphim_github_runner::engine::SERVICES_HOST;

/// Where everything is kept.
pub(crate) fn directory(data: &Path) -> PathBuf {
    data.join("services")
}

/// The origin of the services for a client that called them `host`; nothing for any other name.
fn guest_origin(host: &str) -> Option<String> {
    let port: u16 = host.strip_prefix(HOST)?.strip_prefix(':')?.parse().ok()?;
    Some(format!("http://{HOST}:{port}"))
}
