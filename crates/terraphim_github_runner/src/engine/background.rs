//! Steps that run beside others: `background`, `parallel`, `wait`, `wait-all` and `cancel`.
//!
//! A step in the background is a branch of its job. It begins with what the job knew when it started, and what it asked
//! to hide is hidden everywhere at once. The rest of what it gave (outputs, variables, its part in the result) reaches
//! the job when a step waits for it or cancels it, and at the latest when the last step of the job has ended.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use indexmap::IndexMap;
use terraphim_actions::env_file;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::action::{Post, States};
use super::clock::Interruption;
use super::event::Conclusion;
use super::job::Job;
use super::output::StepOutput;
use super::plan::Work;
use super::report::StepReport;
use super::step::{Frame, WorkEnd};
use crate::error::Result;
use crate::workflow::{OutputSink as _, Stream};

/// How many steps of a job run in the background at a time; more wait for their turn. GitHub's default.
const MOST: usize = 10;

/// The steps of a job that run in the background. Dropping it stops them.
pub(super) struct Background {
    tasks: JoinSet<Result<Branch>>,
    /// What stops those that have not ended, by the index of the step.
    open: BTreeMap<usize, CancellationToken>,
    /// Those that have ended and that nobody waited for.
    ended: BTreeMap<usize, Branch>,
    /// Those that a `cancel` step stopped: that is no failure of the job.
    cancelled: HashSet<usize>,
    slots: Arc<Semaphore>,
    has_failure: bool,
}

/// What a step in the background left.
struct Branch {
    index: usize,
    report: StepReport,
    env: IndexMap<String, String>,
    paths: Vec<String>,
    has_event_file: bool,
    /// What its action is to do after all steps, and what it keeps for that.
    posts: Vec<Post>,
    states: States,
}

impl Background {
    pub(super) fn new() -> Background {
        Background {
            tasks: JoinSet::new(),
            open: BTreeMap::new(),
            ended: BTreeMap::new(),
            cancelled: HashSet::new(),
            slots: Arc::new(Semaphore::new(MOST)),
            has_failure: false,
        }
    }

    /// Notes the end of a step.
    fn note(&mut self, branch: Branch) {
        let is_failure = branch.report.conclusion == Conclusion::Failure;
        let is_stopped =
            branch.report.conclusion == Conclusion::Cancelled && !self.cancelled.contains(&branch.index);
        self.has_failure |= is_failure || is_stopped;
        self.open.remove(&branch.index);
        self.ended.insert(branch.index, branch);
    }
}

impl Job {
    /// Starts a step in the background.
    pub(super) fn start_in_background(&mut self, index: usize) {
        let kill = CancellationToken::new();
        self.is_workspace_touched = true;
        let branch = self.branch(kill.clone());
        let slots = Arc::clone(&self.background.slots);
        self.background.open.insert(index, kill.clone());
        self.background.tasks.spawn(async move {
            // One that is stopped before its turn finds that out by itself.
            let _slot = tokio::select! {
                biased;
                () = kill.cancelled() => None,
                slot = slots.acquire_owned() => slot.ok(),
            };
            branch.run_branch(index).await
        });
    }

    async fn run_branch(mut self, index: usize) -> Result<Branch> {
        let (env, paths) = (self.env.clone(), self.paths.clone());
        let report = self.main_step(index).await?;
        self.tell_finished(&report).await;
        let is_new = |(name, value): &(String, String)| env.get(name) != Some(value);
        Ok(Branch {
            index,
            report,
            env: self.env.into_iter().filter(is_new).collect(),
            paths: self.paths.into_iter().filter(|path| !paths.contains(path)).collect(),
            has_event_file: self.has_event_file,
            posts: self.level.posts,
            states: self.states,
        })
    }

    /// Carries out a step that waits for others or cancels one.
    pub(super) async fn control(&mut self, work: &Work, frame: &Frame) -> Result<WorkEnd> {
        let (steps, is_cancel) = match work {
            Work::Cancel { step } => (vec![*step], true),
            Work::Wait { steps } => (steps.clone(), false),
            _ => (self.background.open.keys().chain(self.background.ended.keys()).copied().collect(), false),
        };
        if is_cancel {
            for step in &steps {
                self.background.cancelled.insert(*step);
                if let Some(kill) = self.background.open.get(step) {
                    kill.cancel();
                }
            }
        }
        let is_interrupted = self.until_ended(&steps).await?;
        let (text, has_failure) = self.take_branches(&steps);
        self.say(frame, text).await;
        Ok(WorkEnd::new(match () {
            () if is_interrupted => Conclusion::Cancelled,
            () if has_failure && !is_cancel => Conclusion::Failure,
            () => Conclusion::Success,
        }))
    }

    /// Waits for every step in the background and takes over what they left. The steps of the job are over.
    pub(super) async fn end_background(&mut self) -> Result<()> {
        let open: Vec<usize> = self.background.open.keys().copied().collect();
        self.until_ended(&open).await?;
        let ended: Vec<usize> = self.background.ended.keys().copied().collect();
        self.take_branches(&ended);
        // Also when a `wait` with `continue-on-error` passed over it.
        if self.background.has_failure && self.status == Conclusion::Success {
            self.status = Conclusion::Failure;
        }
        Ok(())
    }

    /// Waits until these steps have ended; says whether the job was interrupted meanwhile. Every step has a clock of
    /// its own, which stops it when the job is to end.
    async fn until_ended(&mut self, steps: &[usize]) -> Result<bool> {
        let mut is_interrupted = false;
        while steps.iter().any(|step| self.background.open.contains_key(step)) {
            tokio::select! {
                biased;
                ended = self.background.tasks.join_next() => match ended {
                    Some(Ok(branch)) => self.background.note(branch?),
                    Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    // Nobody aborts a task while the job lives.
                    Some(Err(_)) | None => return Ok(is_interrupted),
                },
                why = self.clock.interrupted(), if !is_interrupted => {
                    is_interrupted = true;
                    if why != Interruption::Over {
                        self.interrupt(why).await;
                    }
                }
            }
        }
        Ok(is_interrupted)
    }

    /// Takes over what these steps left; says how each ended, and whether one failed.
    fn take_branches(&mut self, steps: &[usize]) -> (String, bool) {
        let mut text = String::new();
        let mut has_failure = false;
        for step in steps {
            let Some(branch) = self.background.ended.remove(step) else { continue };
            let Branch { index, report, env, paths, has_event_file, posts, states } = branch;
            text += &format!("{}: {}\n", report.name, report.conclusion);
            has_failure |= report.conclusion == Conclusion::Failure;
            self.env.extend(env);
            env_file::add_paths(&mut self.paths, &paths.join("\n"));
            self.has_event_file |= has_event_file;
            self.level.posts.extend(posts);
            self.states.extend(states);
            self.take(Some(index), report);
        }
        if text.is_empty() {
            text.push_str("There is no step in the background to wait for.\n");
        }
        (text, has_failure)
    }

    /// Writes something into the log of a step.
    pub(super) async fn say(&mut self, frame: &Frame, text: String) {
        let shared = Arc::clone(&self.shared);
        let place = self.output_place(frame.number);
        let mut output = StepOutput::new(place, &*shared.observer, self.masks.clone(), None);
        // Writing to an observer cannot fail.
        let _ = output.write(Stream::Stdout, text.into()).await;
        output.finish().await;
    }
}
