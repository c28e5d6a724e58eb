//! Ids of jobs, steps and matrix jobs: which are legal, and how missing ones are made.

use crate::expr::fold;
use std::collections::{HashMap, HashSet};

/// Ids are shorter than this, job names at most this long.
pub(crate) const MAX_ID: usize = 100;

/// The ids of one scope, and the one that is being put together.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    taken: HashSet<String>,
    /// The number that the next id with the same parts tries first; lower ones are taken.
    attempts: HashMap<String, usize>,
    next: String,
}

impl Ids {
    /// Takes an id that was written in the file.
    ///
    /// # Errors
    /// GitHub's message, if the id is not legal or taken already.
    pub(crate) fn add_written(&mut self, id: &str) -> Result<(), String> {
        if !crate::expr::is_keyword(id) || id.len() >= MAX_ID {
            return Err(format!(
                "The identifier '{id}' is invalid. IDs may only contain alphanumeric characters, '_', and '-'. IDs \
                 must start with a letter or '_' and and must be less than {MAX_ID} characters."
            ));
        }
        if id.starts_with("__") {
            return Err(format!("The identifier '{id}' is invalid. IDs starting with '__' are reserved."));
        }
        if !self.taken.insert(fold::fold(id).into_owned()) {
            return Err(format!(
                "The identifier '{id}' may not be used more than once within the same scope."
            ));
        }
        Ok(())
    }

    /// Adds a part to the next id; what may not be in an id becomes `_`.
    pub(crate) fn segment(&mut self, segment: &str) {
        let Some(first) = segment.chars().next() else { return };
        // The sign parts segments, and makes a first character legal that is not.
        if !self.next.is_empty() || first.is_ascii_digit() || first == '-' {
            self.next.push('_');
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        // GitHub counts UTF-16 units, so a character beyond them is two.
        for c in segment.chars() {
            if legal(c) {
                self.next.push(c);
            } else {
                (0..c.len_utf16()).for_each(|_| self.next.push('_'));
            }
        }
    }

    /// The id from the parts so far, made unique by a number. Only with `reserved` may it start
    /// with `__`.
    pub(crate) fn build(&mut self, reserved: bool, max: usize) -> String {
        let mut base = std::mem::take(&mut self.next);
        if base.is_empty() {
            base.push_str("job");
        }
        if !reserved && base.starts_with("__") {
            base = format!("_{}", base.trim_start_matches('_'));
        }
        for attempt in self.attempts.get(&base).copied().unwrap_or(1).. {
            let suffix = match attempt {
                1 => String::new(),
                _ if !reserved && base == "_" => attempt.to_string(),
                _ => format!("_{attempt}"),
            };
            let keep = base.len().min(max.saturating_sub(suffix.len()));
            let candidate = format!("{}{suffix}", &base[..keep]);
            if self.taken.insert(fold::fold(&candidate).into_owned()) {
                self.attempts.insert(base, attempt + 1);
                return candidate;
            }
        }
        base
    }
}

/// The name of a matrix job: `job (a, b)`, at most 100 characters.
pub(crate) fn job_name(job: &str, segments: &[String]) -> String {
    let name = if segments.is_empty() { job.to_owned() } else { format!("{job} ({})", segments.join(", ")) };
    match name.char_indices().nth(MAX_ID) {
        Some(_) => format!("{}...", name.chars().take(MAX_ID - 3).collect::<String>()),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_are_unique_and_legal() {
        let mut ids = Ids::default();
        let mut next = |segments: &[&str]| {
            segments.iter().for_each(|segment| ids.segment(segment));
            ids.build(false, 25)
        };
        assert_eq!(next(&["ubuntu 22.04", "3"]), "ubuntu_22_04_3");
        assert_eq!(next(&["ubuntu 22.04", "3"]), "ubuntu_22_04_3_2");
        assert_eq!(next(&["10"]), "_10");
        assert_eq!(next(&[]), "job");
        assert_eq!(next(&["__x"]), "_x");
        assert_eq!(next(&["a-very-long-value-that-does-not-fit"]), "a-very-long-value-that-do");
        assert_eq!(next(&["a-very-long-value-that-does-not-fit"]), "a-very-long-value-that-_2");
    }

    #[test]
    fn written_ids_are_checked() {
        let mut ids = Ids::default();
        assert!(ids.add_written("build").is_ok());
        assert!(ids.add_written("BUILD").unwrap_err().contains("more than once"));
        assert!(ids.add_written("__x").unwrap_err().contains("reserved"));
        assert!(ids.add_written("1a").unwrap_err().contains("is invalid"));
        assert!(ids.add_written("").is_err());
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(job_name("build", &["a".into(), "b".into()]), "build (a, b)");
        let long = job_name("build", &["x".repeat(200)]);
        assert_eq!(long.len(), 100);
        assert!(long.ends_with("..."));
    }
}
