//! The life of a job's containers: a network, the container of its steps, its services; then their end.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use indexmap::IndexMap;
use terraphim_actions::expr::{Object, Scope, Value};
use terraphim_actions::resolve;
use tokio::time::Instant;

use super::Daemon;
use super::host::let_in;
use super::launch::JobContainer;
use super::needs::no_engine;
use super::paths::Paths;
use super::spec::Role;
use super::start::{Common, Started, Stop};
use super::tool::{Call, failure, say};
use super::wanted::Wanted;
use crate::engine::clock::Interruption;
use crate::engine::event::{Annotation, AnnotationLevel, Conclusion, RunEvent};
use crate::engine::job::Job;
use crate::engine::level::Holder;
use crate::engine::output::StepOutput;
use crate::engine::report::StepReport;
use crate::error::Result;

/// The names that GitHub gives these steps.
const INITIALIZE: &str = "Initialize containers";
const STOP: &str = "Stop containers";

/// How it is with the containers of a job.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) enum State {
    /// It asks for none, or they are not started yet.
    #[default]
    None,
    /// They run.
    Running(Arc<Containers>),
    /// It asks for some and they do not run.
    Failed {
        /// The steps were to run in one.
        has_job: bool,
    },
}

/// The containers of a job.
#[derive(Debug)]
pub(in crate::engine) struct Containers {
    pub(super) network: String,
    pub(super) job: Option<Arc<JobContainer>>,
    /// `job.container`
    job_context: Object,
    /// `job.services`
    services_context: Object,
}

impl Job {
    /// The steps of the job, with the containers that they need around them.
    ///
    /// # Errors
    /// The VM or its host failed.
    pub(in crate::engine) async fn with_containers(&mut self) -> Result<()> {
        let wanted = match self.wanted_containers().await? {
            Ok(wanted) => wanted,
            Err(text) => {
                self.fail(text).await;
                return Ok(());
            }
        };
        let Some(wanted) = wanted else { return self.all_steps().await };
        self.own_steps = 1;
        self.of = self.planned.steps.len() + 2 * self.own_steps;
        let report = self.initialize_containers(&wanted, 1).await?;
        self.conclude(None, report).await;
        self.all_steps().await?;
        let report = self.stop_containers(self.of).await?;
        self.conclude(None, report).await;
        Ok(())
    }

