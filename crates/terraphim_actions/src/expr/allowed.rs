//! Which contexts and functions an expression may use. The schema has one list for each key.

use super::functions::Function;

/// The names an expression may use at its place, beside the functions that are there everywhere.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    names: Vec<Box<str>>,
    functions: Vec<(Function, usize, usize)>,
    any: bool,
}

impl Allowed {
    /// Every context and function; for evaluating text whose place does not matter.
    #[must_use]
    pub fn any() -> Self {
        Self { any: true, ..Self::default() }
    }

    /// The contexts and functions of a list such as `["github", "hashFiles(1,255)", "success(0,MAX)"]`.
    /// A function that nobody knows is left out, so that its use is an error.
    #[must_use]
    pub fn new<S: AsRef<str>>(list: &[S]) -> Self {
        let mut allowed = Self::default();
        for item in list {
            allowed.add(item.as_ref());
        }
        allowed
    }

    fn add(&mut self, item: &str) {
        let Some((name, arity)) = item.split_once('(') else {
            self.names.push(item.into());
            return;
        };
        let (min, max) = arity.trim_end_matches(')').split_once(',').unwrap_or((arity, "MAX"));
        let max = if max == "MAX" { Some(usize::MAX) } else { max.parse().ok() };
        if let (Some(function), Ok(min), Some(max)) = (Function::of_place(name), min.parse(), max) {
            self.functions.push((function, min, max));
        }
    }

    /// May the context `name` be used?
    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        self.any || self.names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// The function `name` and its least and most arguments, if it may be used.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<(Function, usize, usize)> {
        if let Some(found) = Function::everywhere(name) {
            return Some(found);
        }
        let function = Function::of_place(name)?;
        if self.any {
            return Some((function, 0, usize::MAX));
        }
        self.functions.iter().find(|(known, ..)| *known == function).copied()
    }
}
