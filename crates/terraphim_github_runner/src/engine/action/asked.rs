//! The inputs of `actions/checkout`, as far as the host answers them. What it does not do is an error with its name.

use indexmap::IndexMap;
use terraphim_actions::span::Span;
use terraphim_actions::template::Template;

use crate::action::Submodules;

/// What a step asks `actions/checkout` for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) repository: String,
    pub(super) reference: String,
    pub(super) token: String,
    /// From the workspace; empty for the workspace itself.
    pub(super) path: String,
    pub(super) clean: bool,
    pub(super) depth: u32,
    pub(super) tags: bool,
    pub(super) submodules: Submodules,
    pub(super) persist: bool,
    pub(super) sparse: Vec<String>,
    pub(super) cone: bool,
    /// What GitHub warns of.
    pub(super) warnings: Vec<String>,
}

impl Default for Asked {
    /// As the action has it, but for `persist-credentials`: nobody needs them in a VM that is thrown away.
    fn default() -> Self {
        Asked {
            repository: String::new(),
            reference: String::new(),
            token: String::new(),
            path: String::new(),
            clean: true,
            depth: 1,
            tags: false,
            submodules: Submodules::None,
            persist: false,
            sparse: Vec::new(),
            cone: true,
            warnings: Vec::new(),
        }
    }
}

/// Inputs of the action that the host does not do; they may be given as what they are without being given.
const NOT_DONE: [(&str, &str); 7] = [
    ("ssh-key", ""),
    ("ssh-known-hosts", ""),
    ("ssh-strict", "true"),
    ("ssh-user", "git"),
    ("filter", ""),
    ("lfs", "false"),
    ("github-server-url", ""),
];
/// Inputs that change nothing that could be seen afterwards.
const WITHOUT_EFFECT: [&str; 2] = ["show-progress", "set-safe-directory"];
const VALID: [&str; 11] = [
    "repository",
    "ref",
    "token",
    "path",
    "clean",
    "fetch-depth",
    "fetch-tags",
    "submodules",
    "persist-credentials",
    "sparse-checkout",
    "sparse-checkout-cone-mode",
];

impl Asked {
    /// Reads the inputs of a step.
    pub(super) fn parse(values: &IndexMap<String, String>) -> Result<Asked, String> {
        let mut asked = Asked::default();
        for (name, value) in values {
            asked.take(&name.to_lowercase(), name, value.trim())?;
        }
        Ok(asked)
    }

    fn take(&mut self, key: &str, name: &str, value: &str) -> Result<(), String> {
        if let Some(text) = not_done(key, value) {
            return Err(text);
        }
        match key {
            "repository" if !value.is_empty() && value.split('/').count() != 2 => {
                return Err(format!("`repository: {value}` is not owner/name"));
            }
            "repository" => self.repository = value.to_owned(),
            "ref" => self.reference = value.to_owned(),
            "token" => self.token = value.to_owned(),
            "path" => self.path = path(value)?,
            "clean" => self.clean = flag(key, value, true)?,
            "fetch-depth" if value.is_empty() => {}
            "fetch-depth" => {
                self.depth =
                    value.parse().map_err(|_| format!("`fetch-depth: {value}` is no number of commits"))?;
            }
            "fetch-tags" => self.tags = flag(key, value, false)?,
            "submodules" if value.eq_ignore_ascii_case("recursive") => {
                self.submodules = Submodules::Recursive
            }
            "submodules" => {
                self.submodules = if flag(key, value, false)? { Submodules::Own } else { Submodules::None };
            }
            "persist-credentials" => self.persist = flag(key, value, false)?,
            "sparse-checkout" => {
                self.sparse =
                    value.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
            }
            "sparse-checkout-cone-mode" => self.cone = flag(key, value, true)?,
            _ if WITHOUT_EFFECT.contains(&key) || NOT_DONE.iter().any(|(known, _)| *known == key) => {}
            _ => self
                .warnings
                .push(format!("Unexpected input(s) '{name}', valid inputs are ['{}']", VALID.join("', '"))),
        }
        Ok(())
    }
}

/// What is known to be wrong without evaluating anything.
pub(super) fn problems(with: &Template) -> Vec<(Span, String)> {
    let mut problems = Vec::new();
    for (name, value) in with.entries() {
        let (Some(key), Some(text)) = (name.as_str(), value.literal_text()) else { continue };
        let one = IndexMap::from([(key.to_owned(), text.into_owned())]);
        if let Err(text) = Asked::parse(&one) {
            problems.push((value.span, text));
        }
    }
    problems
}

fn not_done(key: &str, value: &str) -> Option<String> {
    let (_, usual) = NOT_DONE.iter().find(|(known, _)| *known == key)?;
    let is_usual = value.is_empty() || value.eq_ignore_ascii_case(usual);
    (!is_usual).then(|| {
        format!(
            "the input `{key}` of actions/checkout is not done by the host: remove it, or use --real-checkout"
        )
    })
}

fn flag(key: &str, value: &str, default: bool) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "" => Ok(default),
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("`{key}: {value}` is neither true nor false")),
    }
}

/// GitHub: a `path` must be below the workspace.
fn path(value: &str) -> Result<String, String> {
    let parts: Vec<&str> = value.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if value.starts_with('/') || parts.contains(&"..") {
        return Err(format!("`path: {value}` is not below the workspace"));
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Asked, String> {
        Asked::parse(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn what_is_not_given_is_as_the_action_has_it() {
        assert_eq!(parse(&[]), Ok(Asked::default()));
        let usual = [("lfs", "false"), ("ssh-strict", "true"), ("filter", ""), ("show-progress", "false")];
        assert_eq!(parse(&usual), Ok(Asked::default()));
    }

    #[test]
    fn inputs_are_read() {
        let asked = parse(&[
            ("Repository", "o/r"),
            ("path", "./a//b/"),
            ("clean", "FALSE"),
            ("fetch-depth", "0"),
            ("submodules", "recursive"),
            ("sparse-checkout", "a\n  b\n\n"),
            ("color", "x"),
        ])
        .unwrap();
        assert_eq!((asked.repository.as_str(), asked.path.as_str()), ("o/r", "a/b"));
        assert_eq!((asked.clean, asked.depth, asked.submodules), (false, 0, Submodules::Recursive));
        assert_eq!(asked.sparse, ["a", "b"]);
        assert!(asked.warnings[0].starts_with("Unexpected input(s) 'color', valid inputs are ['repository'"));
    }

    #[test]
    fn what_is_wrong_or_not_done_is_named() {
        for (name, value, words) in [
            ("lfs", "true", "`lfs` of actions/checkout is not done"),
            ("ssh-key", "k", "`ssh-key`"),
            ("path", "../x", "not below the workspace"),
            ("path", "/x", "not below the workspace"),
            ("fetch-depth", "all", "`fetch-depth: all`"),
            ("clean", "maybe", "neither true nor false"),
            ("repository", "x", "not owner/name"),
        ] {
            let error = parse(&[(name, value)]).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
