//! Learns from every command's outcome, and advises. It never decides.

pub mod command;
pub mod coordinator;
pub mod event;
mod excerpt;
pub mod insight;
pub mod knowledge_graph;
mod learner;
mod lesson;
mod mask;
mod memory;
pub mod model;
mod observer;
pub mod outcomes;
pub mod signature;

pub use command::CommandIdentity;
pub use coordinator::{InMemoryLearningCoordinator, LearningCoordinator, LearningStats};
pub use event::{CommandOutcome, EventKind, LearningEvent, TestSummary};
pub use knowledge_graph::{CommandGraphStats, CommandKnowledgeGraph};
pub use learner::Learner;
pub use lesson::{ApplicableLesson, OptimizationType, WorkflowOptimization};
pub use model::LessonThreshold;
pub use observer::{LearningObserver, RunFacts};
pub use signature::{Cause, FailureSignature};
