//! Runs requests one after another: image, store, terminal, signals, engine, result.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use chrono::Utc;
use indexmap::IndexMap;
use terraphim_github_runner::{
    SessionManagerConfig,
    engine::{
        self, EngineError, JobKey, KeptJob, Layout, Patience, Plan, QueuedObserver, RunInputs, RunReport,
    },
    session::{LocalVmProvider, SessionManager},
    store::{NewRun, RunId, RunStore, StoreObserver, StoredConclusion},
    workflow::LocalCommandExecutor,
};
use terraphim_vm::{Accelerator, Host, ProcessId, VmError, VmSpec, host_memory_mib};
use tokio_util::sync::CancellationToken;

use super::{
    Secrets,
    learning::{Learning, Told},
    request::Request,
    result::Results,
};
use crate::{
    cli::{Global, image},
    config::Config,
    exit::Exit,
    failure::{Context as _, Failure},
    live::{Both, Live, Screen, closing},
    output::{self, Paint},
    services::Services,
    signals::Interrupts,
    workspace::{Tree, TreeSource},
};

/// Killing takes milliseconds; whatever is left then ends with this process.
const KILL_LIMIT: Duration = Duration::from_secs(20);
/// A guest with software emulation on a busy machine takes up to a minute; this is for one that never comes.
const ALLOCATION_LIMIT: Duration = Duration::from_secs(300);

/// One run to execute.
pub(crate) struct Job {
    pub(crate) request: Request,
    /// The run that it repeats.
    pub(crate) rerun_of: Option<RunId>,
    /// What it takes over from that run.
    pub(crate) taken_over: TakenOver,
}

/// What a run takes over from one that it repeats in part.
#[derive(Debug, Default)]
pub(crate) struct TakenOver {
    /// The jobs that do not run again.
    pub(crate) jobs: IndexMap<JobKey, KeptJob>,
    /// The run that it repeats and those that that one repeats, the newest first: their artifacts are there.
    pub(crate) runs: Vec<RunId>,
}

/// Everything that runs share.
struct Context<'a> {
    host: Host,
    store: RunStore,
    secrets: &'a Secrets,
    /// Artifacts, caches and identity tokens for the jobs of all runs.
    services: Arc<Services>,
    /// The log goes to standard error, because the result goes to standard output.
    is_log_aside: bool,
}

/// Executes the runs; writes their results to `json`.
pub(crate) async fn execute(
    mut jobs: Vec<Job>,
    secrets: &Secrets,
    global: &Global,
    json: Option<&Path>,
) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::listen().context("cannot listen for signals")?;
    let host = global.host()?;
    // Everything that can be wrong with any of them is said before the first one starts.
    for Job { request, .. } in &jobs {
        let (data, repository) = (host.paths().data(), &request.repository.full_name);
        super::secrets::stored(data, repository, secrets, &request.vars)?;
    }
    for Job { request, .. } in &mut jobs {
        tokio::select! {
            fetched = request.fetch_calls(secrets, host.paths().data()) => fetched?,
            () = interrupts.next() => return Ok(Exit::Cancelled),
        }
    }
    // It may make an image, which takes minutes.
    let preparing = tokio::task::spawn_blocking({
        let host = host.clone();
        move || prepare(jobs, &host)
    });
    let jobs = tokio::select! {
        prepared = preparing => prepared.context("the preparation of the run panicked")??,
        () = interrupts.next() => return Ok(Exit::Cancelled),
    };
    let mut results = Results::new(json)?;
    say_if_emulated(&host)?;
    let store = RunStore::open(host.paths().data()).await?;
    // Those of the user, whatever the repository: one store for all of them.
    let config = Config::load(None).map_err(|error| Failure::caused(Exit::Usage, error))?;
    let services = Services::new(host.clone(), config.services);
    let context = Context { host, store, secrets, services, is_log_aside: results.is_on_stdout() };
    let mut exit = Exit::Success;
    for job in jobs {
        let ended = run_one(&context, job, &mut interrupts, &mut results).await;
        let one = match ended {
            Ok(one) => one,
            Err(failure) => {
                failure.report();
                failure.exit
            }
        };
        exit = exit.and(one);
        if one == Exit::Cancelled {
            break;
        }
    }
    context.store.close().await;
    results.finish()?;
    Ok(exit)
}

/// A run that is ready to start.
struct Ready {
    job: Job,
    name: String,
    plan: Plan,
    /// Definitions of VMs by type.
    specs: BTreeMap<String, VmSpec>,
    config: Config,
    /// The guest's user.
    user: String,
}

