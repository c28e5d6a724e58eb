//! The four levels of a command.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::shell::{self, Joint, Simple};
use super::tool;
use crate::learning::mask;

/// A key that is longer is cut, and told apart by a hash of the rest.
const MAX_KEY_CHARS: usize = 240;

/// `bash -c "bash -c ..."` is followed this deep.
const MAX_DEPTH: usize = 4;

/// A command at four levels, from its text to its tools.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CommandIdentity {
    /// The text, without blanks around it; a long one is cut and has a hash at its end.
    pub exact: String,
    /// What stays the same from run to run: variables before the command, `sudo` and the like are left out, options
    /// sorted, directories, numbers and hashes masked, redirections left out.
    pub canonical: String,
    /// Each tool with its subcommand (`cargo test`), without commands that only prepare.
    pub subcommand: String,
    /// Each tool once.
    pub tool: String,
}

impl CommandIdentity {
    /// The identity of a command or script of a POSIX-like shell. Any text has one.
    #[must_use]
    pub fn of(text: &str) -> CommandIdentity {
        let text = text.trim();
        let parts = flatten(shell::commands(text), 0);
        let telling: Vec<&Part> = match parts.iter().any(|part| !part.is_preparation) {
            true => parts.iter().filter(|part| !part.is_preparation).collect(),
            // Of commands that only prepare the last one is the point.
            false => parts.iter().rev().take(1).collect(),
        };
        let mut tools: Vec<&str> = Vec::new();
        for part in &telling {
            if !tools.contains(&part.tool.as_str()) {
                tools.push(&part.tool);
            }
        }
        CommandIdentity {
            exact: cut(text),
            canonical: cut(&joined(parts.iter().map(|part| (part.joint, part.canonical.as_str())))),
            subcommand: cut(&joined(telling.iter().map(|part| (part.joint, part.subcommand.as_str())))),
            tool: cut(&tools.join(" + ")),
        }
    }

    /// The same, but told apart from every command that is written otherwise: the canonical form is the text.
    pub(in crate::learning) fn as_written(text: &str) -> CommandIdentity {
        let identity = CommandIdentity::of(text);
        CommandIdentity { canonical: identity.exact.clone(), ..identity }
    }

    /// A short stable id of the canonical form: 16 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> String {
        short_hash(&self.canonical)
    }
}

/// The first 16 hexadecimal digits of SHA-256.
pub(in crate::learning) fn short_hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn joined<'a>(parts: impl Iterator<Item = (Joint, &'a str)>) -> String {
    let mut text = String::new();
    for (joint, part) in parts {
        if !text.is_empty() {
            text += joint.text();
        }
        text += part;
    }
    text
}

/// The commands of a canonical form or of a subcommand, as [`joined`] put them together.
pub(in crate::learning) fn parts(joined: &str) -> impl Iterator<Item = &str> {
    // None is the beginning of another, blanks included.
    let mut rest = Some(joined);
    std::iter::from_fn(move || {
        let text = rest?;
        let joints =
            Joint::ALL.iter().filter_map(|joint| Some((text.find(joint.text())?, joint.text().len())));
        let Some((at, length)) = joints.min() else { return rest.take() };
        rest = Some(&text[at + length..]);
        Some(&text[..at])
    })
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_KEY_CHARS) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…{}", &text[..at], short_hash(text)),
    }
}

struct Part {
    joint: Joint,
    canonical: String,
    subcommand: String,
    tool: String,
    is_preparation: bool,
}

/// The commands, with the scripts of `bash -c` in the place of their shell.
fn flatten(commands: Vec<Simple>, depth: usize) -> Vec<Part> {
    let mut parts = Vec::new();
    for Simple { joint, words } in commands {
        let words = &words[tool::wrapper_words(&words)..];
        let Some(first) = words.first() else { continue };
        let program = tool::program(first);
        match inner_script(&program, words).filter(|_| depth < MAX_DEPTH) {
            Some(script) => {
                let mut inner = flatten(shell::commands(script), depth + 1);
                if let Some(first) = inner.first_mut() {
                    first.joint = joint;
                }
                parts.extend(inner);
            }
            None => parts.push(part(joint, &program, &words[1..])),
        }
    }
    parts
}

