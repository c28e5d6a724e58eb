//! The life of a VM: which states there are, and what each event makes of them. No I/O, so that every order of events is
//! tested; the registry asks [`next`] before it writes a row.
//!
//! ```text
//!              defined              claimed             launched
//!   (no such VM) ──> created ────────────────> starting ─────────> running
//!        ^              │                       │  │ │                │ │
//!        │              │ removed     start     │  │ │ stop           │ │ stop
//!        ├──────────────┘             failed    │  │ │ requested      │ │ requested
//!        │   removed            ┌───────────────┘  │ └──> stopping <──┘ │
//!        ├────────────────── failed                │         │          │
//!        │   removed            │ claimed          │ ended,  │ ended,   │ ended,
//!        └────────────────── stopped <─────────────┴─────────┴──────────┘ lost
//!                               │ claimed            lost      lost
//!                               └──> starting
//! ```
//!
//! A VM in `starting`, `running` or `stopping` has a supervisor, which alone writes its row; `lost` is what whoever finds
//! that supervisor dead writes. `stop requested` leaves every other state as it is, so stopping twice is no mistake. An event
//! that a state does not know is refused and changes nothing.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where a VM is in its life, see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmState {
    /// Defined, never started.
    Created,
    /// Its supervisor has claimed it.
    Starting,
    /// The hypervisor runs.
    Running,
    /// It was asked to stop.
    Stopping,
    /// It ran and ended.
    Stopped,
    /// It could not be started.
    Failed,
}

/// What happens to a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StateEvent {
    /// Somebody defined it.
    Defined,
    /// A supervisor has its lock and starts it.
    Claimed,
    /// The hypervisor answers.
    Launched,
    /// Somebody wants it stopped.
    StopRequested,
    /// There will be no hypervisor.
    StartFailed,
    /// The hypervisor has ended, and its supervisor saw it.
    Ended,
    /// The supervisor has ended without a word; the hypervisor with it.
    Lost,
    /// Somebody removed it.
    Removed,
}

/// An event that a state does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{}", match .state {
    Some(state) => format!("a VM that is {state} cannot be {}", .event.word()),
    None => format!("a VM that does not exist cannot be {}", .event.word()),
})]
pub struct RefusedEvent {
    /// The state, where there was a VM.
    pub state: Option<VmState>,
    /// The event.
    pub event: StateEvent,
}

/// What `event` makes of `state`; `None` is that there is no such VM.
///
/// # Errors
/// The state does not know the event.
pub fn next(state: Option<VmState>, event: StateEvent) -> Result<Option<VmState>, RefusedEvent> {
    use StateEvent::{Claimed, Defined, Ended, Launched, Lost, Removed, StartFailed, StopRequested};
    use VmState::{Created, Failed, Running, Starting, Stopped, Stopping};
    let next = match (state, event) {
        (None, Defined) => Created,
        (Some(Created | Stopped | Failed), Claimed) => Starting,
        (Some(Starting), Launched) => Running,
        (Some(Starting), StartFailed) => Failed,
        (Some(Starting | Running | Stopping), StopRequested) => Stopping,
        (Some(Starting | Running | Stopping), Ended | Lost) => Stopped,
        (Some(state @ (Created | Stopped | Failed)), StopRequested | Lost) => state,
        (Some(Created | Stopped | Failed), Removed) => return Ok(None),
        (None, _)
        | (Some(_), Defined)
        | (Some(Starting | Running | Stopping), Claimed | Removed)
        | (Some(Running | Stopping), Launched | StartFailed)
        | (Some(Created | Stopped | Failed), Launched | StartFailed | Ended) => {
            return Err(RefusedEvent { state, event });
        }
    };
    Ok(Some(next))
}

impl VmState {
    /// All states.
    pub const ALL: [VmState; 6] = [
        VmState::Created,
        VmState::Starting,
        VmState::Running,
        VmState::Stopping,
        VmState::Stopped,
        VmState::Failed,
    ];

    /// The word that is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            VmState::Created => "created",
            VmState::Starting => "starting",
            VmState::Running => "running",
            VmState::Stopping => "stopping",
            VmState::Stopped => "stopped",
            VmState::Failed => "failed",
        }
    }

    /// The state of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<VmState> {
        VmState::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether a supervisor must be alive in this state.
    #[must_use]
    pub fn is_owned(self) -> bool {
        matches!(self, VmState::Starting | VmState::Running | VmState::Stopping)
    }
}

