//! `tci artifact`: what jobs left with `actions/upload-artifact`.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use terraphim_github_runner::store::RunId;
use zip::ZipArchive;

use super::Global;
use crate::{
    exit::Exit,
    failure::{Context as _, Failure},
    output::{self, one_line},
    services::{self, ArtifactMeta, Artifacts},
};

#[derive(Debug, Args)]
pub(crate) struct ArtifactArgs {
    #[command(subcommand)]
    command: ArtifactCommand,
}

#[derive(Debug, Subcommand)]
enum ArtifactCommand {
    /// List artifacts, newest first.
    Ls(LsArgs),
    /// Copy an artifact's files into a directory.
    Get(GetArgs),
    /// Remove artifacts.
    Rm(RmArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci artifact ls --run 12")]
struct LsArgs {
    /// Only those of this run (`tci runs ls`).
    #[arg(long, value_name = "RUN")]
    run: Option<RunId>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tci artifact get coverage --run 12\n  tci artifact get coverage --raw --output /tmp"
)]
struct GetArgs {
    /// Its name, of which the newest is meant, or its id.
    artifact: String,
    /// The run that it is of.
    #[arg(long, value_name = "RUN")]
    run: Option<RunId>,
    /// Where to [default: a directory with the artifact's name, or the current one with --raw].
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// One file as it was uploaded, without unpacking it.
    #[arg(long)]
    raw: bool,
    /// Print what was written as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci artifact rm coverage --run 12")]
struct RmArgs {
    /// Names, of which the newest are meant, or ids.
    #[arg(required = true)]
    artifacts: Vec<String>,
    /// The run that they are of.
    #[arg(long, value_name = "RUN")]
    run: Option<RunId>,
}

pub(crate) fn main(args: &ArtifactArgs, global: &Global) -> Result<Exit, Failure> {
    let store = Artifacts::new(&services::directory(global.paths()?.data()));
    match &args.command {
        ArtifactCommand::Ls(args) => ls(args, &store),
        ArtifactCommand::Get(args) => get(args, &store),
        ArtifactCommand::Rm(args) => rm(args, &store),
    }
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// Newest first.
fn all(store: &Artifacts, run: Option<RunId>) -> Result<Vec<ArtifactMeta>, Failure> {
    let found = match run {
        Some(run) => store.list(run.0, now_ms()),
        None => store.list_all(now_ms()),
    };
    let mut found = found.context("cannot list the artifacts")?;
    found.reverse();
    Ok(found)
}

fn ls(args: &LsArgs, store: &Artifacts) -> Result<Exit, Failure> {
    let all = all(store, args.run)?;
    if args.json {
        output::json(&all)?;
        return Ok(Exit::Success);
    }
    let row = |meta: &ArtifactMeta| {
        vec![
            meta.id.to_string(),
            meta.run.to_string(),
            one_line(&meta.job),
            one_line(&meta.name),
            output::size(meta.size),
            output::time(meta.created_at_ms),
            output::time(meta.expires_at_ms),
        ]
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    let header = ["ID", "RUN", "JOB", "NAME", "SIZE", "CREATED", "EXPIRES"];
    output::data(&output::table(&header, &rows))?;
    Ok(Exit::Success)
}

fn find(wanted: &str, run: Option<RunId>, store: &Artifacts) -> Result<ArtifactMeta, Failure> {
    let all = all(store, run)?;
    let by_name = all.iter().find(|meta| meta.name == wanted);
    let found = by_name.or_else(|| all.iter().find(|meta| meta.id.to_string() == wanted));
    found.cloned().ok_or_else(|| {
        let of = run.map_or_else(String::new, |run| format!(" of run {run}"));
        Failure::usage(format!("there is no artifact `{wanted}`{of}")).hint("`tci artifact ls` shows them")
    })
}

fn get(args: &GetArgs, store: &Artifacts) -> Result<Exit, Failure> {
    let meta = find(&args.artifact, args.run, store)?;
    let content = store.content(&meta);
    let written = if args.raw || !meta.is_zip() {
        vec![copy(&meta, &content, args.output.as_deref().unwrap_or(Path::new(".")))?]
    } else {
        let directory = args.output.clone().unwrap_or_else(|| PathBuf::from(&meta.name));
        unpack(&content, &directory)?
    };
    if args.json {
        output::json(&written)?;
    } else {
        let lines: String = written.iter().map(|path| one_line(&path.display().to_string()) + "\n").collect();
        output::data(&lines)?;
    }
    Ok(Exit::Success)
}

/// Copies the file as it is.
fn copy(meta: &ArtifactMeta, content: &Path, directory: &Path) -> Result<PathBuf, Failure> {
    let ending = if meta.is_zip() && !meta.name.ends_with(".zip") { ".zip" } else { "" };
    // The services take no name that is more than a file's name.
    let path = directory.join(format!("{}{ending}", meta.name));
    make_directory(directory)?;
    let mut to = create(&path)?;
    let mut from = File::open(content).map_err(|error| Failure::io("read", content, error))?;
    io::copy(&mut from, &mut to).map_err(|error| Failure::io("write", &path, error))?;
    Ok(path)
}

/// Unpacks every file; nothing is written outside the directory, nor over a file that is there.
fn unpack(content: &Path, directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let damaged = || format!("the archive {} is damaged", content.display());
    let file = File::open(content).map_err(|error| Failure::io("read", content, error))?;
    let mut archive = ZipArchive::new(file).context(damaged())?;
    make_directory(directory)?;
    let mut written = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).context(damaged())?;
        let Some(name) = entry.enclosed_name() else {
            let name = one_line(&String::from_utf8_lossy(entry.name_raw()));
            return Err(Failure::fault(format!("the archive has an entry that leads outside: {name}"))
                .hint("`--raw` copies the archive as it is"));
        };
        let path = directory.join(name);
        if entry.is_dir() {
            make_directory(&path)?;
            continue;
        }
        make_directory(path.parent().unwrap_or(directory))?;
        // A link in an archive is written as a file with its target: nothing is followed.
        let mut to = create(&path)?;
        io::copy(&mut entry, &mut to).map_err(|error| Failure::io("write", &path, error))?;
        written.push(path);
    }
    Ok(written)
}

fn make_directory(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).map_err(|error| Failure::io("create", path, error))
}

fn create(path: &Path) -> Result<File, Failure> {
    File::create_new(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::usage(format!("{} exists", path.display()))
            .hint("choose another directory with `--output`"),
        _ => Failure::io("create", path, error),
    })
}

fn rm(args: &RmArgs, store: &Artifacts) -> Result<Exit, Failure> {
    // All or none: a mistake in one name removes nothing.
    let wanted: Result<Vec<ArtifactMeta>, Failure> =
        args.artifacts.iter().map(|name| find(name, args.run, store)).collect();
    for meta in wanted? {
        store.remove(&meta).context(format!("cannot remove the artifact `{}`", meta.name))?;
        output::data(&format!("{}\n", meta.id))?;
    }
    Ok(Exit::Success)
}
