//! `tci image`: what virtual machines start from.

use std::{
    path::PathBuf,
    sync::Mutex,
    time::{Instant, UNIX_EPOCH},
};

use clap::{Args, Subcommand};
use serde_json::json;
use terraphim_vm::{
    Host, VmError,
    image::{Image, ImageError, ImageStore, Listed, Progress, Recipe},
};

use super::Global;
use crate::{exit::Exit, failure::Failure, output};

#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    #[command(subcommand)]
    command: ImageCommand,
}

#[derive(Debug, Subcommand)]
enum ImageCommand {
    /// Build an image; does nothing when it is there already.
    Build(BuildArgs),
    /// List the images.
    Ls(LsArgs),
    /// Print everything that is known about an image as JSON.
    #[command(after_help = "Example:\n  tci image inspect debian | jq .content.kernel")]
    Inspect(One),
    /// Remove images.
    Rm(RmArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci image build\n  tci image build ./my-image.toml")]
struct BuildArgs {
    /// The name of a recipe that comes with tci (`debian`, `debian-docker`, `busybox`), or a recipe file.
    #[arg(default_value = "debian")]
    recipe: String,
    /// Build again with the newest packages.
    #[arg(long)]
    rebuild: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci image ls")]
struct LsArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One image.
#[derive(Debug, Args)]
struct One {
    /// A name, or the start of a digest.
    image: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci image rm busybox")]
struct RmArgs {
    /// Names, or starts of digests.
    #[arg(required = true)]
    images: Vec<String>,
    /// Also images that VMs start from.
    #[arg(long, short)]
    force: bool,
}

pub(crate) fn main(args: &ImageArgs, global: &Global) -> Result<Exit, Failure> {
    let host = global.host()?;
    let store = host.images()?;
    match &args.command {
        ImageCommand::Build(args) => build(&store, args),
        ImageCommand::Ls(args) => ls(&store, args),
        ImageCommand::Inspect(one) => {
            output::json(&store.inspect(&one.image)?)?;
            Ok(Exit::Success)
        }
        ImageCommand::Rm(args) => {
            for image in &args.images {
                let removed = host.remove_image(image, args.force).map_err(|error| {
                    let is_used = matches!(error, VmError::Image(ImageError::InUse { .. }));
                    let failure = Failure::from(error);
                    if !is_used {
                        return failure;
                    }
                    failure.hint("or use --force: these VMs do not start again then")
                });
                output::data(&format!("{}\n", removed?))?;
            }
            Ok(Exit::Success)
        }
    }
}

fn build(store: &ImageStore, args: &BuildArgs) -> Result<Exit, Failure> {
    let path = PathBuf::from(&args.recipe);
    let is_file = args.recipe.contains('/') || args.recipe.ends_with(".toml");
    let recipe = if is_file { Recipe::from_file(&path) } else { Recipe::named(&args.recipe) };
    let recipe = recipe.map_err(ImageError::from)?;
    let progress = Told::new();
    let image =
        if args.rebuild { store.rebuild(&recipe, &progress) } else { store.build(&recipe, &progress) };
    progress.end();
    output::data(&format!("{}\n", image?.digest))?;
    Ok(Exit::Success)
}

/// Makes sure that `name` can be started from, building an image that comes with tci when it is not there. Says so:
/// the first time takes minutes.
pub(crate) fn ensure(host: &Host, name: &str) -> Result<Image, Failure> {
    let store = host.images()?;
    let missing = match store.resolve(name) {
        Ok(image) => return Ok(image),
        Err(error @ ImageError::NotFound(_)) => error,
        Err(error) => return Err(error.into()),
    };
    let Ok(recipe) = Recipe::named(name) else {
        return Err(Failure::from(missing).hint("`tci image build RECIPE.toml` builds one from a recipe"));
    };
    output::note(&format!(
        "image `{name}` is not there yet: building it, which takes minutes and happens once"
    ));
    let progress = Told::new();
    let built = store.build(&recipe, &progress);
    progress.end();
    Ok(built?)
}

/// Whether the VMs of an image have a container engine; what the recipe says of one that is not built yet.
pub(crate) fn has_engine(host: &Host, name: &str) -> Result<bool, Failure> {
    let engine = match host.images()?.resolve(name) {
        Ok(image) => image.container_engine,
        // Whatever is wrong with it is said when a VM is to start from it.
        Err(_) => Recipe::named(name).ok().and_then(|recipe| recipe.container_engine),
    };
    Ok(engine.is_some())
}

fn ls(store: &ImageStore, args: &LsArgs) -> Result<Exit, Failure> {
    let images = store.list()?;
    if args.json {
        let rows: Vec<_> = images.iter().map(as_json).collect();
        output::json(&rows)?;
        return Ok(Exit::Success);
    }
    let rows: Vec<Vec<String>> = images.iter().map(row).collect();
    output::data(&output::table(&["NAME", "DIGEST", "SIZE", "KERNEL", "BUILT"], &rows))?;
    Ok(Exit::Success)
}

fn row(listed: &Listed) -> Vec<String> {
    let name = listed.name.clone().unwrap_or_else(|| "-".to_owned());
    match &listed.image {
        Ok(image) => vec![
            name,
            listed.digest.short(),
            output::size(image.size),
            image.kernel_version.clone(),
            output::time(built_at_ms(image)),
        ],
        Err(error) => vec![name, listed.digest.short(), format!("{error}")],
    }
}

fn as_json(listed: &Listed) -> serde_json::Value {
    match &listed.image {
        Ok(image) => json!({
            "name": listed.name,
            "digest": listed.digest.to_string(),
            "size": image.size,
            "kernel": image.kernel_version,
            "built_at_ms": built_at_ms(image),
        }),
        Err(error) => {
            json!({"name": listed.name, "digest": listed.digest.to_string(), "error": error.to_string()})
        }
    }
}

fn built_at_ms(image: &Image) -> i64 {
    let since = image.built_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Shows a build's progress: one line that moves on a terminal, one line for each stage elsewhere.
struct Told {
    is_watched: bool,
    start: Instant,
    /// A short section around two fields; builds tell from one thread.
    state: Mutex<Stage>,
}

#[derive(Default)]
struct Stage {
    name: String,
    percent: u32,
}

impl Told {
    fn new() -> Told {
        Told { is_watched: output::is_watched(), start: Instant::now(), state: Mutex::default() }
    }

    fn show(&self, stage: &Stage) {
        let took = output::duration(self.start.elapsed());
        let percent = if stage.percent > 0 { format!(" {} %", stage.percent) } else { String::new() };
        output::status(&format!("[{took}] {}{percent}", stage.name));
    }

    fn end(&self) {
        if self.is_watched {
            output::status("");
        }
    }
}

impl Progress for Told {
    fn stage(&self, name: &str) {
        if !self.is_watched {
            output::note(&format!("[{}] {name}", output::duration(self.start.elapsed())));
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *state = Stage { name: name.to_owned(), percent: 0 };
        self.show(&state);
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a percentage is small and positive"
    )]
    fn advance(&self, fraction: f64) {
        if !self.is_watched {
            return;
        }
        let percent = (fraction.clamp(0.0, 1.0) * 100.0) as u32;
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A line for each percent, not for each byte.
        if state.percent != percent {
            state.percent = percent;
            self.show(&state);
        }
    }

    fn note(&self, text: &str) {
        self.end();
        output::note(text);
    }
}