fn prepare(jobs: Vec<Job>, host: &Host) -> Result<Vec<Ready>, Failure> {
    let planned: Result<Vec<_>, Failure> = jobs.into_iter().map(plan).collect();
    planned?.into_iter().map(|(job, plan)| ready(job, plan, host)).collect()
}

/// The plan of a request; what is wrong is printed with its place in the file.
fn plan(job: Job) -> Result<(Job, Plan), Failure> {
    let source = &job.request.source;
    let workflow = source.load().map_err(|errors| {
        source.say(&errors);
        Failure::silent(Exit::Usage)
    })?;
    let mut plan = engine::plan_workflow(&workflow).map_err(|invalid| {
        source.say(&invalid.diagnostics);
        Failure::silent(Exit::Usage)
    })?;
    plan.notices.extend(source.commits().map(|(name, commit)| format!("{name} is commit {commit}")));
    Ok((job, plan))
}

fn ready(job: Job, plan: Plan, host: &Host) -> Result<Ready, Failure> {
    let config =
        Config::load(Some(&job.request.root)).map_err(|error| Failure::caused(Exit::Usage, error))?;
    let of_type = |name: &String| {
        let vm_type = config.vm_type(name)?.overridden_by(&job.request.vm_flags);
        let labels = BTreeMap::from([("tci.workflow".to_owned(), job.request.source.path.clone())]);
        Some((name.clone(), VmSpec { labels, ..vm_type.spec() }))
    };
    let specs: BTreeMap<String, VmSpec> = config.vm_types.keys().filter_map(of_type).collect();
    let Some(spec) = specs.get(&job.request.vm_type) else {
        return Err(crate::cli::vm::no_vm_type(&config, &job.request.vm_type));
    };
    let mut user = None;
    for spec in used(&plan, &config, &job.request.vm_type, &specs).into_iter().chain([spec]) {
        let problems = spec.problems(host_memory_mib());
        if !problems.is_empty() {
            return Err(VmError::Invalid(problems).into());
        }
        user = Some(image::ensure(host, &spec.image)?.default_user);
    }
    let user = user.expect("the chain has one item at least");
    Ok(Ready { name: plan.name.clone(), job, plan, specs, config, user })
}

/// The VM types that `runs-on` names literally; whatever an expression yields is checked when it is known.
fn used<'a>(
    plan: &Plan,
    config: &Config,
    default: &str,
    specs: &'a BTreeMap<String, VmSpec>,
) -> Vec<&'a VmSpec> {
    let types = config.labels(default);
    let mut names = Vec::new();
    for runs_on in plan.all_jobs().filter_map(|job| job.runs_on.as_ref()) {
        runs_on.visit(&mut |template| {
            names
                .extend(template.as_str().and_then(|label| types.labels.get(&label.to_lowercase()).cloned()));
        });
    }
    names.iter().filter_map(|name| specs.get(name)).collect()
}

/// Ten times slower must not be a riddle.
fn say_if_emulated(host: &Host) -> Result<(), Failure> {
    if let Accelerator::Tcg { reason } = Accelerator::detect(&host.paths().cache())? {
        output::note(&format!("note: VMs are emulated, which is some ten times slower than KVM: {reason}"));
    }
    Ok(())
}

async fn run_one(
    context: &Context<'_>,
    ready: Ready,
    interrupts: &mut Interrupts,
    results: &mut Results,
) -> Result<Exit, Failure> {
    let Ready { job, name, plan, specs, config, user } = ready;
    let request = &job.request;
    let me = ProcessId::current().context("cannot read /proc/self/stat")?;
    let new = new_run(request, &name, job.rerun_of);
    let id = context.store.create_run(&new, &me, Utc::now().timestamp_millis()).await?;
    let run = context.store.run(id).await?;
    let mut inputs = inputs(request, context, &config, &user)?;
    for (name, spec) in &specs {
        if image::has_engine(&context.host, &spec.image)? {
            inputs.vm_types.engines.insert(name.clone());
        }
    }
    let earlier = job.taken_over.runs.iter().map(|run| run.0).collect();
    inputs.services = Some(context.services.of_run(id.0, earlier));
    inputs.kept.clone_from(&job.taken_over.jobs);
    inputs.run_number = run.run_number.unsigned_abs();
    inputs.run_attempt = run.attempt.unsigned_abs();
    let recorder = Arc::new(StoreObserver::new(context.store.clone(), id));
    let environment = environment(request, specs.get(&request.vm_type));
    let learning = Learning::start(&context.store, &config, request, (id, run.attempt), environment).await;
    let learning = Arc::new(learning);
    learning.say_forecast().await;
    let screen =
        Screen::start(context.is_log_aside).map(Arc::new).context("cannot start the screen's thread")?;
    let live = Live::new(Arc::clone(&screen), inputs.parallelism > 1 && has_several_jobs(&plan, request));
    let provider = LocalVmProvider::new(context.host.clone(), specs).keeping(request.keep);
    let sessions =
        SessionManager::with_provider(Arc::new(provider), sessions_config(request, inputs.parallelism));
    let executor = Arc::new(LocalCommandExecutor::new(context.host.clone()).with_user(Some(user)));
    let recording = Arc::new(QueuedObserver::new(recorder.clone(), Patience::Short));
    let observer = Arc::new(Both(Arc::clone(&recording), Both(Arc::clone(&learning), live)));
    let cancel = CancellationToken::new();
    let running = engine::run(plan, inputs, &sessions, executor, observer, cancel.clone());
    let ended = until_end(running, &cancel, interrupts, &recorder).await;
    shut_down(&sessions, interrupts).await;
    screen.end().await;
    recording.settle().await.map_err(|error| Failure::fault(format!("the run was not recorded: {error}")))?;
    learning.settle().await;
    let told = if ended.is_some() { learning.tell().await } else { Told::default() };
    conclude(context, id, &recorder, ended, told, request, results).await
}

