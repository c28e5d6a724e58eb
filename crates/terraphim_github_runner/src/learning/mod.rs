//! Learns from every command's outcome, and advises. It never decides.

pub mod coordinator;
mod graph;
pub mod knowledge_graph;
mod lesson;
mod signature;

pub use coordinator::{InMemoryLearningCoordinator, LearningCoordinator, LearningStats};
pub use knowledge_graph::{CommandGraphStats, CommandKnowledgeGraph};
pub use lesson::{ApplicableLesson, OptimizationType, WorkflowOptimization};
