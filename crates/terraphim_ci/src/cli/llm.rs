//! What `tci new --llm` and `tci fix --llm` share: the configured service, the secrets that it must not see, and what is
//! said while it works.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use terraphim_github_runner::{
    llm::{LlmClient, LlmError, Usage, secrets_of},
    settings::SettingsStore,
};

use super::{Global, run::keep_out_of_core_files, setting};
use crate::{
    config::{Config, user_directory},
    exit::Exit,
    failure::{Context as _, Failure},
    llm_settings::Settings,
    output,
};

const KEY_VARIABLE: &str = "OPENROUTER_API_KEY";

/// A key is a line.
const KEY_LIMIT_BYTES: u64 = 16 << 10;

/// What a prompt takes of a README is less.
const README_LIMIT_BYTES: u64 = 64 << 10;

/// GitHub shows the first of these.
const READMES: &[&str] = &["README.md", "README", "README.rst", "README.txt", "readme.md"];

/// A line for every token would be all that a terminal does.
const STATUS_PAUSE: Duration = Duration::from_millis(100);

/// The configured service. No stored secret of `repository` and none of the environment is sent to it.
pub(super) fn client(root: &Path, repository: &str, global: &Global) -> Result<LlmClient, Failure> {
    let config = Config::load(Some(root)).map_err(|error| Failure::caused(Exit::Usage, error))?;
    let settings = config.llm.unwrap_or_default();
    let key = key(&settings)?;
    if settings.url.is_none() && key.is_none() {
        return Err(Failure::usage("no language model is configured").hint(format!(
            "set `url` and `model` in section [llm] of ~/.config/tci/config.toml, or {KEY_VARIABLE} to use OpenRouter \
             (docs/llm.md)"
        )));
    }
    keep_out_of_core_files()?;
    let secrets =
        SettingsStore::new(global.paths()?.data()).all_secrets(repository).map_err(setting::failed)?;
    let masker = secrets_of(std::env::vars_os(), secrets.iter().map(|secret| secret.expose()))
        .context("cannot keep the stored secrets out of prompts")?;
    Ok(LlmClient::new(settings.service(key), settings.limits(), masker))
}

fn key(settings: &Settings) -> Result<Option<String>, Failure> {
    if let Some(path) = &settings.key_file {
        let path = user_directory().map_or_else(|| path.clone(), |home| home.join("tci").join(path));
        return read_key(&path).map(Some);
    }
    let variable = std::env::var(KEY_VARIABLE).ok().filter(|key| !key.trim().is_empty());
    // Another service has no business with this key.
    Ok(variable.filter(|_| settings.is_open_router()).map(|key| key.trim().to_owned()))
}

fn read_key(path: &PathBuf) -> Result<String, Failure> {
    let failed = |error| Failure::io("read", path, error).ending(Exit::Usage);
    let file = fs::File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Failure::usage(format!("{} may be read by others", path.display()))
            .hint(format!("`chmod 600 {}`", path.display())));
    }
    let mut key = String::new();
    file.take(KEY_LIMIT_BYTES).read_to_string(&mut key).map_err(failed)?;
    match key.trim() {
        "" => {
            Err(Failure::usage(format!("{} is empty", path.display()))
                .hint("write the service's key into it"))
        }
        key => Ok(key.to_owned()),
    }
}

/// The beginning of a repository's README. A link is not followed: it may lead to a file that nobody wants to send.
pub(super) fn readme(directory: &Path) -> Option<String> {
    let path = READMES
        .iter()
        .map(|name| directory.join(name))
        .find(|path| fs::symlink_metadata(path).is_ok_and(|found| found.is_file()))?;
    let mut text = Vec::new();
    fs::File::open(path).ok()?.take(README_LIMIT_BYTES).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// Tells a person at a terminal how far the answer is.
pub(super) fn progress() -> impl Fn(u64) + Send + Sync {
    let last = std::sync::Mutex::new(None::<Instant>);
    move |tokens| {
        if !output::is_watched() {
            return;
        }
        // Poisoned only by a panic of this very closure.
        let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if last.is_none_or(|at| at.elapsed() >= STATUS_PAUSE) {
            output::status(&format!("the language model answers: {tokens} tokens"));
            *last = Some(Instant::now());
        }
    }
}

/// Takes the line of [`progress`] away.
pub(super) fn end_progress() {
    if output::is_watched() {
        output::status("");
    }
}

/// What a proposal took, and what the service could not do.
pub(super) fn tell(model: &str, usage: &Usage, notes: &[String]) {
    notes.iter().for_each(|note| output::note(note));
    let Usage { answers, prompt_tokens, completion_tokens, cost } = usage;
    let cost = cost.map_or_else(String::new, |cost| format!(", cost {cost:.4}"));
    output::note(&format!(
        "{}: {answers} answer(s), {prompt_tokens} tokens sent, {completion_tokens} received{cost}",
        output::one_line(model)
    ));
}

/// What the program ends with when there is no proposal.
pub(super) fn failed(error: LlmError) -> Failure {
    let exit = match &error {
        LlmError::Length { .. } | LlmError::NotSent(_) => Exit::Usage,
        LlmError::Checker(_)
        | LlmError::Form(_)
        | LlmError::Refused { .. }
        | LlmError::Filtered
        | LlmError::NoContent
        | LlmError::TooManyTokens { .. }
        | LlmError::TooLong { .. }
        | LlmError::CutOff { .. }
        | LlmError::Cost { .. } => Exit::WorkflowFailed,
        _ => Exit::Infrastructure,
    };
    let hint = hint(&error);
    let failure = Failure::caused(exit, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn hint(error: &LlmError) -> Option<&'static str> {
    match error {
        LlmError::Checker(_) => Some("a larger model may do better; nothing was written"),
        LlmError::Service(source) => match source.status()?.as_u16() {
            400 => Some("`max-tokens` of [llm] and the prompt together must fit the model's context"),
            401 | 403 => Some("`key-file` of [llm] names the file with the service's key"),
            404 => Some(
                "is `url` of [llm] up to and including /v1, and `model` as the service names it? Below it, /models lists them",
            ),
            _ => None,
        },
        _ => None,
    }
}
