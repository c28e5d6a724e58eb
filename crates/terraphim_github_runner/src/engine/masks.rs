//! The secrets of a job, for everything of it that writes at the same time.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use terraphim_actions::mask::{MaskError, Masker};

/// What a job hides. Copies share it: what one step asks to hide is hidden in every other from then on.
#[derive(Clone, Debug, Default)]
pub(super) struct Masks {
    // A lock of the standard library: it is held for the masking of one block and never across an await.
    masker: Arc<RwLock<Masker>>,
}

impl Masks {
    /// Masks of its own, which begin with those of `masker`.
    pub(super) fn new(masker: Masker) -> Masks {
        Masks { masker: Arc::new(RwLock::new(masker)) }
    }

    /// The text with every secret replaced.
    pub(super) fn mask(&self, text: &str) -> String {
        self.read().mask(text)
    }

    /// Whether there is a secret in the text.
    pub(super) fn finds(&self, text: &str) -> bool {
        self.read().finds(text)
    }

    /// Hides a value from now on.
    pub(super) fn add(&self, secret: &str) -> Result<(), MaskError> {
        // A panic cannot leave it half changed: the automaton is replaced as a whole.
        self.masker.write().unwrap_or_else(PoisonError::into_inner).add(secret)
    }

    /// Hides several values from now on.
    pub(super) fn add_all<'a>(&self, secrets: impl IntoIterator<Item = &'a str>) -> Result<(), MaskError> {
        self.masker.write().unwrap_or_else(PoisonError::into_inner).add_all(secrets)
    }

    /// For masking more than one piece alike.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Masker> {
        self.masker.read().unwrap_or_else(PoisonError::into_inner)
    }
}
