//! The sessions of a manager and what may happen to them. Nothing waits here and no VM is touched.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::trace::{Past, SessionPhase, SessionTrace};
use super::types::{Session, SessionState, SessionStats};
use crate::error::{GitHubRunnerError, Result};
use crate::models::{SessionId, SnapshotId};

/// All sessions, and the memory of the latest that are gone.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: HashMap<SessionId, Entry>,
    past: Past,
    is_closed: bool,
}

#[derive(Debug)]
struct Entry {
    stage: Stage,
    trace: SessionTrace,
    /// Absent until the VM is there.
    session: Option<Session>,
    /// The place among the sessions at work; given up when the session is over.
    work: Option<OwnedSemaphorePermit>,
    /// The place among the VMs that exist; lent to whoever gives the VM back.
    place: Option<OwnedSemaphorePermit>,
    /// An executor holds the session and will end it, however long that takes.
    is_leased: bool,
    last_active: Instant,
    /// Cancelled when nobody waits for the VM any more.
    abandoned: CancellationToken,
    /// Tells those who wait how the release goes.
    progress: watch::Sender<Progress>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Allocating,
    AtWork,
    Lingering { until: Instant },
    Releasing,
    ReleaseFailed { retry_at: Instant },
}

/// How far a release is.
#[derive(Clone, Debug)]
pub(super) enum Progress {
    NotAsked,
    Underway,
    Done,
    Failed(Arc<GitHubRunnerError>),
}

impl Progress {
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Progress::Done | Progress::Failed(_))
    }
}

/// A VM to be given back, with its place, which is free once this is dropped.
#[derive(Debug)]
pub(super) struct Release {
    pub(super) id: SessionId,
    pub(super) vm_id: String,
    pub(super) place: Option<OwnedSemaphorePermit>,
}

/// What asking for a release led to.
#[derive(Debug)]
pub(super) enum Asked {
    /// The caller has to give this VM back.
    Begin(Release),
    /// Someone is at it, or will be as soon as the VM is there.
    Underway,
    /// It is gone already.
    Gone,
    /// There never was such a session, or it is forgotten.
    Unknown,
}

impl Table {
    /// Enters a session whose VM is going to be allocated.
    pub(super) fn begin(&mut self, id: &SessionId, work: OwnedSemaphorePermit) -> Result<CancellationToken> {
        if self.is_closed {
            return Err(GitHubRunnerError::ShutDown);
        }
        if self.entries.contains_key(id) {
            return Err(GitHubRunnerError::SessionExists { session_id: id.clone() });
        }
        let entry = Entry {
            stage: Stage::Allocating,
            trace: SessionTrace::start(),
            session: None,
            work: Some(work),
            place: None,
            is_leased: false,
            last_active: Instant::now(),
            abandoned: CancellationToken::new(),
            progress: watch::Sender::new(Progress::NotAsked),
        };
        let abandoned = entry.abandoned.clone();
        self.entries.insert(id.clone(), entry);
        Ok(abandoned)
    }

    /// Enters the VM of a session. An error is a VM that nobody wants any more and has to be given back.
    pub(super) fn allocated(
        &mut self,
        session: Session,
        place: OwnedSemaphorePermit,
    ) -> std::result::Result<(), Release> {
        let Some(entry) = self.entries.get_mut(&session.id) else {
            // Only `not_allocated` and `released` remove an entry, and neither happens before this.
            return Err(Release { id: session.id, vm_id: session.vm_id, place: Some(place) });
        };
        entry.trace.vm_id = Some(session.vm_id.clone());
        entry.last_active = Instant::now();
        entry.place = Some(place);
        entry.session = Some(session);
        if self.is_closed || entry.abandoned.is_cancelled() {
            return Err(entry.terminate());
        }
        entry.stage = Stage::AtWork;
        entry.enter(SessionState::Active);
        Ok(())
    }

    /// Forgets a session that got no VM.
    pub(super) fn not_allocated(&mut self, id: &SessionId) {
        self.remove(id);
    }

