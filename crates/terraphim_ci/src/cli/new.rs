//! `tci new`: a workflow file from a sentence.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::Args;
use terraphim_github_runner::{
    llm::workflow::{WorkflowRequest, propose},
    words::{self, NotUnderstood, RepositoryFacts, TranslateError, Translation},
};

use super::{Global, llm, run::repository_of, small_runtime};
use crate::{
    exit::Exit,
    failure::Failure,
    output::{self, one_line},
};

#[derive(Debug, Args)]
#[command(after_help = "\
The workflow file goes to standard output, or to FILE. What was understood of the sentence, and what was not, is said on \
standard error. What no fixed phrase explains is never guessed: put commands in `backticks` to have them taken as they are.

With `--llm` the language model of section [llm] of ~/.config/tci/config.toml (or OpenRouter, with OPENROUTER_API_KEY) writes the \
file. It gets the sentence, the names of files that say what the repository is written in, and the beginning of its README. What \
it writes has to pass the checker; nothing of it is run. docs/llm.md says more.

Exit codes:
  0    a workflow file was made; words that were not understood are named (with `--strict` they are an error)
  1    the language model proposed nothing that passes the checker; nothing was written
  2    nothing to run was understood, no language model is configured, or FILE is there already; nothing was written
  3    the language model did not answer

Examples:
  tci new 'run cargo test and clippy on every push, cache the target directory, nightly at 3'
  tci new 'build and test on pull requests to main' -o .github/workflows/ci.yml
  tci new 'run `./check.sh` on weekdays at 18:30' --json
  tci new --llm 'test with all supported Python versions, and build the wheel when a tag is pushed'")]
pub(crate) struct NewArgs {
    /// What the workflow shall do, in English.
    #[arg(required = true)]
    sentence: Vec<String>,
    /// Write the workflow file here; directories are made.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it is there.
    #[arg(long, requires = "output")]
    force: bool,
    /// The repository whose files say what it is written in.
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// Have the configured language model write it.
    #[arg(long)]
    llm: bool,
    /// Fail when a word was not understood.
    #[arg(long, conflicts_with = "llm")]
    strict: bool,
    /// Print the file with what was understood as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn main(args: &NewArgs, global: &Global) -> Result<Exit, Failure> {
    let facts = RepositoryFacts::read(&args.directory)
        .map_err(|error| Failure::io("read directory", &args.directory, error).ending(Exit::Usage))?;
    let sentence = args.sentence.join(" ");
    if args.llm {
        return small_runtime()?.block_on(by_model(args, &sentence, &facts, global));
    }
    let made = words::translate(&sentence, &facts).map_err(|error| refused(&error))?;
    if args.strict && !made.not_understood.is_empty() {
        tell_lost(&made.not_understood);
        return Err(Failure::usage("not everything was understood, and `--strict` was given"));
    }
    if let Some(path) = &args.output {
        write(path, &made.workflow, args.force)?;
    }
    if args.json {
        output::json(&made)?;
    } else {
        explain(&made);
        match &args.output {
            Some(path) => output::note(&format!("wrote {}", path.display())),
            None => output::data(&made.workflow)?,
        }
    }
    Ok(Exit::Success)
}

/// The file is printed or written, and that is all that happens with it.
async fn by_model(
    args: &NewArgs,
    sentence: &str,
    facts: &RepositoryFacts,
    global: &Global,
) -> Result<Exit, Failure> {
    // Before the model is paid for.
    if let Some(path) = args.output.as_ref().filter(|path| !args.force && path.exists()) {
        return Err(is_there(path));
    }
    let client = llm::client(&args.directory, &repository_of(&args.directory)?, global)?;
    let readme = llm::readme(&args.directory);
    let request = WorkflowRequest { sentence, facts, readme: readme.as_deref() };
    let made = propose(&client, &request, &llm::progress()).await;
    llm::end_progress();
    let made = made.map_err(llm::failed)?;
    if let Some(path) = &args.output {
        write(path, &made.workflow, args.force)?;
    }
    llm::tell(&made.model, &made.usage, &made.notes);
    match &args.output {
        _ if args.json => output::json(&made)?,
        Some(path) => output::note(&format!("wrote {}", path.display())),
        None => output::data(&made.workflow)?,
    }
    Ok(Exit::Success)
}

fn explain(made: &Translation) {
    for part in &made.understood {
        output::note(&format!("\"{}\": {}", one_line(&part.text), one_line(&part.meaning)));
    }
    for note in &made.notes {
        output::note(note);
    }
    tell_lost(&made.not_understood);
}

fn tell_lost(lost: &[NotUnderstood]) {
    for part in lost {
        output::warning(&format!("not understood: \"{}\"", one_line(&part.text)));
    }
}

fn refused(error: &TranslateError) -> Failure {
    if let TranslateError::Nothing { not_understood, notes } = error {
        notes.iter().for_each(|note| output::note(note));
        tell_lost(not_understood);
    }
    let failure = Failure::usage(format!("no workflow was made of the sentence: {error}"));
    match error {
        TranslateError::Nothing { .. } => {
            failure.hint("name commands in `backticks`, or a tool with what it shall do: `lint with eslint`")
        }
        _ => failure,
    }
}

fn is_there(path: &Path) -> Failure {
    Failure::usage(format!("{} is there already", path.display())).hint("`--force` replaces it")
}

/// Writes the whole file or nothing; a file that is there stays unless it is to be replaced.
fn write(path: &Path, text: &str, replaces: bool) -> Result<(), Failure> {
    let failed = |error| Failure::io("write", path, error).ending(Exit::Usage);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(failed)?;
    if !replaces {
        let created = OpenOptions::new().write(true).create_new(true).open(path);
        let mut file = created.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => is_there(path),
            _ => failed(error),
        })?;
        return file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed);
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let aside = PathBuf::from(name);
    fs::write(&aside, text).and_then(|()| fs::rename(&aside, path)).map_err(|error| {
        let _ = fs::remove_file(&aside);
        failed(error)
    })
}
