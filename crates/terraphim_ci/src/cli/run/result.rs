//! Where results go: the closing table to people, JSON to programs.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use serde::Serialize;
use terraphim_github_runner::{engine::RunReport, store::RunId};

use super::learning::Told;
use crate::{exit::Exit, failure::Failure, output};

/// The results of this command so far.
pub(super) struct Results {
    json: Option<PathBuf>,
    reports: Vec<Numbered>,
}

/// A report and the number under which the run is recorded.
#[derive(Serialize)]
struct Numbered {
    id: RunId,
    #[serde(flatten)]
    report: RunReport,
    /// What was learned before and applies here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lessons: Vec<String>,
    /// What could be better.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    suggestions: Vec<String>,
}

impl Results {
    /// Checks that `json` can be written before anything runs for hours.
    pub(super) fn new(json: Option<&Path>) -> Result<Results, Failure> {
        let json = json.map(Path::to_owned);
        if let Some(path) = json.as_ref().filter(|path| path.as_os_str() != "-") {
            File::options()
                .append(true)
                .create(true)
                .open(path)
                .map_err(|error| Failure::io("write", path, error).ending(Exit::Usage))?;
        }
        Ok(Results { json, reports: Vec::new() })
    }

    /// Whether standard output is for JSON alone.
    pub(super) fn is_on_stdout(&self) -> bool {
        self.json.as_ref().is_some_and(|path| path.as_os_str() == "-")
    }

    /// Shows the closing text of a run.
    pub(super) fn show(&self, text: &str) -> Result<(), Failure> {
        if self.is_on_stdout() {
            output::note(text.trim_end());
            return Ok(());
        }
        match output::data(text) {
            // The reader went away; the run has its own end.
            Err(failure) if failure.exit == Exit::Success => Ok(()),
            other => other,
        }
    }

    pub(super) fn add(&mut self, id: RunId, report: RunReport, told: Told) {
        let Told { lessons, suggestions } = told;
        self.reports.push(Numbered { id, report, lessons, suggestions });
    }

    /// Writes the JSON: one object for one workflow, a list for several.
    pub(super) fn finish(&self) -> Result<(), Failure> {
        let Some(path) = &self.json else { return Ok(()) };
        let text = match self.reports.as_slice() {
            [one] => serde_json::to_string_pretty(one),
            all => serde_json::to_string_pretty(all),
        };
        let text = text.expect("plain data is JSON") + "\n";
        if self.is_on_stdout() {
            return output::data(&text);
        }
        // Written aside first: a reader never sees half a result.
        let write = || {
            let aside = path.with_extension(format!("{}.tmp", std::process::id()));
            let mut file = File::create(&aside)?;
            file.write_all(text.as_bytes())?;
            fs::rename(&aside, path)
        };
        let is_plain = fs::metadata(path).is_ok_and(|file| file.is_file());
        let written = if is_plain { write() } else { fs::write(path, &text) };
        written.map_err(|error| Failure::io("write", path, error))
    }
}
