//! What a run is given beside its plan.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use indexmap::IndexMap;
use tokio::io::AsyncRead;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::clock::Timing;
use super::event::JobKey;
use super::groups::Groups;
use super::kept::KeptJob;
use super::layout::Layout;
use super::services::JobServices;
use crate::action::{ActionStore, WorkflowPlace};
use crate::models::RepositoryInfo;

/// What a run is given beside its plan. [`RunInputs::new`] fills in what has a sensible default.
#[derive(Clone)]
pub struct RunInputs {
    /// Identifies the run; becomes the id of its session.
    pub run_id: Uuid,
    /// `github.run_number`.
    pub run_number: u64,
    /// `github.run_attempt`.
    pub run_attempt: u64,
    /// The event, for instance `push`.
    pub event_name: String,
    /// Its payload.
    pub event: serde_json::Value,
    /// The repository.
    pub repository: RepositoryInfo,
    /// Branch, tag or pull request, for instance `refs/heads/main`; may be empty.
    pub git_ref: String,
    /// The commit; may be empty.
    pub sha: String,
    /// Who started the run.
    pub actor: String,
    /// `github.token`; may be empty.
    pub token: Secret,
    /// The files of the repository.
    pub workspace: Arc<dyn WorkspaceSource>,
    /// Variables below those of the workflow.
    pub env: IndexMap<String, String>,
    /// The context `vars`.
    pub vars: IndexMap<String, String>,
    /// The context `secrets`; none of their values is ever stored or shown.
    pub secrets: IndexMap<String, Secret>,
    /// What jobs get in addition that name an environment, by its name in lower case.
    pub environments: IndexMap<String, EnvironmentSettings>,
    /// Where concurrency groups are kept; without it they have no effect.
    pub groups: Option<Groups>,
    /// The context `inputs`.
    pub inputs: IndexMap<String, serde_json::Value>,
    /// Run only these jobs and those that they need; all of them if empty.
    pub jobs: Vec<String>,
    /// Run only the jobs of matrices that have one of these values for each key that is named here.
    pub matrix: IndexMap<String, Vec<String>>,
    /// How jobs ended in the run that this one repeats in part, by their keys. They do not run again unless something that
    /// they need does.
    pub kept: IndexMap<JobKey, KeptJob>,
    /// How jobs are kept apart.
    pub isolation: Isolation,
    /// How many jobs may run at the same time.
    pub parallelism: usize,
    /// Which VM type `runs-on` means.
    pub vm_types: VmTypes,
    /// What actions may ask the world around the job for; absent means nothing.
    pub services: Option<Arc<dyn JobServices>>,
    /// Where the actions of other repositories come from; without it there are none.
    pub actions: Option<Arc<ActionStore>>,
    /// Where the called workflows of other repositories are from, by the names that the plan has of their files.
    pub called: IndexMap<String, WorkflowPlace>,
    /// Run `actions/checkout` itself instead of answering it.
    pub real_checkout: bool,
    /// The repository on this host, for checkouts of its other commits; without it they come from where actions come
    /// from.
    pub repository_directory: Option<PathBuf>,
    /// Where things are in the guest.
    pub layout: Layout,
    /// Time limits.
    pub timing: Timing,
}

impl RunInputs {
    /// A run for `event_name` without payload, secrets or settings.
    pub fn new(
        event_name: impl Into<String>,
        repository: RepositoryInfo,
        workspace: Arc<dyn WorkspaceSource>,
    ) -> RunInputs {
        RunInputs {
            run_id: Uuid::now_v7(),
            run_number: 1,
            run_attempt: 1,
            event_name: event_name.into(),
            event: serde_json::Value::Object(serde_json::Map::new()),
            repository,
            git_ref: String::new(),
            sha: String::new(),
            actor: "tci".to_owned(),
            token: Secret::default(),
            workspace,
            env: IndexMap::new(),
            vars: IndexMap::new(),
            secrets: IndexMap::new(),
            environments: IndexMap::new(),
            groups: None,
            inputs: IndexMap::new(),
            jobs: Vec::new(),
            matrix: IndexMap::new(),
            kept: IndexMap::new(),
            isolation: Isolation::Workflow,
            parallelism: 1,
            vm_types: VmTypes::default(),
            services: None,
            actions: None,
            called: IndexMap::new(),
            real_checkout: false,
            repository_directory: None,
            layout: Layout::default(),
            timing: Timing::default(),
        }
    }

