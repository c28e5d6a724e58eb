//! Workflow commands in the output of a step: what each line means. No I/O.

use terraphim_actions::command::{self, Command};

use super::event::{Annotation, AnnotationLevel};

/// What a command asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// A value to hide from now on.
    Mask(String),
    /// An output of the step.
    Output(String, String),
    /// A state of the step, for the post step of an action.
    State(String, String),
    /// A variable for the steps that follow.
    Env(String, String),
    /// A directory for the search path of the steps that follow.
    Path(String),
    /// A message.
    Annotate(Annotation),
    /// The lines that follow belong together.
    Group(String),
    /// The group ends.
    EndGroup,
    /// A file of problem matchers for this step and those that follow.
    AddMatcher(String),
    /// A problem matcher that is wanted no more, by its owner.
    RemoveOwner(String),
    /// Those of a file.
    RemoveMatchers(String),
    /// A line for people who look for a fault.
    Debug(String),
    /// The command cannot be carried out; the step fails.
    Refuse(String),
}

/// A line that is a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interpreted {
    /// Whether the line itself is shown too.
    pub(super) is_shown: bool,
    /// What it asks for, in order.
    pub(super) requests: Vec<Request>,
}

/// Reads the lines of one step.
#[derive(Clone, Debug, Default)]
pub(super) struct Interpreter {
    /// Commands mean nothing until this token comes as a command.
    stopped: Option<String>,
    /// `::echo::on`
    echo: bool,
    /// `set-env` and `add-path` work: `ACTIONS_ALLOW_UNSECURE_COMMANDS`.
    allow_unsecure: bool,
}

/// Whether a line of this block can be a command at all. Most blocks have none, and are then not looked at by line.
pub(super) fn may_hold_command(block: &[u8]) -> bool {
    memchr::memmem::find(block, b"::").is_some() || memchr::memmem::find(block, b"##[").is_some()
}

/// Whether a line can be a command: one with colons begins with them, after blanks of any alphabet.
pub(super) fn may_be_command(line: &[u8]) -> bool {
    let first = line.iter().find(|byte| !byte.is_ascii_whitespace());
    first.is_some_and(|byte| *byte == b':' || !byte.is_ascii())
        || memchr::memmem::find(line, b"##[").is_some()
}

impl Interpreter {
    pub(super) fn new(allow_unsecure: bool) -> Interpreter {
        Interpreter { allow_unsecure, ..Interpreter::default() }
    }

    /// What the line (without its line end) means; `None` if it is plain text.
    pub(super) fn line(&mut self, line: &str) -> Option<Interpreted> {
        let command = command::parse(line, self.stopped.as_deref())?;
        if let Some(token) = &self.stopped {
            if !command.name.eq_ignore_ascii_case(token) {
                return None;
            }
            self.stopped = None;
            return Some(Interpreted { is_shown: true, requests: Vec::new() });
        }
        if command.name.eq_ignore_ascii_case("stop-commands") {
            return Some(self.stop(&command.data));
        }
        let (requests, is_quiet) = self.request(&command)?;
        Some(Interpreted { is_shown: self.echo && !is_quiet, requests })
    }

    fn stop(&mut self, token: &str) -> Interpreted {
        if !command::is_valid_stop_token(token) {
            let text = format!("stop-commands needs a token of its own, {token:?} is none");
            return Interpreted { is_shown: false, requests: vec![Request::Refuse(text)] };
        }
        self.stopped = Some(token.to_owned());
        // A short token would hide too much of the log. GitHub masks those of more than 6 characters.
        let mask = (token.chars().count() > 6).then(|| Request::Mask(token.to_owned()));
        Interpreted { is_shown: true, requests: mask.into_iter().collect() }
    }

    /// What a command asks for, and whether its line stays hidden even with `echo` on.
    fn request(&mut self, command: &Command) -> Option<(Vec<Request>, bool)> {
        let data = command.data.clone();
        let name = command.name.to_ascii_lowercase();
        let requests = match name.as_str() {
            "add-mask" => vec![Request::Mask(data)],
            "set-output" => named(command, "GITHUB_OUTPUT", Request::Output),
            "save-state" => named(command, "GITHUB_STATE", Request::State),
            "set-env" | "add-path" if !self.allow_unsecure => vec![Request::Refuse(format!(
                "the command {name} is switched off: write to {} instead, or set ACTIONS_ALLOW_UNSECURE_COMMANDS to true",
                if name == "set-env" { "GITHUB_ENV" } else { "GITHUB_PATH" }
            ))],
            "set-env" => named(command, "GITHUB_ENV", Request::Env),
            "add-path" if data.is_empty() => vec![Request::Refuse("add-path needs a directory".to_owned())],
            "add-path" => vec![Request::Path(data)],
            "debug" => vec![Request::Debug(data)],
            "notice" => vec![annotation(command, AnnotationLevel::Notice)],
            "warning" => vec![annotation(command, AnnotationLevel::Warning)],
            "error" => vec![annotation(command, AnnotationLevel::Error)],
            "group" => vec![Request::Group(data)],
            "endgroup" => vec![Request::EndGroup],
            "echo" => self.set_echo(&data),
            "add-matcher" => vec![Request::AddMatcher(data)],
            "remove-matcher" => vec![remove_matcher(command)],
            _ => return None,
        };
        let is_quiet = matches!(
            name.as_str(),
            "add-mask" | "debug" | "notice" | "warning" | "error" | "group" | "endgroup"
        );
        Some((requests, is_quiet))
    }

    fn set_echo(&mut self, data: &str) -> Vec<Request> {
        match data.trim().to_ascii_lowercase().as_str() {
            "on" => self.echo = true,
            "off" => self.echo = false,
            _ => return vec![Request::Refuse(format!("echo is on or off, not {data:?}"))],
        }
        Vec::new()
    }
}

