//! `tci learn export` and `import`: JSON lines. The first line says what the file is; then come counters of events that
//! are gone (`fact`), then events (`event`), oldest first.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use serde::{Deserialize, Serialize};
use terraphim_github_runner::{
    learning::{LearningEvent, model::FactRow},
    store::{LearnedModels, RunStore},
};

use super::store_to_change;
use crate::{cli::Global, exit::Exit, failure::Failure, input, output};

const FORMAT: &str = "tci-learning";
const VERSION: u32 = 1;
/// Events that are read at a time.
const BATCH: i64 = 1000;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tci learn export learning.jsonl\n  tci learn export - | gzip > learning.jsonl.gz"
)]
pub(super) struct ExportArgs {
    /// Where to (`-` is standard output).
    #[arg(default_value = "-")]
    file: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci learn import learning.jsonl")]
pub(super) struct ImportArgs {
    /// Where from (`-` is standard input).
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Head {
        format: String,
        version: u32,
    },
    Fact {
        repository: String,
        #[serde(flatten)]
        row: FactRow,
    },
    Event(Box<LearningEvent>),
}

/// What an import came to.
#[derive(Default, Serialize)]
struct Imported {
    events: u64,
    known: u64,
    facts: u64,
}

pub(super) async fn export(args: &ExportArgs, global: &Global) -> Result<Exit, Failure> {
    let Some(store) = RunStore::open_to_read(global.paths()?.data()).await? else {
        return Err(Failure::usage("nothing was ever learned here").hint("`tci run` learns from every run"));
    };
    if args.file.as_os_str() == "-" {
        return write(&store, &mut io::stdout().lock(), None).await;
    }
    // Written aside first: nobody finds half an export.
    let aside = args.file.with_extension(format!("{}.tmp", std::process::id()));
    let failed = |error| Failure::io("write", &args.file, error).ending(Exit::Usage);
    let mut file = BufWriter::new(File::create(&aside).map_err(failed)?);
    let written = write(&store, &mut file, Some(&args.file)).await;
    let done = written.and_then(|exit| {
        file.flush().map_err(failed)?;
        std::fs::rename(&aside, &args.file).map_err(failed)?;
        Ok(exit)
    });
    if done.is_err() {
        // What is left of a failed export is nobody's.
        let _ = std::fs::remove_file(&aside);
    }
    done
}

async fn write(store: &RunStore, out: &mut dyn Write, path: Option<&Path>) -> Result<Exit, Failure> {
    let mut line = |line: &Line| {
        let text = serde_json::to_string(line).expect("plain data is JSON");
        writeln!(out, "{text}").map_err(|error| match path {
            Some(path) => Failure::io("write", path, error),
            None => output::stdout_failure(error),
        })
    };
    line(&Line::Head { format: FORMAT.to_owned(), version: VERSION })?;
    for (repository, row) in store.learning_baseline().await? {
        line(&Line::Fact { repository, row })?;
    }
    let mut last = 0;
    loop {
        let events = store.learning_events(last, BATCH).await?;
        let Some((newest, _)) = events.last() else { return Ok(Exit::Success) };
        last = *newest;
        for (_, event) in events {
            line(&Line::Event(Box::new(event)))?;
        }
    }
}

pub(super) async fn import(args: &ImportArgs, global: &Global) -> Result<Exit, Failure> {
    let failed = |error| Failure::io("read", &args.file, error).ending(Exit::Usage);
    let reader: Box<dyn BufRead> = match args.file.as_os_str() == "-" {
        true => Box::new(BufReader::new(io::stdin())),
        false => Box::new(BufReader::new(File::open(&args.file).map_err(failed)?)),
    };
    // Everything is read before anything is changed.
    let mut facts = Vec::new();
    let mut events = Vec::new();
    for (number, text) in (1_u64..).zip(input::lines(reader, input::MOST_DATA)) {
        let text = text.map_err(failed)?;
        let wrong = |why: String| Failure::usage(format!("{}:{number}: {why}", args.file.display()));
        let line: Line =
            serde_json::from_str(&text).map_err(|error| wrong(format!("no line of an export: {error}")))?;
        match line {
            Line::Head { format, version } if number == 1 && format == FORMAT && version == VERSION => {}
            Line::Head { format, version } => {
                return Err(wrong(format!("{format} {version} is no `{FORMAT}` of version {VERSION}")));
            }
            _ if number == 1 => return Err(wrong(format!("a `{FORMAT}` begins with a line that says so"))),
            Line::Fact { repository, row } => facts.push((repository, row)),
            Line::Event(event) => events.push(*event),
        }
    }
    let store = match store_to_change(global).await? {
        Some(store) => store,
        None => RunStore::open(global.paths()?.data()).await?,
    };
    let imported = take_over(&store, &facts, &events).await;
    store.close().await;
    let imported = imported?;
    if args.json {
        output::json(&imported)?;
    } else {
        output::data(&format!("{} events, {} of them known already\n", imported.events, imported.known))?;
    }
    Ok(Exit::Success)
}

async fn take_over(
    store: &RunStore,
    facts: &[(String, FactRow)],
    events: &[LearningEvent],
) -> Result<Imported, Failure> {
    let mut imported = Imported { facts: facts.len() as u64, ..Imported::default() };
    if !facts.is_empty() {
        store.import_baseline(facts).await?;
    }
    let mut models: BTreeMap<&str, LearnedModels> = BTreeMap::new();
    for event in events {
        let repository = event.repository.as_str();
        if !models.contains_key(repository) {
            // One at a time is enough: an export is in the order of the runs.
            models.clear();
            models.insert(repository, store.learned(repository).await?);
        }
        let of = models.get_mut(repository).expect("it was put there");
        let is_new = store.learn(of, std::slice::from_ref(event)).await?.iter().any(Option::is_some);
        imported.events += 1;
        imported.known += u64::from(!is_new);
    }
    Ok(imported)
}