    /// The repository's name without its owner; the name of the directory of its files.
    #[must_use]
    pub fn repository_name(&self) -> &str {
        let full = &self.repository.full_name;
        full.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("repository")
    }
}

/// Gives the files of the repository, as often as a VM needs them.
#[async_trait]
pub trait WorkspaceSource: Send + Sync {
    /// A tar stream of the files, without a directory around them.
    ///
    /// # Errors
    /// If they cannot be read.
    async fn tar(&self) -> std::io::Result<Box<dyn AsyncRead + Send + Unpin>>;
}

/// A repository without files.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmptyWorkspace;

#[async_trait]
impl WorkspaceSource for EmptyWorkspace {
    async fn tar(&self) -> std::io::Result<Box<dyn AsyncRead + Send + Unpin>> {
        // The end of a tar archive: two blocks of zeros.
        Ok(Box::new(std::io::Cursor::new(vec![0; 1024])))
    }
}

/// What the jobs of an environment get, over what the repository has.
#[derive(Clone, Debug, Default)]
pub struct EnvironmentSettings {
    /// Its secrets.
    pub secrets: IndexMap<String, Secret>,
    /// Its variables.
    pub vars: IndexMap<String, String>,
}

/// A text that is never printed, and wiped from memory when it is dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Secret(Zeroizing::new(text))
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Secret(Zeroizing::new(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How the jobs of a run are kept apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// One VM for the run; each job has a view of its own in it.
    #[default]
    Workflow,
    /// One VM for each job.
    Job,
}

/// Which VM type the labels of `runs-on` mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmTypes {
    /// The type for labels that name no type of their own.
    pub default: String,
    /// Types by label, in lower case.
    pub labels: BTreeMap<String, String>,
    /// The types whose image has a container engine: `dockerd` and `docker`.
    pub engines: BTreeSet<String>,
}

impl Default for VmTypes {
    fn default() -> Self {
        VmTypes { default: "default".to_owned(), labels: BTreeMap::new(), engines: BTreeSet::new() }
    }
}

impl VmTypes {
    /// The type for a list of labels and a group: that of the first label that has one, else that of the group. The first
    /// of them that no type answers to is the error. `arch` is the host's, which its VMs have too.
    pub(super) fn resolve(
        &self,
        labels: &[String],
        group: Option<&str>,
        arch: &str,
    ) -> Result<String, Unanswered> {
        let mut found = None;
        for label in labels {
            let lower = label.to_lowercase();
            match self.labels.get(&lower) {
                Some(vm_type) => found = found.or(Some(vm_type.clone())),
                None if is_general(&lower, arch) => {}
                None => return Err(Unanswered::Label(label.clone())),
            }
        }
        if let Some(group) = group {
            // At GitHub a job waits for a runner of its group whatever its labels are: no group is a general one.
            let of_group = self.labels.get(&group.to_lowercase());
            let of_group = of_group.ok_or_else(|| Unanswered::Group(group.to_owned()))?;
            found = found.or(Some(of_group.clone()));
        }
        Ok(found.unwrap_or_else(|| self.default.clone()))
    }
}

/// What a job wants to run on and no VM type answers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// A label, as it is written.
    Label(String),
    /// A group, as it is written.
    Group(String),
}

impl Unanswered {
    /// What to do about it.
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            Unanswered::Label(label) if is_for_arm(&label.to_lowercase()) => {
                "VMs have the processor of this host, which is another one; if that will do, map it to a VM type in the \
                 configuration (`[runs-on]`), or use ubuntu-latest"
            }
            Unanswered::Label(_) => {
                "map it to a VM type in the configuration, or use ubuntu-latest, self-hosted or linux"
            }
            Unanswered::Group(_) => {
                "map it to a VM type in the configuration, as a label (`[runs-on]`), or use labels only"
            }
        }
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unanswered::Label(name) => write!(f, "the label {name:?}"),
            Unanswered::Group(name) => write!(f, "the group {name:?}"),
        }
    }
}