    /// Asks for the VM of a session to be given back, now.
    pub(super) fn ask_release(&mut self, id: &SessionId) -> Asked {
        let Some(entry) = self.entries.get_mut(id) else {
            return if self.past.get(id).is_some() { Asked::Gone } else { Asked::Unknown };
        };
        match entry.stage {
            Stage::Allocating => {
                entry.abandoned.cancel();
                entry.progress.send_replace(Progress::Underway);
                Asked::Underway
            }
            Stage::Releasing => Asked::Underway,
            Stage::AtWork | Stage::Lingering { .. } | Stage::ReleaseFailed { .. } => {
                Asked::Begin(entry.terminate())
            }
        }
    }

    /// A receiver for how the release of a session goes.
    pub(super) fn progress(&self, id: &SessionId) -> Option<watch::Receiver<Progress>> {
        self.entries.get(id).map(|entry| entry.progress.subscribe())
    }

    /// The VM is gone.
    pub(super) fn released(&mut self, id: &SessionId) {
        self.remove(id);
    }

    /// The VM could not be given back; its place stays taken.
    pub(super) fn not_released(
        &mut self,
        release: Release,
        error: Arc<GitHubRunnerError>,
        retry_at: Instant,
    ) {
        if let Some(entry) = self.entries.get_mut(&release.id) {
            entry.place = release.place;
            entry.stage = Stage::ReleaseFailed { retry_at };
            entry.progress.send_replace(Progress::Failed(error));
        }
    }

    fn remove(&mut self, id: &SessionId) {
        if let Some(mut entry) = self.entries.remove(id) {
            entry.trace.enter(SessionPhase::Released);
            entry.progress.send_replace(Progress::Done);
            self.past.remember(id.clone(), entry.trace);
        }
    }

