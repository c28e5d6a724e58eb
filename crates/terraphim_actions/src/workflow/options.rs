//! What a reader of workflows may be told.

use super::permissions::Permissions;

/// Limits and switches for reading a workflow. The defaults are GitHub's.
#[derive(Clone, Debug)]
pub struct Options {
    /// The deepest nesting.
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
            default_permissions: Permissions::all(super::permissions::Level::Write),
            allow_snapshot: true,
        }
    }
}
