//! Why a command could not do what it was asked: what is printed once, and what the program ends with.

use std::{error::Error, io};

use terraphim_github_runner::store::StoreError;
use terraphim_vm::{VmError, image::ImageError};
use thiserror::Error;

use crate::{exit::Exit, output};

/// The end of a command that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the program ends with.
    pub(crate) exit: Exit,
    /// Printed with its causes; nothing is printed without one.
    cause: Option<Box<dyn Error + Send + Sync>>,
    hint: Option<String>,
}

/// A sentence of our own.
#[derive(Debug, Error)]
#[error("{0}")]
struct Sentence(String);

impl Failure {
    /// The user asked for something impossible.
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::caused(Exit::Usage, Sentence(message.into()))
    }

    /// The host cannot do it.
    pub(crate) fn fault(message: impl Into<String>) -> Failure {
        Failure::caused(Exit::Infrastructure, Sentence(message.into()))
    }

    /// An error and what to end with.
    pub(crate) fn caused(exit: Exit, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        Failure { exit, cause: Some(cause.into()), hint: None }
    }

    /// A file operation failed.
    pub(crate) fn io(operation: &str, object: &std::path::Path, source: io::Error) -> Failure {
        let message = format!("cannot {operation} {}", object.display());
        Failure::caused(Exit::Infrastructure, WithSource { message, source: source.into() })
    }

    /// Ends without a word.
    pub(crate) fn silent(exit: Exit) -> Failure {
        Failure { exit, cause: None, hint: None }
    }

    /// The same with another end.
    #[must_use]
    pub(crate) fn ending(self, exit: Exit) -> Failure {
        Failure { exit, ..self }
    }

    /// Says what to do.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// The causes on one line, for whoever is told in another way.
    pub(crate) fn message(&self) -> String {
        self.cause.as_ref().map_or_else(String::new, |cause| chain(cause.as_ref()))
    }

    /// Prints it: the causes on one line, then the hint.
    pub(crate) fn report(&self) {
        let Some(cause) = &self.cause else { return };
        output::error(&chain(cause.as_ref()));
        if let Some(hint) = &self.hint {
            output::hint(hint);
        }
    }
}

#[derive(Debug, Error)]
#[error("{message}")]
struct WithSource {
    message: String,
    source: Box<dyn Error + Send + Sync>,
}

/// Puts an operation before an error.
pub(crate) trait Context<T> {
    /// `operation`, then the error as its cause; ends as an infrastructure fault.
    fn context(self, operation: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Context<T> for Result<T, E> {
    fn context(self, operation: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|source| {
            let error = WithSource { message: operation.into(), source: source.into() };
            Failure::caused(Exit::Infrastructure, error)
        })
    }
}

/// The error and its causes; a cause that its error already tells is not told twice.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut last = text.clone();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !last.contains(&next) {
            text += ": ";
            text += &next;
        }
        last = next;
        cause = error.source();
    }
    text
}

impl From<VmError> for Failure {
    fn from(error: VmError) -> Failure {
        let exit = match &error {
            VmError::NotFound(_)
            | VmError::Ambiguous { .. }
            | VmError::NoExecution { .. }
            | VmError::Invalid(_)
            | VmError::WrongState { .. }
            | VmError::Image(
                ImageError::NotFound(_) | ImageError::Ambiguous { .. } | ImageError::Recipe(_),
            ) => Exit::Usage,
            _ => Exit::Infrastructure,
        };
        Failure::caused(exit, error)
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Failure {
        VmError::Image(error).into()
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let hint = match &error {
            StoreError::NotFound(_) => Some("`tci runs ls` shows the runs".to_owned()),
            StoreError::LearnedAlready => Some("use another directory (`--data-dir`)".to_owned()),
            StoreError::Running { .. } => Some("stop it first (Ctrl-C in its terminal)".to_owned()),
            StoreError::Newer { .. } => {
                Some("use the newer tci, or another directory (`--data-dir`)".to_owned())
            }
            StoreError::Corrupt { path, .. } => {
                Some(format!("move {} away to start with an empty store", path.display()))
            }
            _ => None,
        };
        let exit = match &error {
            StoreError::NotFound(_) | StoreError::Running { .. } | StoreError::LearnedAlready => Exit::Usage,
            _ => Exit::Infrastructure,
        };
        let failure = Failure::caused(exit, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_in_one_line_and_never_twice() {
        let inner =
            WithSource { message: "cannot read x".into(), source: Box::new(Sentence("no such file".into())) };
        let outer = WithSource { message: "cannot start: cannot read x".into(), source: Box::new(inner) };
        assert_eq!(chain(&outer), "cannot start: cannot read x: no such file");
    }
}
