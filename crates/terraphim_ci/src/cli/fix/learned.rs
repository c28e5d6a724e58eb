//! What was learned about a failed step.

use terraphim_github_runner::{
    learning::{
        Learner,
        insight::{Lesson, lessons, repetition_helps},
        model::LessonState,
        signature::FailureSignature,
    },
    store::{JobRecord, RunStore, StepRecord},
};

use super::Request;
use crate::{config::Config, exit::Exit, failure::Failure};

/// More lessons are not about this failure.
const MAX_LESSONS: usize = 3;

/// What earlier runs say about a failure.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// Lessons about the step's command, and about others that fail for the same reason.
    pub(super) lessons: Vec<String>,
    /// How it is known that running the command again helps, if it does.
    pub(super) repetition_helps: Option<String>,
}

impl Learned {
    pub(super) async fn about(
        request: &Request,
        job: &JobRecord,
        step: &StepRecord,
        signature: &FailureSignature,
        store: RunStore,
    ) -> Result<Learned, Failure> {
        let config =
            Config::load(Some(&request.root)).map_err(|error| Failure::caused(Exit::Usage, error))?;
        let repository = &request.repository.full_name;
        if !config.learning.enabled || !store.learned_repositories().await?.contains(repository) {
            return Ok(Learned::default());
        }
        let learner = Learner::open_to_read(store, repository).await?;
        learner.set_lesson_threshold(config.learning.lesson_threshold).await;
        let (workflow, job) = (&request.source.path, super::id_of(job));
        Ok(learner
            .with_models(|models| {
                let command = models.own.command_at(workflow, job, step.number);
                let name = command.map(|(name, _)| name);
                let is_of = |lesson: &&Lesson| Some(lesson.command.as_str()) == name;
                let all = lessons(&models.own);
                let active = || all.iter().filter(|lesson| lesson.state == LessonState::Active);
                let others = active().filter(|lesson| !is_of(lesson) && lesson.failure.id == signature.id());
                let lessons = active().filter(is_of).chain(others).take(MAX_LESSONS).map(ToString::to_string);
                Learned {
                    lessons: lessons.collect(),
                    repetition_helps: command.and_then(|(_, fact)| repetition_helps(fact)),
                }
            })
            .await)
    }
}