/// What may matter to how a command ends, beside the commit.
fn environment(request: &Request, spec: Option<&VmSpec>) -> String {
    let image = spec.map_or("", |spec| spec.image.as_str());
    format!("{} {image} {}", request.vm_type, request.event)
}

/// Whether jobs may run at the same time, so that their lines mix.
fn has_several_jobs(plan: &Plan, request: &Request) -> bool {
    // A job that does not exist is refused by the engine.
    let chosen = if request.jobs.is_empty() { None } else { plan.only(&request.jobs).ok() };
    let jobs = &chosen.as_ref().unwrap_or(plan).jobs;
    jobs.len() > 1 || jobs.iter().any(|job| job.strategy.is_some() || job.call.is_some())
}

fn new_run(request: &Request, name: &str, rerun_of: Option<RunId>) -> NewRun {
    NewRun {
        workflow_name: name.to_owned(),
        workflow_path: request.source.path.clone(),
        repository: request.repository.full_name.clone(),
        event: request.event.clone(),
        git_ref: request.git_ref.clone(),
        sha: request.sha.clone(),
        rerun_of,
        request: serde_json::to_value(request).expect("plain data is JSON"),
    }
}

fn inputs(
    request: &Request,
    context: &Context<'_>,
    config: &Config,
    user: &str,
) -> Result<RunInputs, Failure> {
    let tree = Tree {
        root: request.root.clone(),
        git: request.git()?,
        without: context.host.paths().data().to_owned(),
    };
    let mut inputs =
        RunInputs::new(request.event.clone(), request.repository.clone(), Arc::new(TreeSource(tree)));
    inputs.run_id = request.run_id;
    inputs.event = request.payload.clone();
    inputs.git_ref.clone_from(&request.git_ref);
    inputs.sha.clone_from(&request.sha);
    if let Some(name) = std::env::var("USER").ok().filter(|name| !name.is_empty()) {
        inputs.actor = name;
    }
    if let Some((_, token)) =
        context.secrets.0.iter().find(|(name, _)| name.eq_ignore_ascii_case("GITHUB_TOKEN"))
    {
        inputs.token = token.clone();
    }
    inputs.env.clone_from(&request.env);
    let data = context.host.paths().data();
    let settings =
        super::secrets::stored(data, &request.repository.full_name, context.secrets, &request.vars)?;
    inputs.vars = settings.vars;
    inputs.secrets = settings.secrets;
    inputs.environments = settings.environments;
    if !inputs.secrets.is_empty() || inputs.environments.values().any(|it| !it.secrets.is_empty()) {
        super::keep_out_of_core_files()?;
    }
    inputs.groups = Some(engine::Groups::new(data.join("concurrency")));
    inputs.inputs.clone_from(&request.inputs);
    inputs.jobs.clone_from(&request.jobs);
    inputs.matrix.clone_from(&request.matrix);
    inputs.isolation = request.isolation.into();
    inputs.parallelism = request.parallel.max(1);
    inputs.vm_types = config.labels(&request.vm_type);
    inputs.actions = Some(Arc::new(request.action_store(config, context.secrets, data)?));
    inputs.called = request.source.places().collect();
    inputs.real_checkout = request.real_checkout;
    inputs.repository_directory = request.git()?.map(|git| git.common_dir);
    let home = if user == "root" { "/root".to_owned() } else { format!("/home/{user}") };
    inputs.layout = Layout { home, user: Some(user.to_owned()), ..Layout::default() };
    Ok(inputs)
}

