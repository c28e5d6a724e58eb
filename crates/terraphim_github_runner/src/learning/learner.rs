//! Learns into the run store.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::event::LearningEvent;
use super::insight::{Forecast, Insights};
use super::model::{Learned, LessonThreshold};
use crate::store::{LearnedModels, RunStore, StoreError};

/// So many of the newest events stay as they are when older ones are folded into the baseline; it starts at twice as
/// many. An event is about 1 KiB.
const KEPT_EVENTS: u32 = 100_000;

/// Learns about one repository, and knows what was learned about it. Clones share everything.
#[derive(Clone, Debug)]
pub struct Learner {
    store: RunStore,
    /// Held while an event is written, so that the counters change in the order of the events.
    models: Arc<Mutex<LearnedModels>>,
}

impl Learner {
    /// Reads what was learned about a repository so far.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn open(store: RunStore, repository: &str) -> Result<Learner, StoreError> {
        store.update_learning().await?;
        Learner::open_to_read(store, repository).await
    }

    /// The same for a store that is open for reading: nothing can be learned.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn open_to_read(store: RunStore, repository: &str) -> Result<Learner, StoreError> {
        let models = Arc::new(Mutex::new(store.learned(repository).await?));
        Ok(Learner { store, models })
    }

    /// Learns from events; they are on disk, with all they change, when this returns.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn learn(&self, events: &[LearningEvent]) -> Result<Vec<Learned>, StoreError> {
        let mut models = self.models.lock().await;
        match self.store.learn(&mut models, events).await {
            Ok(learned) => Ok(learned.into_iter().map(Option::unwrap_or_default).collect()),
            Err(error) => {
                // The counters in memory may be ahead of those on disk now.
                let (repository, threshold) = (models.repository.clone(), models.own.lesson_threshold());
                if let Ok(known) = self.store.learned(&repository).await {
                    *models = known;
                    models.own.set_lesson_threshold(threshold);
                }
                Err(error)
            }
        }
    }

    /// Chooses from how many failures on there is a lesson, also of what was learned before; 3 otherwise.
    pub async fn set_lesson_threshold(&self, threshold: LessonThreshold) {
        self.models.lock().await.own.set_lesson_threshold(threshold);
    }

    /// What was learned, for people.
    pub async fn insights(&self) -> Insights {
        Insights::of(&self.models.lock().await.own)
    }

    /// What is to be expected of a run of a workflow that changes these paths.
    pub async fn forecast(&self, workflow: &str, changed: &[String]) -> Forecast {
        Forecast::of(&self.models.lock().await.own, workflow, changed)
    }

    /// Calls `look` with the models.
    pub async fn with_models<T>(&self, look: impl FnOnce(&LearnedModels) -> T) -> T {
        look(&*self.models.lock().await)
    }

    /// Keeps the store small; to be called when a run has ended.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn tidy(&self) -> Result<(), StoreError> {
        self.store.compact_learning(KEPT_EVENTS).await.map(|_| ())
    }
}
