//! The secrets of a job, for everything of it that writes at the same time.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use serde_json::Value;
use terraphim_actions::mask::{MaskError, Masker};

/// The value with every secret in a text or a key of it replaced.
pub(super) fn masked_json(masker: &Masker, value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(masker.mask(text)),
        Value::Array(items) => items.iter().map(|item| masked_json(masker, item)).collect(),
        Value::Object(object) => {
            object.iter().map(|(key, value)| (masker.mask(key), masked_json(masker, value))).collect()
        }
        // As the text would be: a secret may be a number.
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            let text = value.to_string();
            let masked = masker.mask(&text);
            if masked == text { value.clone() } else { Value::String(masked) }
        }
    }
}

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