    /// What `container` and `services` come to; the inner error is one of the job.
    ///
    /// # Errors
    /// The VM or its host failed.
    async fn wanted_containers(&mut self) -> Result<Result<Option<Wanted>, String>> {
        let planned = Arc::clone(&self.planned);
        if planned.container.is_none() && planned.services.is_none() {
            return Ok(Ok(None));
        }
        let contexts = self.contexts(&self.env, &self.github);
        let read = |scope: &Scope<'_>| {
            let container = planned.container.as_ref().map(|template| resolve::container(template, scope));
            let services = planned.services.as_ref().map(|template| resolve::services(template, scope));
            Ok((container.transpose()?.flatten(), services.transpose()?.unwrap_or_default()))
        };
        let (container, services) = match self.evaluate(&contexts, read).await? {
            Ok(read) => read,
            Err(error) => return Ok(Err(self.describe(&error))),
        };
        for credentials in
            container.iter().chain(services.values().flatten()).filter_map(|it| it.credentials.as_ref())
        {
            if !credentials.password.trim().is_empty()
                && let Err(error) = self.masks.add(&credentials.password)
            {
                return Ok(Err(error.to_string()));
            }
        }
        Ok(match Wanted::read(container.as_ref(), &services) {
            Ok(wanted) => Ok(Some(wanted).filter(|wanted| wanted.all().next().is_some())),
            Err(problem) => {
                let (container, services) = (planned.container.as_ref(), planned.services.as_ref());
                Err(self.describe(&problem.at(container, services)))
            }
        })
    }

    /// Starts the containers, as a step of the job.
    ///
    /// # Errors
    /// The VM or its host failed.
    async fn initialize_containers(&mut self, wanted: &Wanted, number: usize) -> Result<StepReport> {
        let began = self.begin(INITIALIZE, number).await;
        self.containers = State::Failed { has_job: wanted.job.is_some() };
        let shared = Arc::clone(&self.shared);
        let mut output =
            StepOutput::new(self.output_place(number), &*shared.observer, self.masks.clone(), None);
        let log_began = self.place.daemon.as_ref().map_or(0, Daemon::logged);
        let started = self.start_all(&mut output, wanted, number).await?;
        let outcome = match started {
            Ok(containers) => {
                self.use_containers(containers);
                Conclusion::Success
            }
            Err(Stop::Interrupted) => Conclusion::Cancelled,
            Err(Stop::Failed(text)) => {
                self.tell_daemon(&mut output, log_began).await?;
                output.annotate(Annotation::new(AnnotationLevel::Error, text)).await;
                Conclusion::Failure
            }
        };
        Ok(self.end(began, output, outcome).await)
    }

    async fn start_all(
        &mut self,
        output: &mut StepOutput<'_>,
        wanted: &Wanted,
        step: usize,
    ) -> Result<Result<Containers, Stop>> {
        if self.place.daemon.is_none() {
            return Ok(Err(Stop::Failed(no_engine("this job"))));
        }
        let repository = self.shared.inputs.repository_name().to_owned();
        let paths = Paths::of_job(&self.shared.inputs.layout, &repository);
        let common = Common {
            label: self.label(),
            network: format!("tci-{}", self.ready.key),
            directory: paths.inside(&self.shared.workspace()),
            paths,
        };
        self.group(step, "Create local container network").await;
        let create = Call::new(&["docker", "network", "create", "--label", &common.label, &common.network]);
        let made = self.call_heard(create, output, &Holder::nobody()).await?;
        self.end_group(step).await;
        match made.conclusion {
            Conclusion::Success => {}
            Conclusion::Cancelled => return Ok(Err(Stop::Interrupted)),
            _ => return Ok(Err(Stop::Failed(failure("Docker network create", &made)))),
        }
        if wanted.job.is_some()
            && let Err(stop) = self.let_containers_in().await?
        {
            return Ok(Err(stop));
        }
        let (mut job, mut job_context, mut services_context) = (None, Object::new(), Object::new());
        let mut checked = Vec::new();
        for spec in wanted.all() {
            let title = match &spec.role {
                Role::Job => "Starting job container".to_owned(),
                Role::Service(name) => format!("Starting {name} service container"),
            };
            self.group(step, &title).await;
            if spec.role == Role::Job {
                self.prepare_directories().await?;
            }
            let started = self.start_container(output, spec, &common).await?;
            self.end_group(step).await;
            let started = match started {
                Ok(started) => started,
                Err(stop) => return Ok(Err(stop)),
            };
            let context = context(&started, &common.network);
            match &spec.role {
                Role::Job => {
                    let Started { id, path, .. } = started;
                    job = Some(Arc::new(JobContainer { id, paths: common.paths.clone(), path }));
                    job_context = context;
                }
                Role::Service(name) => {
                    services_context.insert(name, context);
                    checked.extend(started.checked_since.map(|since| (name.clone(), started.id, since)));
                }
            }
        }
        if !checked.is_empty() {
            self.group(step, "Waiting for all services to be ready").await;
            for (name, id, since) in checked {
                if let Err(stop) = self.wait_for_health(output, &name, &id, &since).await? {
                    self.end_group(step).await;
                    return Ok(Err(stop));
                }
            }
            self.end_group(step).await;
        }
        Ok(Ok(Containers { network: common.network, job, job_context, services_context }))
    }

    /// Lets containers reach what listens on the loopback interface of the VM.
    async fn let_containers_in(&mut self) -> Result<Result<(), Stop>> {
        let answer = self.ask(let_in(), &Holder::nobody()).await?;
        Ok(match answer.conclusion {
            Conclusion::Success => Ok(()),
            Conclusion::Cancelled => Err(Stop::Interrupted),
            _ => Err(Stop::Failed(format!("The VM cannot be reached from containers: {}", answer.stderr))),
        })
    }

    /// From now on the steps run in the container of the job, if there is one, and know its paths.
    fn use_containers(&mut self, containers: Containers) {
        if let Some(container) = &containers.job {
            for (object, names) in [
                (&mut self.github, &["workspace", "event_path"][..]),
                (&mut self.runner, &["temp", "tool_cache", "workspace"]),
            ] {
                for name in names {
                    let path = object.get(name).map(|path| container.paths.inside(&path.to_text()));
                    object.insert(name, path.unwrap_or_default());
                }
            }
        }
        self.containers = State::Running(Arc::new(containers));
    }

    /// Removes the containers, as the last step of the job, whatever became of it.
    ///
    /// # Errors
    /// The VM or its host failed.
    async fn stop_containers(&mut self, number: usize) -> Result<StepReport> {
        let began = self.begin(STOP, number).await;
        let shared = Arc::clone(&self.shared);
        let mut output =
            StepOutput::new(self.output_place(number), &*shared.observer, self.masks.clone(), None);
        let filter = format!("label={}", self.label());
        let script = "ids=$(docker ps --all --quiet --filter \"$1\") || exit\n\
            [ -z \"$ids\" ] || docker rm --force --volumes $ids || exit\n\
            networks=$(docker network ls --quiet --filter \"$1\") || exit\n\
            [ -z \"$networks\" ] || docker network rm $networks";
        say(&mut output, "Stop and remove the containers and the network of the job.\n").await?;
        let mut outcome = Conclusion::Success;
        if self.place.daemon.is_some() {
            let answer = self.ask_at_the_end(Call::new(&["sh", "-c", script, "sh", &filter])).await?;
            if answer.conclusion != Conclusion::Success {
                // As GitHub has it: a job is not worse for what it left behind.
                let text = format!("The containers of the job cannot be removed: {}", answer.stderr);
                output.annotate(Annotation::new(AnnotationLevel::Warning, text)).await;
            }
        } else {
            outcome = Conclusion::Skipped;
        }
        self.containers = match std::mem::take(&mut self.containers) {
            State::None => State::None,
            State::Running(containers) => State::Failed { has_job: containers.job.is_some() },
            failed @ State::Failed { .. } => failed,
        };
        Ok(self.end(began, output, outcome).await)
    }

    /// The context `job`.
    pub(in crate::engine) fn job_context(&self, status: &str) -> Object {
        let mut job: Object = [("status", Value::str(status))].into_iter().collect();
        if let State::Running(containers) = &self.containers {
            if containers.job.is_some() {
                job.insert("container", containers.job_context.clone());
            }
            if containers.services_context.iter().next().is_some() {
                job.insert("services", containers.services_context.clone());
            }
        }
        job
    }

    /// What the containers of this job have in common, and no others.
    pub(super) fn label(&self) -> String {
        format!("tci.job={}", self.ready.key)
    }

    /// Waits; the reason, if the job is to end before.
    pub(super) async fn pause(&mut self, time: Duration) -> Option<Interruption> {
        tokio::select! {
            biased;
            why = self.clock.interrupted() => Some(why),
            () = tokio::time::sleep(time) => None,
        }
    }

    /// Shows what the daemon said since it had logged so many bytes, if it did: what it said before is of other jobs.
    async fn tell_daemon(&self, output: &mut StepOutput<'_>, since: usize) -> Result<()> {
        let log = self.place.daemon.as_ref().map(|daemon| daemon.log_since(since)).unwrap_or_default();
        if log.is_empty() {
            return Ok(());
        }
        say(output, &format!("The log of the container engine:\n{log}\n")).await
    }

    async fn group(&self, step: usize, name: &str) {
        let job = self.ready.key.clone();
        let event = RunEvent::GroupStart { job, step, name: self.masks.mask(name), at: Utc::now() };
        self.shared.observe(&event).await;
    }

    async fn end_group(&self, step: usize) {
        let job = self.ready.key.clone();
        self.shared.observe(&RunEvent::GroupEnd { job, step, at: Utc::now() }).await;
    }

    async fn begin(&mut self, name: &'static str, number: usize) -> Began {
        self.number = number;
        let began = Began { name, number, at: Utc::now(), since: Instant::now() };
        let event = RunEvent::StepStarted {
            job: self.ready.key.clone(),
            name: name.to_owned(),
            number,
            of: self.of,
            background: false,
            at: began.at,
        };
        self.shared.observe(&event).await;
        began
    }

    async fn end(&self, began: Began, output: StepOutput<'_>, outcome: Conclusion) -> StepReport {
        StepReport {
            number: began.number,
            id: None,
            name: began.name.to_owned(),
            outcome,
            conclusion: outcome,
            exit_code: None,
            outputs: IndexMap::new(),
            annotations: output.finish().await.annotations,
            summary: None,
            started_at: Some(began.at),
            duration: began.since.elapsed(),
        }
    }
}

/// A step of the engine itself that has begun.
struct Began {
    name: &'static str,
    number: usize,
    at: chrono::DateTime<Utc>,
    since: Instant,
}

fn context(started: &Started, network: &str) -> Object {
    let mut context: Object = [("id", started.id.as_str()), ("network", network)].into_iter().collect();
    let ports: Object = started.ports.iter().map(|(inside, outside)| (inside, outside.as_str())).collect();
    context.insert("ports", ports);
    context
}