fn inner_script<'a>(program: &str, words: &'a [String]) -> Option<&'a str> {
    if !tool::is_shell(program) {
        return None;
    }
    let flag = words.iter().position(|word| word.starts_with('-') && word.ends_with('c'))?;
    words.get(flag + 1).map(String::as_str)
}

fn part(joint: Joint, program: &str, arguments: &[String]) -> Part {
    let (tool, subcommand) = tool_and_subcommand(program, arguments);
    let mut canonical = mask::word(program);
    for argument in sorted(arguments) {
        canonical.push(' ');
        canonical += &argument;
    }
    Part { joint, canonical, subcommand, tool, is_preparation: tool::is_preparation(program) }
}

fn tool_and_subcommand(program: &str, arguments: &[String]) -> (String, String) {
    let plain: Vec<&str> = positional(arguments).collect();
    if tool::is_launcher(program)
        && let Some(first) = plain.first()
    {
        let tool = first.split_once('@').map_or(*first, |(name, _)| name);
        return (tool.to_owned(), tool.to_owned());
    }
    if tool::is_interpreter(program) {
        // `python -m pytest` is pytest.
        if let Some(at) = arguments.iter().position(|word| word == "-m")
            && let Some(module) = arguments.get(at + 1)
        {
            return tool_and_subcommand(module, &arguments[at + 2..]);
        }
        let script = arguments.iter().find(|word| !word.starts_with('-'));
        let name = script.map(|script| mask::word(script.rsplit('/').next().unwrap_or(script)));
        return match name {
            Some(name) => (program.to_owned(), format!("{program} {name}")),
            None => (program.to_owned(), program.to_owned()),
        };
    }
    let tool = mask::word(program);
    if !tool::has_subcommands(program) {
        return (tool.clone(), tool);
    }
    let mut words = plain.iter().filter(|word| !word.starts_with('+') && !tool::is_assignment(word));
    let Some(first) = words.next() else { return (tool.clone(), tool) };
    let first = tool::subcommand_alias(program, first);
    let mut subcommand = format!("{tool} {}", mask::word(first));
    if tool::has_second_subcommand(program, first)
        && let Some(second) = words.next()
    {
        subcommand.push(' ');
        subcommand += &mask::word(second);
    }
    (tool, subcommand)
}

/// Words that are neither options nor their values.
fn positional(arguments: &[String]) -> impl Iterator<Item = &str> {
    let mut skip = false;
    arguments.iter().map(String::as_str).filter(move |word| {
        if std::mem::take(&mut skip) {
            return false;
        }
        skip = tool::takes_value(word);
        !word.starts_with('-')
    })
}

/// The arguments masked: positional ones in their order, then options with their values by name; what follows `--`
/// stays as it is.
fn sorted(arguments: &[String]) -> Vec<String> {
    let (mut plain, mut options, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    let mut words = arguments.iter().peekable();
    while let Some(word) = words.next() {
        if word == "--" {
            rest.push("--".to_owned());
            rest.extend(words.by_ref().map(|word| mask::word(word)));
        } else if word.starts_with('-') && word.len() > 1 {
            let value =
                if tool::takes_value(word) { words.next_if(|next| !next.starts_with('-')) } else { None };
            options.push(value.map_or_else(|| option(word), |value| format!("{word} {}", mask::word(value))));
        } else {
            plain.push(quoted(word));
        }
    }
    options.sort_unstable();
    options.dedup();
    plain.extend(options);
    plain.extend(rest);
    plain
}

/// A word that was quoted for what it holds stays told apart from an operator.
fn quoted(word: &str) -> String {
    let masked = mask::word(word);
    if word.contains([' ', '&', '|', ';', '<', '>', '(', ')', '\n']) { format!("'{masked}'") } else { masked }
}

/// `--name=value` has its value masked, `-j8` its number.
fn option(word: &str) -> String {
    match word.split_once('=') {
        Some((name, value)) => format!("{name}={}", mask::word(value)),
        None => {
            match word.strip_prefix("-j").filter(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit())) {
                Some(_) => "-j #".to_owned(),
                None => word.to_owned(),
            }
        }
    }
}
