//! The commands that conformance is checked through, as a program of its own:
//!
//! - `conformance expr --batch FILE` prints one answer for each line of FILE;
//! - `conformance check FILE [--as PATH] [--reusable PATH=FILE]... [--option KEY=VALUE]...
//!   [--emit template-json]` prints the workflow as JSON, or its errors;
//! - `conformance filters FILE` checks the filter patterns of FILE.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use terraphim_actions::trigger::PatternList;
use terraphim_actions::workflow::{Loader, Options, Workflow};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["expr", "--batch", file] => batch(file),
        ["check", rest @ ..] => check(rest),
        ["filters", file] => filters(file),
        _ => Err("usage: conformance expr --batch FILE | conformance check FILE [OPTION]...".into()),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::from(2)
        }
    }
}

fn batch(file: &str) -> Result<ExitCode, Box<dyn Error>> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::fs::read_to_string(file)?.lines() {
        writeln!(out, "{}", terraphim_actions::expr::batch_line(line))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn check(words: &[&str]) -> Result<ExitCode, Box<dyn Error>> {
    let (file, rest) = words.split_first().ok_or("check needs a file")?;
    let mut path = *file;
    let mut loader = Loader::default();
    let mut options = Options::default();
    let mut source = true;
    for pair in rest.chunks(2) {
        let [flag, value] = pair else { return Err(format!("{} needs a value", pair[0]).into()) };
        let key_and_value = || value.rsplit_once('=').ok_or("a value needs the form KEY=VALUE");
        match *flag {
            "--as" => path = value,
            "--emit" if *value == "template-json" => {}
            "--reusable" => {
                let (name, file) = key_and_value()?;
                loader.add(name, &std::fs::read_to_string(file)?);
            }
            "--option" => {
                let (key, value) = key_and_value()?;
                source = if key == "include-source" { value == "true" } else { source };
                options.set(key, value)?;
            }
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    let mut out = std::io::stdout().lock();
    match Workflow::load(&std::fs::read_to_string(file)?, path, &loader, &options) {
        Ok(workflow) => {
            writeln!(out, "{:#}", workflow.template_json(source))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(errors) => {
            for error in errors {
                writeln!(out, "{error}")?;
            }
            Ok(ExitCode::from(2))
        }
    }
}

#[derive(serde::Deserialize)]
struct Filters {
    cases: Vec<Filter>,
}

#[derive(serde::Deserialize)]
struct Filter {
    patterns: Vec<String>,
    inputs: Vec<String>,
    skipped_by_positive_filter: bool,
    skipped_by_ignore_filter: bool,
}

fn filters(file: &str) -> Result<ExitCode, Box<dyn Error>> {
    let filters: Filters = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let mut out = std::io::stdout().lock();
    let mut right = 0;
    for case in &filters.cases {
        let list = PatternList::new(&case.patterns).map_err(|(_, error)| error)?;
        let answer = (!list.admits(&case.inputs), list.ignores(&case.inputs));
        if answer == (case.skipped_by_positive_filter, case.skipped_by_ignore_filter) {
            right += 1;
        } else {
            writeln!(out, "{:?} {:?}: {answer:?}", case.patterns, case.inputs)?;
        }
    }
    writeln!(out, "filters: {right}/{}", filters.cases.len())?;
    Ok(if right == filters.cases.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