fn sessions_config(request: &Request, parallel: usize) -> SessionManagerConfig {
    SessionManagerConfig {
        default_vm_type: request.vm_type.clone(),
        max_concurrent_sessions: parallel.max(1),
        at_limit: terraphim_github_runner::AtLimit::Queue,
        // Nobody looks at a VM after `tci run` has ended, unless it is kept for that.
        completed_linger: Duration::ZERO,
        // A run may take as long as its jobs may.
        auto_cleanup: false,
        allocation_timeout: ALLOCATION_LIMIT,
        ..SessionManagerConfig::default()
    }
}

/// How a run ended; `None` when it was killed.
type Ended = Option<Result<RunReport, EngineError>>;

async fn until_end(
    running: impl Future<Output = Result<RunReport, EngineError>>,
    cancel: &CancellationToken,
    interrupts: &mut Interrupts,
    recorder: &StoreObserver,
) -> Ended {
    tokio::pin!(running);
    loop {
        tokio::select! {
            ended = &mut running => return Some(ended),
            () = interrupts.next() => {
                if cancel.is_cancelled() {
                    output::warning("killing the run");
                    return None;
                }
                cancel.cancel();
                output::warning(
                    "cancelling: steps are stopped, cleanup runs, the VM is released; press Ctrl-C again to kill",
                );
            }
            () = recorder.failed(), if !cancel.is_cancelled() => {
                output::warning("cancelling: the run can no longer be recorded");
                cancel.cancel();
            }
        }
    }
}

/// Waits until every VM is gone; not for ever, and not against the user's will: VMs end with this process anyway.
async fn shut_down(sessions: &SessionManager, interrupts: &mut Interrupts) {
    tokio::select! {
        ended = tokio::time::timeout(KILL_LIMIT, sessions.shutdown()) => {
            if ended.is_err() {
                output::warning("a VM is slow to go; it ends with this process");
            }
        }
        () = interrupts.next() => {}
    }
}

async fn conclude(
    context: &Context<'_>,
    id: RunId,
    recorder: &StoreObserver,
    ended: Ended,
    told: Told,
    request: &Request,
    results: &mut Results,
) -> Result<Exit, Failure> {
    let (report, fault) = match ended {
        None => {
            recorder.finish(StoredConclusion::Cancelled, Some("killed".to_owned()), Utc::now()).await?;
            return Ok(Exit::Cancelled);
        }
        Some(Ok(report)) => (report, None),
        Some(Err(EngineError::Infrastructure { source, report })) => (*report, Some(source)),
        Some(Err(error)) => {
            // Nothing was started, so there was no run.
            recorder.finish(StoredConclusion::Failure, None, Utc::now()).await?;
            context.store.remove_run(id).await?;
            return Err(refused(error, request));
        }
    };
    results.show(&closing(&report, Paint::for_stdout()))?;
    if request.keep {
        say_kept(&report);
    }
    told.say();
    let exit = Exit::from(report.conclusion);
    results.add(id, report, told);
    if let Some(error) = recorder.error() {
        output::error(&format!("the run could not be recorded: {}", crate::failure::chain(error)));
        recorder.finish(StoredConclusion::InfrastructureFault, Some(error.to_string()), Utc::now()).await?;
        return Ok(Exit::Infrastructure);
    }
    if let Some(error) = fault {
        output::error(&crate::failure::chain(&error));
    }
    if exit != Exit::Success {
        output::hint(&format!("`tci runs logs {id}` prints the log again, `tci rerun {id}` runs it again"));
    }
    if exit == Exit::WorkflowFailed {
        output::hint(&format!(
            "`tci fix {id}` says what may help, and proposes a change of the file if a rule knows one"
        ));
    }
    Ok(exit)
}

/// The engine did not start the run.
fn refused(error: EngineError, request: &Request) -> Failure {
    match error {
        EngineError::Invalid(invalid) => {
            request.source.say(&invalid.diagnostics);
            Failure::silent(Exit::Usage)
        }
        EngineError::SeveralVmTypes { .. } => {
            Failure::caused(Exit::Usage, error).hint("use `--isolation job`")
        }
        EngineError::UnknownJob { .. } | EngineError::Secrets(_) => Failure::caused(Exit::Usage, error),
        _ => Failure::caused(Exit::Infrastructure, error),
    }
}

fn say_kept(report: &RunReport) {
    for vm in &report.vm_ids {
        let begun = report.jobs.iter().filter(|job| job.vm_id.as_ref() == Some(vm));
        let jobs: Vec<&str> = begun.map(|job| &*job.key.0).collect();
        output::note(&format!(
            "VM {vm} was kept: `tci vm shell {vm}` enters it, with `--job JOB` where a job worked ({}), `tci vm rm --force {vm}` \
             removes it",
            jobs.join(", ")
        ));
    }
}