fn remove_matcher(command: &Command) -> Request {
    let owner = command.property("owner").map(str::trim).filter(|owner| !owner.is_empty());
    match (owner, command.data.trim()) {
        (Some(owner), "") => Request::RemoveOwner(owner.to_owned()),
        (None, "") => Request::Refuse("remove-matcher needs an owner or a file".to_owned()),
        (None, file) => Request::RemoveMatchers(file.to_owned()),
        // GitHub warns and goes on.
        (Some(_), _) => warning("remove-matcher takes an owner or a file, not both"),
    }
}

fn warning(text: impl Into<String>) -> Request {
    Request::Annotate(Annotation::new(AnnotationLevel::Warning, text))
}

/// One of the old commands that a file replaced.
fn named(command: &Command, file: &str, request: fn(String, String) -> Request) -> Vec<Request> {
    let Some(name) = command.property("name").filter(|name| !name.is_empty()) else {
        return vec![Request::Refuse(format!("the command {} needs a name", command.name))];
    };
    let old = format!(
        "the command {} is deprecated and will be gone one day: write to {file} instead",
        command.name
    );
    let mut requests = vec![request(name.to_owned(), command.data.clone())];
    if file != "GITHUB_ENV" {
        requests.push(warning(old));
    }
    requests
}

fn annotation(command: &Command, level: AnnotationLevel) -> Request {
    let text = |name: &str| command.property(name).filter(|value| !value.is_empty()).map(str::to_owned);
    let number = |name: &str| command.property(name).and_then(|value| value.trim().parse().ok());
    Request::Annotate(Annotation {
        title: text("title"),
        file: text("file"),
        line: number("line"),
        end_line: number("endLine"),
        col: number("col"),
        end_col: number("endColumn"),
        ..Annotation::new(level, command.data.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Vec<Option<Interpreted>> {
        let mut interpreter = Interpreter::default();
        lines.iter().map(|line| interpreter.line(line)).collect()
    }

    fn quiet(requests: Vec<Request>) -> Option<Interpreted> {
        Some(Interpreted { is_shown: false, requests })
    }

    #[test]
    fn every_line_that_is_a_command_may_be_one() {
        for line in ["::debug::x", "  \t::debug::x", "\u{2003}::debug::x", "at the end ##[debug]x"] {
            assert!(
                may_be_command(line.as_bytes()) && Interpreter::new(false).line(line).is_some(),
                "{line}"
            );
        }
        assert!(!may_be_command(b"test a::b ... ok") && !may_be_command(b"\n"));
    }

    #[test]
    fn commands_are_told_from_text() {
        for text in ["hello", "a ::warning::x", "::unknown::x", "::", "::warning"] {
            assert_eq!(read(&[text]), [None], "{text}");
        }
        assert_eq!(read(&["  ::add-mask::a::b"]), [quiet(vec![Request::Mask("a::b".into())])]);
    }

    #[test]
    fn an_annotation_has_a_place() {
        let line = "::error file=a.rs,line=3,endLine=4,col=5,endColumn=6,title=No%2C no::it%0Afails";
        let want = Annotation {
            title: Some("No, no".into()),
            file: Some("a.rs".into()),
            line: Some(3),
            end_line: Some(4),
            col: Some(5),
            end_col: Some(6),
            ..Annotation::new(AnnotationLevel::Error, "it\nfails")
        };
        assert_eq!(read(&[line]), [quiet(vec![Request::Annotate(want)])]);
    }

    #[test]
    fn nothing_is_a_command_until_the_token_comes() {
        let lines = read(&["::stop-commands::pause-1", "::error::x", "::PAUSE-1::", "::endgroup::"]);
        assert!(lines[0].as_ref().unwrap().is_shown);
        assert_eq!(lines[0].as_ref().unwrap().requests, [Request::Mask("pause-1".into())]);
        assert_eq!(lines[1], None);
        assert!(lines[2].as_ref().unwrap().is_shown);
        assert_eq!(lines[3], quiet(vec![Request::EndGroup]));
    }

    #[test]
    fn a_token_must_be_usable() {
        for token in ["", "pause-logging", "Warning"] {
            let lines = read(&[&format!("::stop-commands::{token}"), "::endgroup::"]);
            assert!(matches!(lines[0].as_ref().unwrap().requests[..], [Request::Refuse(_)]), "{token}");
            assert!(lines[1].is_some());
        }
    }

    #[test]
    fn echo_shows_commands_but_never_masks() {
        let lines = read(&["::echo::on", "::set-output name=a::b", "::add-mask::x", "::echo::maybe"]);
        assert!(lines[1].as_ref().unwrap().is_shown);
        assert!(!lines[2].as_ref().unwrap().is_shown);
        assert!(matches!(lines[3].as_ref().unwrap().requests[..], [Request::Refuse(_)]));
    }

    #[test]
    fn old_commands_warn_and_unsafe_ones_need_their_switch() {
        let lines =
            read(&["::set-output name=a::b", "::set-output::b", "::set-env name=A::b", "::add-path::/x"]);
        let requests = |i: usize| &lines[i].as_ref().unwrap().requests;
        assert_eq!(requests(0)[0], Request::Output("a".into(), "b".into()));
        assert!(matches!(requests(0)[1], Request::Annotate(_)));
        for i in 1..4 {
            assert!(matches!(requests(i)[..], [Request::Refuse(_)]));
        }
        let mut open = Interpreter::new(true);
        let set = open.line("::set-env name=A::b").unwrap();
        assert_eq!(set.requests, [Request::Env("A".into(), "b".into())]);
    }
}
