//! The observer that shows a run.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use terraphim_github_runner::engine::{JobKey, RunEvent, RunObserver};

use super::{screen::Screen, text::Style};
use crate::output::{Paint, one_line};

/// Shows one run on a [`Screen`].
pub(crate) struct Live {
    screen: Arc<Screen>,
    style: Style,
    /// Jobs whose output is in a group now. Held for one look-up at a time.
    groups: Mutex<BTreeSet<JobKey>>,
    /// Steps that run beside others now. Held for one look-up at a time.
    beside: Mutex<BTreeSet<(JobKey, usize)>>,
}

impl Live {
    /// `has_prefixes`: several jobs may run at the same time.
    pub(crate) fn new(screen: Arc<Screen>, has_prefixes: bool) -> Live {
        let style = Style { paint: Paint::for_stdout(), has_times: !screen.is_terminal(), has_prefixes };
        Live { screen, style, groups: Mutex::default(), beside: Mutex::default() }
    }

    fn follow_groups(&self, event: &RunEvent) -> bool {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            RunEvent::GroupStart { job, .. } => {
                groups.insert(job.clone());
                false
            }
            RunEvent::GroupEnd { job, .. } | RunEvent::StepFinished { job, .. } => groups.remove(job),
            RunEvent::Output { job: Some(job), .. } => groups.contains(job),
            _ => false,
        }
    }

    fn follow_background(&self, event: &RunEvent) -> bool {
        let mut beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            RunEvent::StepStarted { job, number, background: true, .. } => {
                beside.insert((job.clone(), *number))
            }
            RunEvent::StepFinished { job, number, .. } if !beside.is_empty() => {
                beside.remove(&(job.clone(), *number))
            }
            RunEvent::Output { job: Some(job), step, .. } if !beside.is_empty() => {
                beside.contains(&(job.clone(), *step))
            }
            _ => false,
        }
    }

    fn follow_activity(&self, event: &RunEvent) {
        let set = |who: &str, text| self.screen.set_activity(who, text);
        match event {
            RunEvent::RunStarted { .. } => set("", Some("starting a VM".to_owned())),
            RunEvent::VmAllocated { .. } => set("", Some("preparing".to_owned())),
            RunEvent::JobStarted { job, name, .. } => {
                set("", None);
                set(&job.to_string(), Some(one_line(name)));
            }
            RunEvent::StepStarted { job, name, .. } => {
                set(&job.to_string(), Some(format!("{job}: {}", one_line(name))));
            }
            RunEvent::JobFinished { job, .. } => set(&job.to_string(), None),
            RunEvent::CommandStarted { command, .. } => set("", Some(one_line(command))),
            RunEvent::CommandFinished { .. } | RunEvent::RunFinished { .. } => set("", None),
            _ => {}
        }
    }
}

#[async_trait]
impl RunObserver for Live {
    async fn observe(&self, event: &RunEvent) {
        let in_group = self.follow_groups(event);
        if self.screen.is_terminal() {
            self.follow_activity(event);
        }
        let is_beside = self.follow_background(event);
        let text = self.style.event(event, in_group, is_beside);
        if !text.is_empty() {
            self.screen.write(text).await;
        }
    }
}

/// Tells two observers, the first one first.
pub(crate) struct Both<A, B>(pub(crate) A, pub(crate) B);

#[async_trait]
impl<A: RunObserver, B: RunObserver> RunObserver for Both<Arc<A>, B> {
    async fn observe(&self, event: &RunEvent) {
        self.0.observe(event).await;
        self.1.observe(event).await;
    }
}
