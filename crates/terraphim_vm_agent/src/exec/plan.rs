//! Everything about a process that can be decided before it is made, on the thread that will make it.

use std::ffi::CString;

use terraphim_vm_protocol::message::{ExecFailed, ExecFailure, ExecRequest};

use super::{failed, texts::Texts};
use crate::users::{self, User};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the child needs, in the form in which the system calls want it.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) user: User,
    /// Whether the child has to become `user`.
    pub(super) changes_user: bool,
    pub(super) argv: Texts,
    pub(super) env: Texts,
    pub(super) cwd: CString,
    /// Where the program may be, in this order.
    pub(super) candidates: Texts,
}

/// The user that a request names, as the calling thread's mount namespace knows it.
pub(crate) fn find_user(name: Option<&str>) -> Result<User, ExecFailed> {
    let found = match name {
        Some(name) => users::find(name),
        None => users::own(),
    };
    found.map_err(|error| failed(ExecFailure::BadRequest, error.to_string()))
}

impl Plan {
    pub(super) fn new(request: &ExecRequest) -> Result<Plan, ExecFailed> {
        let user = find_user(request.user.as_deref())?;
        let own = rustix::process::geteuid();
        if !own.is_root() && own.as_raw() != user.uid {
            let message = format!("cannot become user `{}`: the agent does not run as root", user.name);
            return Err(failed(ExecFailure::BadRequest, message));
        }
        let Some(program) = request.argv.first().filter(|program| !program.is_empty()) else {
            return Err(failed(ExecFailure::BadRequest, "argv is empty"));
        };
        let env = environment(request, &user);
        let path = env.iter().rev().find(|(key, _)| *key == "PATH").map_or(DEFAULT_PATH, |(_, value)| value);
        let cwd = request.cwd.as_deref().unwrap_or(&user.home);
        let texts = || {
            let mut variables = Texts::default();
            env.iter().try_for_each(|(key, value)| variables.push(&[key, "=", value]))?;
            let mut argv = Texts::default();
            request.argv.iter().try_for_each(|argument| argv.push(&[argument]))?;
            Some((argv, variables, CString::new(cwd).ok()?, candidates(program, path)?))
        };
        let (argv, env, cwd, candidates) = texts().ok_or_else(|| {
            failed(ExecFailure::BadRequest, "argv, env, cwd or user's home contains a NUL character")
        })?;
        Ok(Plan { changes_user: own.is_root(), user, argv, env, cwd, candidates })
    }
}

fn environment<'a>(request: &'a ExecRequest, user: &'a User) -> Vec<(&'a str, &'a str)> {
    let mut env: Vec<_> = request.env.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    if request.inherit_env {
        let terminal = request.terminal.map(|_| ("TERM", "xterm-256color"));
        let defaults = [
            ("PATH", DEFAULT_PATH),
            ("HOME", &*user.home),
            ("USER", &*user.name),
            ("LOGNAME", &*user.name),
            ("SHELL", &*user.shell),
            ("LANG", "C.UTF-8"),
        ];
        for (key, value) in defaults.into_iter().chain(terminal) {
            if !env.iter().any(|(present, _)| *present == key) {
                env.push((key, value));
            }
        }
    }
    env
}

/// `None` when a NUL character is among them.
fn candidates(program: &str, path: &str) -> Option<Texts> {
    let mut candidates = Texts::default();
    if program.contains('/') {
        candidates.push(&[program])?;
        return Some(candidates);
    }
    for entry in path.split(':') {
        candidates.push(&[if entry.is_empty() { "." } else { entry }, "/", program])?;
    }
    Some(candidates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_never_replace_what_the_request_says() {
        let user = users::find("0").unwrap();
        let mut request = ExecRequest { env: vec![("HOME".into(), "/x".into())], ..ExecRequest::default() };
        assert_eq!(environment(&request, &user), [("HOME", "/x")]);
        request.inherit_env = true;
        let env = environment(&request, &user);
        assert_eq!(env.iter().filter(|(key, _)| *key == "HOME").count(), 1);
        assert!(env.contains(&("PATH", DEFAULT_PATH)));
        assert!(!env.iter().any(|(key, _)| *key == "TERM"));
    }

    #[test]
    fn programs_are_looked_up_like_a_shell_does() {
        let found = |program, path| candidates(program, path).unwrap().to_strings();
        assert_eq!(found("x", "/a::b"), ["/a/x", "./x", "b/x"]);
        assert_eq!(found("./x", "/a"), ["./x"]);
        assert!(candidates("x", "/a\0:/b").is_none());
    }
}
