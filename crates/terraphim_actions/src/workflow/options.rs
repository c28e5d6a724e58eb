//! What a reader of workflows may be told.

use super::permissions::{Level, Permissions};

/// Deeper files are not read, whatever the options say: reading one takes stack for every level.
pub(super) const DEEPEST: usize = 200;

/// Limits and switches for reading a workflow. The defaults are GitHub's.
#[derive(Clone, Debug)]
pub struct Options {
    /// The deepest nesting; at most 200.
    pub max_depth: usize,
    /// The longest file, in characters.
    pub max_file_size: usize,
    /// The most files, the first one included.
    pub max_files: usize,
    /// The most jobs in all files; 0 for no limit.
    pub max_jobs: usize,
    /// How deep calls of workflows may nest.
    pub max_call_depth: usize,
    /// The most memory that what was read may take, by GitHub's measure.
    pub max_bytes: usize,
    /// Are called workflows left unread?
    pub skip_calls: bool,
    /// Are called workflows left unread that the [`Loader`](super::Loader) has not? They are errors otherwise.
    pub skip_missing_calls: bool,
    /// What the token may do if the workflow does not say.
    pub default_permissions: Permissions,
    /// Is `snapshot` allowed?
    pub allow_snapshot: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_depth: 50,
            max_file_size: 1024 * 1024,
            max_files: 51,
            max_jobs: 0,
            max_call_depth: 10,
            max_bytes: 10 * 1024 * 1024,
            skip_calls: false,
            skip_missing_calls: false,
            default_permissions: Permissions::all(Level::Write),
            allow_snapshot: true,
        }
    }
}

/// Why an option cannot be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// There is no such option.
    #[error("there is no option '{0}'")]
    Unknown(String),
    /// The value does not fit.
    #[error("the option '{key}' cannot be '{value}'")]
    Value {
        /// The option.
        key: String,
        /// The value.
        value: String,
    },
}

impl Options {
    /// Sets an option by its name on the command line, such as `max-depth`.
    ///
    /// # Errors
    /// If there is no such option or the value does not fit.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), OptionError> {
        let wrong = || OptionError::Value { key: key.to_owned(), value: value.to_owned() };
        let number = || value.parse::<usize>().map_err(|_| wrong());
        let flag = || value.parse::<bool>().map_err(|_| wrong());
        match key {
            "max-depth" => {
                self.max_depth = number().ok().filter(|depth| *depth <= DEEPEST).ok_or_else(wrong)?
            }
            "max-file-size" => self.max_file_size = number()?,
            "max-files" => self.max_files = number()?,
            "max-job-limit" => self.max_jobs = number()?,
            "max-nested-reusable-workflows-depth" => self.max_call_depth = number()?,
            "max-result-size" => self.max_bytes = number()?,
            "skip-reusable-workflows" => self.skip_calls = flag()?,
            "permissions-policy" => {
                self.default_permissions = match value {
                    "LimitedRead" => Permissions::limited_read(),
                    "Write" => Permissions::all(Level::Write),
                    _ => return Err(wrong()),
                }
            }
            "experimental-features.snapshot" => self.allow_snapshot = flag()?,
            // These change nothing here: background steps are always known, how the output looks is
            // not for the reader to know, and a rerun of some jobs reads the same file.
            "experimental-features.allowBackgroundSteps" | "include-source" | "is-partial-rerun" => {
                flag()?;
            }
            _ => return Err(OptionError::Unknown(key.to_owned())),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked() {
        let mut options = Options::default();
        assert_eq!(options.set("max-job-limit", "3"), Ok(()));
        assert_eq!(options.max_jobs, 3);
        assert!(matches!(options.set("max-depth", "1000000"), Err(OptionError::Value { .. })));
        assert!(matches!(options.set("max-depth", "deep"), Err(OptionError::Value { .. })));
        assert!(matches!(options.set("nosuch", "1"), Err(OptionError::Unknown(_))));
    }
}
