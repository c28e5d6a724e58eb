//! The functions of the language and how many arguments each takes.

use super::error::ExprError;
use super::value::Value;

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// `case(predicate, value, ..., default)`
    Case,
    /// `contains(text or array, item)`
    Contains,
    /// `endsWith(text, suffix)`
    EndsWith,
    /// `format(template, ...)`
    Format,
    /// `fromJSON(text)`
    FromJson,
    /// `join(array, separator)`
    Join,
    /// `startsWith(text, prefix)`
    StartsWith,
    /// `toJSON(value)`
    ToJson,
    /// `always()`
    Always,
    /// `cancelled()`
    Cancelled,
    /// `failure()`, for jobs with ids of needed jobs
    Failure,
    /// `success()`, for jobs with ids of needed jobs
    Success,
    /// `hashFiles(pattern, ...)`
    HashFiles,
}

/// The most arguments of a function without a limit of its own.
const MANY: usize = 255;

impl Function {
    /// The functions that are there in every expression, with the least and most arguments.
    const EVERYWHERE: [(&'static str, Self, usize, usize); 8] = [
        ("case", Self::Case, 3, MANY),
        ("contains", Self::Contains, 2, 2),
        ("endsWith", Self::EndsWith, 2, 2),
        ("format", Self::Format, 1, MANY),
        ("join", Self::Join, 1, 2),
        ("startsWith", Self::StartsWith, 2, 2),
        ("toJSON", Self::ToJson, 1, 1),
        ("fromJSON", Self::FromJson, 1, 1),
    ];

    /// The function `name` that is there in every expression, and its arity.
    #[must_use]
    pub fn everywhere(name: &str) -> Option<(Self, usize, usize)> {
        Self::EVERYWHERE
            .iter()
            .find(|(known, ..)| known.eq_ignore_ascii_case(name))
            .map(|(_, function, min, max)| (*function, *min, *max))
    }

    /// The function `name` that only some places know.
    #[must_use]
    pub fn of_place(name: &str) -> Option<Self> {
        [
            ("always", Self::Always),
            ("cancelled", Self::Cancelled),
            ("failure", Self::Failure),
            ("success", Self::Success),
            ("hashFiles", Self::HashFiles),
        ]
        .into_iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, function)| function)
    }

    /// Is it one of the functions whose presence in an `if` stops the implicit `success()`?
    #[must_use]
    pub const fn is_status(self) -> bool {
        matches!(self, Self::Always | Self::Cancelled | Self::Failure | Self::Success)
    }
}

/// What the functions that ask about the run answer. An evaluation that should not call them uses
/// [`NoFunctions`].
pub trait Functions {
    /// Did everything so far succeed? For jobs, `jobs` names the needed jobs to look at (all if empty).
    ///
    /// # Errors
    /// If the place has no such function.
    fn success(&self, jobs: &[String]) -> Result<bool, ExprError>;

    /// Did anything so far fail? `jobs` as for [`Functions::success`].
    ///
    /// # Errors
    /// If the place has no such function.
    fn failure(&self, jobs: &[String]) -> Result<bool, ExprError>;

    /// Was the run cancelled?
    ///
    /// # Errors
    /// If the place has no such function.
    fn cancelled(&self) -> Result<bool, ExprError>;

    /// The hash of the files that match `patterns`; empty if none does. Options such as
    /// `--follow-symbolic-links` come first among the patterns.
    ///
    /// Files are read where the job runs, so the answer may have to be fetched first: note the
    /// patterns, return [`ExprError::not_known_yet`], fetch, and evaluate again. Evaluation has no
    /// side effects.
    ///
    /// # Errors
    /// If the place has no such function, the files cannot be read, or the hash is not known yet.
    fn hash_files(&self, patterns: &[String]) -> Result<String, ExprError>;
}

/// No function that asks about the run is available.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFunctions;

fn unavailable(name: &str) -> ExprError {
    ExprError::evaluation(format!("the function '{name}' is not available here"))
}

impl Functions for NoFunctions {
    fn success(&self, _jobs: &[String]) -> Result<bool, ExprError> {
        Err(unavailable("success"))
    }

    fn failure(&self, _jobs: &[String]) -> Result<bool, ExprError> {
        Err(unavailable("failure"))
    }

    fn cancelled(&self) -> Result<bool, ExprError> {
        Err(unavailable("cancelled"))
    }

    fn hash_files(&self, _patterns: &[String]) -> Result<String, ExprError> {
        Err(unavailable("hashFiles"))
    }
}

/// Calls a function that asks about the run.
pub(super) fn call(
    functions: &dyn Functions,
    function: Function,
    args: &[Value],
) -> Result<Value, ExprError> {
    let texts: Vec<String> = args.iter().map(|arg| arg.to_text().into_owned()).collect();
    match function {
        Function::Always => Ok(Value::Bool(true)),
        Function::Cancelled => functions.cancelled().map(Value::Bool),
        Function::Success => functions.success(&texts).map(Value::Bool),
        Function::Failure => functions.failure(&texts).map(Value::Bool),
        Function::HashFiles => functions.hash_files(&texts).map(Value::from),
        other => Err(ExprError::evaluation(format!("{other:?} asks nothing about the run"))),
    }
}
