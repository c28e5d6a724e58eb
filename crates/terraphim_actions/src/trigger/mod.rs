//! Does an event start a workflow, and why?
//!
//! [`decide()`] takes the triggers of a workflow and an [`Event`] and gives a [`Decision`] with a
//! sentence that says what decided.

pub mod cron;
mod decide;
mod event;
mod events;
mod pattern;

pub use decide::{Decision, decide};
pub use event::Event;
pub use events::{EVENTS, EventInfo, find};
pub use pattern::{Pattern, PatternError, PatternList};