/// Labels that any Linux VM answers to on a host with this processor.
fn is_general(label: &str, arch: &str) -> bool {
    let is_arm = arch == "aarch64";
    let families = ["ubuntu-", "debian-"];
    match label {
        "self-hosted" | "linux" | "ubuntu" | "debian" => true,
        "x64" => !is_arm,
        "arm64" => is_arm,
        _ => families.iter().any(|family| label.starts_with(family)) && (is_arm || !is_for_arm(label)),
    }
}

/// GitHub: docs, "GitHub-hosted runners reference": `ubuntu-24.04-arm`. Larger runners are called as their owners like:
/// `ubuntu-24.04-arm64-8core`.
fn is_for_arm(label: &str) -> bool {
    label.split(['-', '_']).any(|part| matches!(part, "arm" | "arm64" | "aarch64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_choose_a_vm_type() {
        let mut types = VmTypes::default();
        types.labels.insert("big".into(), "sixteen-cores".into());
        for (labels, want) in [
            (vec!["ubuntu-latest"], Ok("default")),
            (vec!["Ubuntu-24.04"], Ok("default")),
            (vec!["self-hosted", "linux", "BIG"], Ok("sixteen-cores")),
            (vec!["windows-latest"], Err("windows-latest")),
            (vec!["big", "gpu"], Err("gpu")),
            (vec![], Ok("default")),
        ] {
            let want = want.map(str::to_owned).map_err(|label| Unanswered::Label(label.to_owned()));
            assert_eq!(types.resolve(&owned(&labels), None, "x86_64"), want, "{labels:?}");
        }
    }

    #[test]
    fn a_group_is_mapped_as_a_label_or_refused() {
        let mut types = VmTypes::default();
        types.labels.insert("big".into(), "sixteen-cores".into());
        types.labels.insert("gpu".into(), "graphics".into());
        for (labels, group, want) in [
            (&["ubuntu-latest"][..], "big", Ok("sixteen-cores")),
            (&[], "Big", Ok("sixteen-cores")),
            (&["linux", "gpu"], "big", Ok("graphics")),
            (&["gpu"], "other", Err("the group \"other\"")),
            // What any VM answers to is a label and no group.
            (&[], "ubuntu-latest", Err("the group \"ubuntu-latest\"")),
            (&["fpga"], "other", Err("the label \"fpga\"")),
        ] {
            let got = types.resolve(&owned(labels), Some(group), "x86_64").map_err(|it| it.to_string());
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{labels:?} {group}");
        }
    }

    #[test]
    fn labels_for_another_processor_are_refused_unless_they_are_mapped() {
        let mut types = VmTypes::default();
        let answers =
            |types: &VmTypes, label: &str, arch| types.resolve(&owned(&[label]), None, arch).is_ok();
        for label in ["ubuntu-24.04-arm", "Ubuntu-22.04-ARM64", "ubuntu-24.04-arm64-8core", "ARM64"] {
            assert!(!answers(&types, label, "x86_64") && answers(&types, label, "aarch64"), "{label}");
        }
        assert!(answers(&types, "X64", "x86_64") && !answers(&types, "x64", "aarch64"));
        assert!(answers(&types, "ubuntu-24.04", "aarch64") && answers(&types, "ubuntu-armour", "x86_64"));
        let remedy = |label: &str| Unanswered::Label(label.to_owned()).remedy();
        assert!(remedy("ubuntu-24.04-arm").starts_with("VMs have the processor of this host"));
        assert!(remedy("gpu").starts_with("map it to a VM type"));
        types.labels.insert("ubuntu-24.04-arm".into(), "default".into());
        assert!(answers(&types, "ubuntu-24.04-arm", "x86_64"));
    }

    fn owned(labels: &[&str]) -> Vec<String> {
        labels.iter().map(|label| (*label).to_owned()).collect()
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret::from("hunter2")), "***");
    }
}
