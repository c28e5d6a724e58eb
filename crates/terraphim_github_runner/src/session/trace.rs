//! What a session went through, and the memory of sessions that are gone.

use std::collections::{HashMap, VecDeque};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::types::SessionState;
use crate::models::SessionId;

/// Where a session was, including after its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionPhase {
    /// In this state.
    In(SessionState),
    /// Gone: its VM was given back, or none was ever given.
    Released,
}

/// One entry of a [`SessionTrace`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChange {
    /// When.
    pub at: DateTime<Utc>,
    /// Into which phase.
    pub phase: SessionPhase,
}

/// Everything a session went through, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionTrace {
    /// The VM, once there was one.
    pub vm_id: Option<String>,
    /// The changes, oldest first. Of a very long session the middle is missing.
    pub changes: Vec<StateChange>,
}

/// A session changes twice per command, so the trace of a hundred commands is whole.
const CHANGES_KEPT: usize = 256;

impl SessionTrace {
    pub(super) fn start() -> Self {
        let mut trace = SessionTrace { vm_id: None, changes: Vec::new() };
        trace.enter(SessionPhase::In(SessionState::Initializing));
        trace
    }

    pub(super) fn enter(&mut self, phase: SessionPhase) {
        if self.changes.len() >= CHANGES_KEPT {
            self.changes.remove(CHANGES_KEPT / 2);
        }
        self.changes.push(StateChange { at: Utc::now(), phase });
    }

    /// The phases without their times.
    #[must_use]
    pub fn phases(&self) -> Vec<SessionPhase> {
        self.changes.iter().map(|change| change.phase).collect()
    }
}

/// How many released sessions are remembered: enough to answer a repeated release, and to look at the latest.
const REMEMBERED: usize = 1024;

/// The latest sessions that are gone.
#[derive(Debug, Default)]
pub(super) struct Past {
    traces: HashMap<SessionId, SessionTrace>,
    order: VecDeque<SessionId>,
}

impl Past {
    pub(super) fn remember(&mut self, id: SessionId, trace: SessionTrace) {
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.traces.remove(&oldest);
        }
        if self.traces.insert(id.clone(), trace).is_none() {
            self.order.push_back(id);
        }
    }

    pub(super) fn get(&self, id: &SessionId) -> Option<&SessionTrace> {
        self.traces.get(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_latest_are_remembered() {
        let mut past = Past::default();
        let ids: Vec<_> = (0..REMEMBERED + 2).map(|_| SessionId::new()).collect();
        for id in &ids {
            past.remember(id.clone(), SessionTrace::start());
        }
        assert!(past.get(&ids[1]).is_none());
        assert!(past.get(&ids[2]).is_some());
        assert_eq!((past.traces.len(), past.order.len()), (REMEMBERED, REMEMBERED));
    }

    #[test]
    fn a_trace_keeps_its_beginning_and_its_end() {
        let mut trace = SessionTrace::start();
        for _ in 0..3 * CHANGES_KEPT {
            trace.enter(SessionPhase::In(SessionState::Executing));
        }
        trace.enter(SessionPhase::Released);
        assert_eq!(trace.changes.len(), CHANGES_KEPT);
        assert_eq!(trace.changes[0].phase, SessionPhase::In(SessionState::Initializing));
        assert_eq!(trace.changes[CHANGES_KEPT - 1].phase, SessionPhase::Released);
    }
}
