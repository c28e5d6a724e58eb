//! `tci actions`: which commit each action of the workflows is, and each workflow of other repositories that they call.

use std::{collections::BTreeMap, path::Path, path::PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use terraphim_actions::{
    action::Action,
    diagnostic::Diagnostic,
    workflow::{Job, Step, StepKind, Uses, Workflow, called_name},
};
use terraphim_github_runner::action::{
    ActionError, ActionReference, ActionStore, Fetched, LOCK_FILE, Lock, Manifest, uses_of,
};

use super::{
    Global,
    run::{ActionArgs, find},
    small_runtime,
};
use crate::{config::Config, exit::Exit, failure::Failure, input, output};

/// The files of an action.
const NAMES: [&str; 2] = ["action.yml", "action.yaml"];

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci actions lock")]
pub(crate) struct ActionsArgs {
    #[command(subcommand)]
    command: ActionsCommand,
}

#[derive(Debug, Subcommand)]
enum ActionsCommand {
    /// List the actions of the workflows, with those that they use.
    Ls(LsArgs),
    /// Note in tci.lock which commit each action is that is not there yet; remove those that are used no more.
    Lock(LockArgs),
    /// Note in tci.lock which commit each action is now.
    Update(UpdateArgs),
}

#[derive(Debug, Args)]
struct Common {
    /// A workflow file, a directory with workflow files, or a repository.
    #[arg(long, short = 'W', value_name = "PATH")]
    workflows: Option<PathBuf>,
    #[command(flatten)]
    actions: ActionArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci actions ls --json")]
struct LsArgs {
    #[command(flatten)]
    common: Common,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci actions lock && git add .github/workflows/tci.lock")]
struct LockArgs {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci actions update actions/cache@v4")]
struct UpdateArgs {
    /// Only these, written as in `uses` without a path [default: all].
    uses: Vec<ActionReference>,
    #[command(flatten)]
    common: Common,
}

pub(crate) fn main(args: &ActionsArgs, global: &Global) -> Result<Exit, Failure> {
    let runtime = small_runtime()?;
    match &args.command {
        ActionsCommand::Ls(args) => runtime.block_on(ls(args, global)),
        ActionsCommand::Lock(args) => runtime.block_on(write(&args.common, global, Renew::Nothing)),
        ActionsCommand::Update(args) => {
            runtime.block_on(write(&args.common, global, Renew::These(&args.uses)))
        }
    }
}

/// What a command works on.
struct Task {
    /// The top of the working tree.
    root: PathBuf,
    /// Where the lock file is.
    directory: PathBuf,
    store: ActionStore,
    /// What the workflows use and call themselves, or through actions of the working tree.
    direct: Vec<ActionReference>,
    /// `actions/checkout` is an action like others, not answered from the host.
    is_checkout_real: bool,
}

impl Task {
    /// Whether a run fetches this action.
    fn is_fetched(&self, action: &ActionReference) -> bool {
        self.is_checkout_real || !action.full_name().eq_ignore_ascii_case("actions/checkout")
    }

    /// What an action or a called workflow of a repository uses and a run fetches, as the engine does.
    async fn used_by(
        &self,
        store: &ActionStore,
        by: &ActionReference,
        at: &Fetched,
    ) -> Result<Vec<ActionReference>, Failure> {
        let wrong = |errors: Vec<Diagnostic>| {
            Failure::usage(errors.iter().map(|error| format!("{error}\n")).collect::<String>())
        };
        let mut used = Vec::new();
        if by.is_workflow() {
            let text = store.workflow(by, at).await.map_err(failure)?;
            let workflow = Workflow::parse(&text, &by.to_string()).map_err(wrong)?;
            let of_same = |uses| match uses {
                Uses::SameRepository(path) => Uses::Remote {
                    owner: by.owner.clone(),
                    repository: by.repository.clone(),
                    path,
                    reference: by.reference.clone(),
                },
                uses => uses,
            };
            used.extend(remote(&self.root, uses_in(&workflow).into_iter().map(of_same).collect()));
            used.extend(calls(&workflow, Some(&by.to_string())));
        } else if let Manifest::File { name, text } = store.manifest(by, at).await.map_err(failure)? {
            let action = Action::parse(&text, &format!("{by}/{name}")).map_err(wrong)?;
            used.extend(uses_of(&action).filter_map(|uses| match uses {
                Uses::SameRepository(path) => Some(ActionReference { path, ..by.clone() }),
                uses => ActionReference::of(&uses),
            }));
        }
        used.retain(|used| self.is_fetched(used));
        Ok(used)
    }
}

fn task(common: &Common, global: &Global) -> Result<Task, Failure> {
    let selection = find(common.workflows.as_deref())?;
    let config = Config::load(Some(&selection.root)).map_err(|error| Failure::caused(Exit::Usage, error))?;
    let mut direct = Vec::new();
    for file in &selection.files {
        let bytes = input::read(file, input::MOST_DATA)
            .map_err(|error| Failure::io("read", file, error).ending(Exit::Usage))?;
        let shown = file.strip_prefix(&selection.root).unwrap_or(file).to_string_lossy().into_owned();
        let text = input::utf8(bytes, &shown)?;
        let workflow = Workflow::parse(&text, &shown).map_err(|errors| {
            let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Failure::usage(all.join("\n"))
        })?;
        direct.extend(remote(&selection.root, uses_in(&workflow)));
        direct.extend(calls(&workflow, None));
    }
    direct.sort();
    direct.dedup();
    let directory = selection.files.first().and_then(|file| file.parent());
    let directory = directory.unwrap_or(&selection.root).to_owned();
    let store = common.actions.store(&config, global.paths()?.data(), &directory, None)?;
    let is_checkout_real = config.actions.real_checkout;
    let mut task = Task { root: selection.root, directory, store, direct, is_checkout_real };
    let direct = std::mem::take(&mut task.direct);
    task.direct = direct.into_iter().filter(|action| task.is_fetched(action)).collect();
    Ok(task)
}

/// The workflows of other repositories that a workflow calls. `name` is its own, if it is of another repository. What is
/// none of the forms of a call is said when it runs.
fn calls(workflow: &Workflow, name: Option<&str>) -> Vec<ActionReference> {
    let called = |job: &Job| Some(called_name(name, &job.call.as_ref()?.uses));
    let called = workflow.jobs.values().filter_map(called);
    called.filter_map(|name| ActionReference::of_workflow(&name).ok()).collect()
}

fn uses_in(workflow: &Workflow) -> Vec<Uses> {
    let mut uses = Vec::new();
    workflow.jobs.values().flat_map(|job| &job.steps).for_each(|step| add_uses(step, &mut uses));
    uses
}

/// The actions of repositories among `uses`, and those that actions of the working tree use.
fn remote(root: &Path, mut uses: Vec<Uses>) -> Vec<ActionReference> {
    let mut found = Vec::new();
    let mut seen = Vec::new();
    while let Some(next) = uses.pop() {
        match &next {
            Uses::Local(path) | Uses::SameRepository(path) => {
                if !seen.contains(path) {
                    seen.push(path.clone());
                    uses.extend(local_uses(&root.join(path)));
                }
            }
            _ => found.extend(ActionReference::of(&next)),
        }
    }
    found
}

fn add_uses(step: &Step, all: &mut Vec<Uses>) {
    match &step.kind {
        StepKind::Uses { uses, .. } => all.extend(Uses::parse(uses)),
        StepKind::Parallel(steps) => steps.iter().for_each(|step| add_uses(step, all)),
        _ => {}
    }
}

/// What an action of the working tree uses. One that is not there yet may be made by a step.
fn local_uses(directory: &Path) -> Vec<Uses> {
    let text = NAMES.iter().find_map(|name| input::read_text(&directory.join(name), input::MOST_DATA).ok());
    let action = text.and_then(|text| Action::parse(&text, "action.yml").ok());
    action.map(|action| uses_of(&action).collect()).unwrap_or_default()
}

/// An action that was found.
struct Found {
    action: ActionReference,
    at: Fetched,
}

/// The actions and those that they use, each once. `get` says which commit one is.
async fn closure(
    task: &Task,
    get: impl AsyncFn(&ActionReference) -> Result<Fetched, ActionError>,
) -> Result<Vec<Found>, Failure> {
    let mut open = task.direct.clone();
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    while let Some(action) = open.pop() {
        if found.contains_key(&action.key()) {
            continue;
        }
        let at = get(&action).await.map_err(failure)?;
        open.extend(task.used_by(&task.store, &action, &at).await?);
        found.insert(action.key(), Found { action, at });
    }
    Ok(found.into_values().collect())
}

fn failure(error: ActionError) -> Failure {
    let hint = error.hint();
    let failure = Failure::caused(Exit::Usage, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// What of the lock file is looked up again.
#[derive(Clone, Copy)]
enum Renew<'a> {
    Nothing,
    /// All, if none is named.
    These(&'a [ActionReference]),
}

impl Renew<'_> {
    fn has(self, action: &ActionReference) -> bool {
        match self {
            Renew::Nothing => false,
            Renew::These(all) => {
                let key = action.repository_key();
                all.is_empty() || all.iter().any(|named| named.repository_key() == key)
            }
        }
    }

    /// What is named is used, or a misspelt name would look as if it had been renewed.
    fn check(self, found: &[Found]) -> Result<(), Failure> {
        let Renew::These(all) = self else { return Ok(()) };
        let key = ActionReference::repository_key;
        let none = all.iter().find(|named| !found.iter().any(|found| key(&found.action) == key(named)));
        none.map_or(Ok(()), |named| {
            let failure = Failure::usage(format!("no workflow uses {named}"));
            Err(failure.hint("`tci actions ls` lists what is used"))
        })
    }
}

/// Writes the lock file.
async fn write(common: &Common, global: &Global, renew: Renew<'_>) -> Result<Exit, Failure> {
    let task = task(common, global)?;
    let old = Lock::read(&task.directory).map_err(|error| Failure::caused(Exit::Usage, error))?;
    let known = |action: &ActionReference| old.as_ref().and_then(|lock| lock.commit(action));
    let found = closure(&task, async |action| {
        if renew.has(action) || known(action).is_none() {
            task.store.resolve(action).await
        } else {
            task.store.fetch(action).await
        }
    })
    .await?;
    renew.check(&found)?;
    let mut lock = Lock::new(task.directory.join(LOCK_FILE));
    for Found { action, at } in &found {
        lock.set(action, &at.commit);
        match known(action) {
            Some(commit) if commit == at.commit => {}
            Some(commit) => output::note(&format!("{action}: {commit} -> {}", at.commit)),
            None => output::note(&format!("{action}: {}", at.commit)),
        }
    }
    lock.write().map_err(|error| Failure::caused(Exit::Infrastructure, error))?;
    output::data(&format!("{}\n", lock.path().display()))?;
    Ok(Exit::Success)
}

/// A line of `tci actions ls`.
#[derive(Serialize)]
struct Line {
    uses: String,
    commit: Option<String>,
    locked: bool,
    cached: bool,
}

async fn ls(args: &LsArgs, global: &Global) -> Result<Exit, Failure> {
    let task = task(&args.common, global)?;
    let lock = Lock::read(&task.directory).map_err(|error| Failure::caused(Exit::Usage, error))?;
    // Nothing is fetched to be listed.
    let offline = task.store.clone().offline(true);
    let mut open = task.direct.clone();
    let mut lines: BTreeMap<String, Line> = BTreeMap::new();
    while let Some(action) = open.pop() {
        if lines.contains_key(&action.key()) {
            continue;
        }
        let locked = lock.as_ref().and_then(|lock| lock.commit(&action));
        let at = offline.fetch(&action).await.ok();
        if let Some(at) = &at {
            // What is wrong with it does not keep the others from being listed.
            open.extend(task.used_by(&offline, &action, at).await.unwrap_or_default());
        }
        let commit = at.as_ref().map(|at| at.commit.clone()).or_else(|| locked.clone());
        let line = Line { uses: action.to_string(), commit, locked: locked.is_some(), cached: at.is_some() };
        lines.insert(action.key(), line);
    }
    let lines: Vec<Line> = lines.into_values().collect();
    if args.json {
        output::json(&lines)?;
        return Ok(Exit::Success);
    }
    let yes = |flag: bool| if flag { "yes" } else { "no" }.to_owned();
    let row = |line: &Line| {
        let commit = line.commit.clone().unwrap_or_else(|| "-".to_owned());
        vec![line.uses.clone(), commit, yes(line.locked), yes(line.cached)]
    };
    let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
    output::data(&output::table(&["USES", "COMMIT", "LOCKED", "CACHED"], &rows))?;
    Ok(Exit::Success)
}
