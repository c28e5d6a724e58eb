//! Actions: what a step with `uses` does.
//!
//! ```text
//! load      action.yml -> Loaded
//! remote    those of other repositories: before the VM starts
//! inputs    `with` and defaults -> texts
//! run       the stages of an action: pre, main, post
//! node, composite, docker: one kind each
//! checkout  `actions/checkout`, answered from the host; `asked`: its inputs
//! ```

mod asked;
mod checkout;
mod composite;
mod docker;
mod inputs;
mod load;
mod node;
mod remote;
mod run;

use std::collections::HashMap;

use indexmap::IndexMap;

pub(super) use load::Loaded;
pub(super) use node::Nodes;
pub(super) use remote::{Remotes, prepare};
pub(super) use run::Post;

/// What actions keep for their later stages, by the path of the step that uses the action.
pub(super) type States = HashMap<String, IndexMap<String, String>>;