    /// Marks a session as held by an executor, so that it is never stale.
    pub(super) fn lease(&mut self, id: &SessionId) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.is_leased = true;
        }
    }

    /// Enters a new state of a session at work.
    pub(super) fn change(&mut self, id: &SessionId, state: SessionState) -> Result<()> {
        self.at_work(id)?.enter(state);
        Ok(())
    }

    /// Ends a session: it gives up its place among those at work and keeps its VM for `linger`.
    pub(super) fn finish(&mut self, id: &SessionId, state: SessionState, linger: Duration) -> Result<()> {
        let entry = self.at_work(id)?;
        entry.stage = Stage::Lingering { until: Instant::now() + linger };
        entry.enter(state);
        entry.is_leased = false;
        entry.work = None;
        Ok(())
    }

    /// Notes a snapshot of the VM.
    pub(super) fn add_snapshot(&mut self, id: &SessionId, snapshot: SnapshotId) -> Result<()> {
        let entry = self.at_work(id)?;
        entry.touch();
        if let Some(session) = &mut entry.session {
            session.snapshots.push(snapshot);
        }
        Ok(())
    }

    fn at_work(&mut self, id: &SessionId) -> Result<&mut Entry> {
        match self.entries.get_mut(id) {
            Some(entry) if entry.stage == Stage::AtWork => Ok(entry),
            Some(Entry { stage: Stage::Allocating, .. }) => {
                Err(GitHubRunnerError::SessionNotFound { session_id: id.clone() })
            }
            None if self.past.get(id).is_none() => {
                Err(GitHubRunnerError::SessionNotFound { session_id: id.clone() })
            }
            _ => Err(GitHubRunnerError::SessionOver { session_id: id.clone() }),
        }
    }

    /// The session as it is now; `None` while it has no VM.
    pub(super) fn get(&self, id: &SessionId) -> Option<&Session> {
        self.entries.get(id)?.session.as_ref()
    }

    /// What a session went through, also when it is gone.
    pub(super) fn trace(&self, id: &SessionId) -> Option<&SessionTrace> {
        self.entries.get(id).map(|entry| &entry.trace).or_else(|| self.past.get(id))
    }

    /// Sessions that count against the limit.
    pub(super) fn at_work_ids(&self) -> impl Iterator<Item = &SessionId> {
        self.entries.iter().filter(|(_, entry)| entry.work.is_some()).map(|(id, _)| id)
    }

    /// Whether the manager is shut down or gone.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// All sessions, from now on without new ones.
    pub(super) fn close(&mut self) -> Vec<SessionId> {
        self.is_closed = true;
        self.entries.keys().cloned().collect()
    }

    /// The session whose VM should go when a place is needed: the one that has lingered longest, otherwise one
    /// whose release failed before.
    pub(super) fn most_dispensable(&self) -> Option<SessionId> {
        let dispensable = self.entries.iter().filter_map(|(id, entry)| match entry.stage {
            Stage::Lingering { until } => Some((false, until, id)),
            Stage::ReleaseFailed { retry_at } => Some((true, retry_at, id)),
            _ => None,
        });
        dispensable.min().map(|(_, _, id)| id.clone())
    }

    /// Sessions whose VM should go by now. `stale_after` is how long one may be idle that nobody holds.
    pub(super) fn due(&self, now: Instant, stale_after: Option<Duration>) -> Vec<SessionId> {
        let is_due = |entry: &Entry| entry.deadline(stale_after).is_some_and(|at| at <= now);
        self.entries.iter().filter(|(_, entry)| is_due(entry)).map(|(id, _)| id.clone()).collect()
    }

    /// Sessions that nobody holds and that were idle for `after`.
    pub(super) fn stale(&self, now: Instant, after: Duration) -> Vec<SessionId> {
        let is_stale = |entry: &Entry| entry.stale_at(after).is_some_and(|at| at <= now);
        self.entries.iter().filter(|(_, entry)| is_stale(entry)).map(|(id, _)| id.clone()).collect()
    }

    /// When [`due`](Self::due) will next have something.
    pub(super) fn next_deadline(&self, stale_after: Option<Duration>) -> Option<Instant> {
        self.entries.values().filter_map(|entry| entry.deadline(stale_after)).min()
    }

    pub(super) fn stats(&self) -> SessionStats {
        let mut stats = SessionStats { total_sessions: self.entries.len(), ..SessionStats::default() };
        for entry in self.entries.values() {
            let Some(session) = &entry.session else {
                stats.initializing_sessions += 1;
                continue;
            };
            match session.state {
                SessionState::Active => stats.active_sessions += 1,
                SessionState::Executing => stats.executing_sessions += 1,
                SessionState::Completed => stats.completed_sessions += 1,
                SessionState::Failed | SessionState::RolledBack => stats.failed_sessions += 1,
                SessionState::Initializing | SessionState::Paused | SessionState::Terminating => {}
            }
            stats.total_snapshots += session.snapshots.len();
        }
        stats
    }
}

impl Entry {
    fn touch(&mut self) {
        self.last_active = Instant::now();
        if let Some(session) = &mut self.session {
            session.last_activity = Utc::now();
        }
    }

    fn enter(&mut self, state: SessionState) {
        self.touch();
        self.trace.enter(SessionPhase::In(state));
        if let Some(session) = &mut self.session {
            session.state = state;
        }
    }

    fn terminate(&mut self) -> Release {
        if self.stage != (Stage::Releasing) {
            self.enter(SessionState::Terminating);
        }
        self.stage = Stage::Releasing;
        self.is_leased = false;
        self.work = None;
        self.progress.send_replace(Progress::Underway);
        let session = self.session.as_ref().expect("an entry past Allocating has its session");
        Release { id: session.id.clone(), vm_id: session.vm_id.clone(), place: self.place.take() }
    }

    fn deadline(&self, stale_after: Option<Duration>) -> Option<Instant> {
        match self.stage {
            Stage::Lingering { until } => Some(until),
            Stage::ReleaseFailed { retry_at } => Some(retry_at),
            Stage::AtWork => self.stale_at(stale_after?),
            Stage::Allocating | Stage::Releasing => None,
        }
    }

    fn stale_at(&self, after: Duration) -> Option<Instant> {
        (self.stage == Stage::AtWork && !self.is_leased).then(|| self.last_active + after)
    }
}