impl fmt::Display for VmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl StateEvent {
    /// All events.
    pub const ALL: [StateEvent; 8] = [
        StateEvent::Defined,
        StateEvent::Claimed,
        StateEvent::Launched,
        StateEvent::StopRequested,
        StateEvent::StartFailed,
        StateEvent::Ended,
        StateEvent::Lost,
        StateEvent::Removed,
    ];

    /// Completes "a VM cannot be".
    fn word(self) -> &'static str {
        match self {
            StateEvent::Defined => "defined",
            StateEvent::Claimed => "claimed by a supervisor",
            StateEvent::Launched => "launched",
            StateEvent::StopRequested => "asked to stop",
            StateEvent::StartFailed => "failed at its start",
            StateEvent::Ended => "ended",
            StateEvent::Lost => "lost",
            StateEvent::Removed => "removed",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events() -> impl Strategy<Value = Vec<StateEvent>> {
        prop::collection::vec(prop::sample::select(StateEvent::ALL.to_vec()), 0..40)
    }

    /// What happened so far, counted apart from the machine.
    #[derive(Default)]
    struct Seen {
        /// A supervisor has claimed the VM and no end was seen since.
        is_claimed: bool,
        /// Of this claim.
        was_launched: bool,
    }

    impl Seen {
        fn note(&mut self, event: StateEvent) {
            match event {
                StateEvent::Claimed => *self = Seen { is_claimed: true, was_launched: false },
                StateEvent::Launched => self.was_launched = true,
                StateEvent::StartFailed | StateEvent::Ended | StateEvent::Lost => self.is_claimed = false,
                StateEvent::Defined | StateEvent::StopRequested | StateEvent::Removed => {}
            }
        }
    }

    proptest! {
        /// Whatever happens in whatever order: a VM is owned exactly while a claim is open, runs only after a launch of that
        /// claim, and is gone only when nobody owns it.
        #[test]
        fn ownership_follows_the_claim(events in events()) {
            let (mut state, mut seen) = (None, Seen::default());
            for event in events {
                let before = state;
                match next(state, event) {
                    Ok(after) => {
                        seen.note(event);
                        state = after;
                    }
                    Err(refused) => prop_assert_eq!(refused, RefusedEvent { state: before, event }),
                }
                prop_assert_eq!(state.is_some_and(VmState::is_owned), seen.is_claimed);
                if state == Some(VmState::Running) {
                    prop_assert!(seen.was_launched);
                }
                if state.is_none() && before.is_some() {
                    prop_assert!(!before.unwrap().is_owned());
                }
            }
        }

        /// From wherever it got, the end of the supervisor makes it startable and removable.
        #[test]
        fn nothing_is_a_dead_end(events in events()) {
            let state = events.into_iter().fold(None, |state, event| next(state, event).unwrap_or(state));
            let state = state.map_or_else(|| next(None, StateEvent::Defined).unwrap(), Some);
            let lost = next(state, StateEvent::Lost).unwrap();
            prop_assert_eq!(next(lost, StateEvent::Claimed), Ok(Some(VmState::Starting)));
            prop_assert_eq!(next(lost, StateEvent::Removed), Ok(None));
        }

        /// Asking twice, and finding the same death twice, is asking and finding once.
        #[test]
        fn stop_and_loss_can_be_repeated(events in events()) {
            let state = events.into_iter().fold(None, |state, event| next(state, event).unwrap_or(state));
            for event in [StateEvent::StopRequested, StateEvent::Lost] {
                if let Ok(once) = next(state, event) {
                    prop_assert_eq!(next(once, event), Ok(once));
                    prop_assert_eq!(once.is_some(), state.is_some());
                }
            }
        }
    }

    #[test]
    fn every_state_is_reached_and_stored_under_its_word() {
        let mut reached = vec![None];
        while let Some(more) = reached
            .iter()
            .flat_map(|state| StateEvent::ALL.into_iter().filter_map(|event| next(*state, event).ok()))
            .find(|state| !reached.contains(state))
        {
            reached.push(more);
        }
        assert_eq!(reached.len(), VmState::ALL.len() + 1);
        assert!(VmState::ALL.iter().all(|state| VmState::from_word(state.as_str()) == Some(*state)));
        assert_eq!(VmState::from_word("corrupted"), None);
    }

    #[test]
    fn a_refusal_says_what_cannot_be() {
        let refused = next(Some(VmState::Stopping), StateEvent::Claimed).unwrap_err();
        assert_eq!(refused.to_string(), "a VM that is stopping cannot be claimed by a supervisor");
        let refused = next(None, StateEvent::Ended).unwrap_err();
        assert_eq!(refused.to_string(), "a VM that does not exist cannot be ended");
    }
}
