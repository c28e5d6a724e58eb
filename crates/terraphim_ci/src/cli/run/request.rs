//! What a run was asked to do, as it is recorded: enough to do it again, and no secret.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use terraphim_github_runner::{RepositoryInfo, action::ActionStore};
use uuid::Uuid;

use super::{
    ActionArgs, Isolation, RunArgs, Secrets,
    actions::directory_of,
    event, inputs, matrix,
    select::{Chosen, Selection},
    source::Source,
};
use crate::{
    cli::vm::no_vm_type,
    config::{Config, VmType},
    exit::Exit,
    failure::Failure,
    output,
    workspace::{GitInfo, Repository},
};

/// One run of one workflow. Old records are read by newer programs: new fields have defaults.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// `github.run_id` is made of it. GitHub: "This number does not change if you re-run the workflow run"; so it is
    /// recorded. Records that are older than it get one when they run again.
    #[serde(default = "Uuid::now_v7")]
    pub(crate) run_id: Uuid,
    /// The top of the working tree.
    pub(crate) root: PathBuf,
    #[serde(flatten)]
    pub(crate) source: Source,
    /// The event's name.
    pub(crate) event: String,
    /// Its payload.
    pub(crate) payload: Value,
    pub(crate) repository: RepositoryInfo,
    /// Where the event happened, which need not be what the working tree has.
    pub(crate) git_ref: String,
    /// Likewise.
    pub(crate) sha: String,
    pub(crate) env: IndexMap<String, String>,
    pub(crate) vars: IndexMap<String, String>,
    pub(crate) inputs: IndexMap<String, Value>,
    /// Names only.
    pub(crate) secret_names: Vec<String>,
    /// Only these jobs, and those they need.
    pub(crate) jobs: Vec<String>,
    pub(crate) matrix: IndexMap<String, Vec<String>>,
    pub(crate) isolation: Isolation,
    pub(crate) parallel: usize,
    /// The VM type for jobs whose labels name none.
    pub(crate) vm_type: String,
    /// What flags said over it.
    pub(crate) vm_flags: VmType,
    pub(crate) keep: bool,
    /// Where actions come from.
    #[serde(default)]
    pub(in crate::cli) actions: ActionArgs,
    /// `actions/checkout` itself runs.
    #[serde(default)]
    pub(crate) real_checkout: bool,
}

impl Request {
    /// The repository at `root` as it is now.
    pub(crate) fn git(&self) -> Result<Option<Repository>, Failure> {
        Repository::discover(&self.root).map_err(|error| Failure::caused(Exit::Infrastructure, error))
    }

    /// Where its actions come from.
    pub(super) fn action_store(
        &self,
        config: &Config,
        secrets: &Secrets,
        data: &Path,
    ) -> Result<ActionStore, Failure> {
        let workflows = directory_of(&self.root, &self.source.path);
        let token = secrets.0.iter().find(|(name, _)| name.eq_ignore_ascii_case("GITHUB_TOKEN"));
        let store = self.actions.store(config, data, &workflows, token.map(|(_, token)| token))?;
        // What a called workflow uses of its own repository is of the commit that the workflow was read at.
        let known = self.source.commits();
        let known = known.filter_map(|(name, commit)| Some((name.parse().ok()?, commit.to_owned())));
        Ok(store.with_commits(known))
    }

    /// Fetches the workflows of other repositories that its jobs call.
    pub(super) async fn fetch_calls(&mut self, secrets: &Secrets, data: &Path) -> Result<(), Failure> {
        let config = Config::load(Some(&self.root)).map_err(|error| Failure::caused(Exit::Usage, error))?;
        let store = self.action_store(&config, secrets, data)?;
        self.source.fetch_calls(&store).await.map_err(|errors| {
            self.source.say(&errors);
            Failure::silent(Exit::Usage)
        })
    }
}

/// What the command line asks for, a request for each workflow. Of the secrets the names are recorded.
pub(super) fn prepare(
    args: &RunArgs,
    selection: &Selection,
    chosen: Vec<Chosen>,
    secret_names: &[String],
) -> Result<Vec<Request>, Failure> {
    let config = Config::load(Some(&selection.root)).map_err(|error| Failure::caused(Exit::Usage, error))?;
    let vm_type = args.vm_type.clone().unwrap_or_else(|| "default".to_owned());
    if config.vm_type(&vm_type).is_none() {
        return Err(no_vm_type(&config, &vm_type));
    }
    let git = selection.git.as_ref().map_or_else(|| outside_git(selection), Repository::info);
    let (env, vars, given) = (args.variables.env()?, args.variables.vars()?, args.variables.inputs()?);
    let wanted = matrix::parse(&args.matrix)?;
    matrix::check(&wanted, &chosen, &args.job)?;
    let actions = args.actions.absolute()?;
    let parallel = args.parallel.map_or_else(processors, usize::from);
    chosen
        .into_iter()
        .map(|chosen| {
            let mut payload = args.event.payload(&chosen.event, &git)?;
            let given = inputs::given(&chosen.event, &payload, &given);
            let inputs = inputs::inputs(&chosen.workflow, &chosen.event, &given)?;
            if !inputs.is_empty() {
                payload["inputs"] = as_text(&inputs);
            }
            let at = event::at(&chosen.event, &payload, &git, selection.git.as_ref());
            if let Some(note) = &at.note {
                output::note(note);
            }
            Ok(Request {
                run_id: Uuid::now_v7(),
                root: selection.root.clone(),
                source: chosen.source,
                event: chosen.event,
                payload,
                repository: git.repository.clone(),
                git_ref: at.git_ref,
                sha: at.sha,
                env: env.clone(),
                vars: vars.clone(),
                inputs,
                secret_names: secret_names.to_vec(),
                jobs: args.job.clone(),
                matrix: wanted.clone(),
                isolation: args.isolation,
                parallel,
                vm_type: vm_type.clone(),
                vm_flags: args.spec.as_type(),
                keep: args.keep,
                actions: actions.clone(),
                real_checkout: args.real_checkout || config.actions.real_checkout,
            })
        })
        .collect()
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// `github.event.inputs` holds strings, whatever the types of `inputs`.
fn as_text(inputs: &IndexMap<String, Value>) -> Value {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    inputs
        .iter()
        .map(|(name, value)| (name.clone(), Value::String(text(value))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// What `tci run` calls the repository of a directory.
pub(in crate::cli) fn repository_of(directory: &Path) -> Result<String, Failure> {
    let directory = directory
        .canonicalize()
        .map_err(|error| Failure::io("find", directory, error).ending(Exit::Usage))?;
    let git =
        Repository::discover(&directory).map_err(|error| Failure::caused(Exit::Infrastructure, error))?;
    Ok(match git {
        Some(git) => git.info().repository.full_name,
        None => name_outside_git(&directory),
    })
}

fn name_outside_git(root: &Path) -> String {
    let name = root.file_name().map_or_else(|| "repository".into(), |name| name.to_string_lossy());
    format!("local/{name}")
}

/// A name for what is no repository.
pub(in crate::cli) fn outside_git(selection: &Selection) -> GitInfo {
    let full_name = name_outside_git(&selection.root);
    let repository = RepositoryInfo { full_name, clone_url: None, default_branch: None };
    GitInfo { repository, sha: String::new(), git_ref: String::new() }
}
