//! Everything about a process that can be decided before it is made, on the thread that will make it.

use std::{
    ffi::{CString, NulError},
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use terraphim_vm_protocol::message::{ExecFailed, ExecFailure, ExecRequest, FileWrite};

use super::failed;
use crate::{
    users::{self, User},
    worker::Seat,
};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the child needs, in the form in which the system calls want it.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) user: User,
    /// Whether the child has to become `user`.
    pub(super) changes_user: bool,
    pub(super) argv: Vec<CString>,
    pub(super) env: Vec<CString>,
    pub(super) cwd: CString,
    /// Where the program may be, in this order.
    pub(super) candidates: Vec<CString>,
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
        let path = env.iter().rev().find(|(key, _)| key == "PATH").map_or(DEFAULT_PATH, |(_, value)| value);
        let cwd = request.cwd.as_deref().unwrap_or(&user.home);
        let c_strings = || -> Result<_, NulError> {
            Ok((
                c_strings(request.argv.iter().cloned())?,
                c_strings(env.iter().map(|(key, value)| format!("{key}={value}")))?,
                CString::new(cwd)?,
                c_strings(candidates(program, path).into_iter())?,
            ))
        };
        let (argv, env, cwd, candidates) = c_strings().map_err(|_| {
            failed(ExecFailure::BadRequest, "argv, env, cwd or user's home contains a NUL character")
        })?;
        Ok(Plan { changes_user: own.is_root(), user, argv, env, cwd, candidates })
    }
}

fn c_strings(texts: impl Iterator<Item = String>) -> Result<Vec<CString>, NulError> {
    texts.map(CString::new).collect()
}

fn environment(request: &ExecRequest, user: &User) -> Vec<(String, String)> {
    let mut env = request.env.clone();
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
            if !env.iter().any(|(present, _)| present == key) {
                env.push((key.to_owned(), value.to_owned()));
            }
        }
    }
    env
}

fn candidates(program: &str, path: &str) -> Vec<String> {
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    let directory = |entry: &str| if entry.is_empty() { ".".to_owned() } else { entry.to_owned() };
    path.split(':').map(|entry| format!("{}/{program}", directory(entry))).collect()
}

/// Writes the files of a request as `user`.
pub(super) fn write_files(seat: &mut Seat, user: &User, files: &[FileWrite]) -> Result<(), ExecFailed> {
    if files.is_empty() {
        return Ok(());
    }
    let written = seat
        .act_as(user)
        .map_err(|error| format!("cannot act as user `{}`: {error}", user.name))
        .and_then(|()| seat.without_mask(|mask| files.iter().try_for_each(|file| write_file(file, mask))));
    seat.act_as_root()
        .map_err(|error| failed(ExecFailure::Resources, format!("cannot act as root: {error}")))?;
    written.map_err(|message| failed(ExecFailure::WriteFile, message))
}

fn write_file(file: &FileWrite, mask: u32) -> Result<(), String> {
    let path = Path::new(&file.path);
    if !path.is_absolute() {
        return Err(format!("cannot write {}: the path is not absolute", file.path));
    }
    let mode = file.mode & 0o7777;
    let write = || {
        let mut target = match create(path, mode, mask) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = path.parent().unwrap_or(Path::new("/"));
                fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
                create(path, mode, mask)?
            }
            created => created?,
        };
        target.write_all(file.content.as_bytes())
    };
    write().map_err(|error: io::Error| format!("cannot write {}: {error}", file.path))
}

/// An empty file with these permissions. Every step has six new files, and an emulated guest feels every call: a new file
/// has its permissions from the start unless the thread's mask may take some away.
fn create(path: &Path, mode: u32, mask: u32) -> io::Result<fs::File> {
    let mut open = fs::OpenOptions::new();
    let (file, is_right) = match open.write(true).create_new(true).mode(mode).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            (fs::OpenOptions::new().write(true).truncate(true).open(path)?, false)
        }
        created => (created?, mode & mask == 0),
    };
    if !is_right {
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_never_replace_what_the_request_says() {
        let user = users::find("0").unwrap();
        let mut request = ExecRequest { env: vec![("HOME".into(), "/x".into())], ..ExecRequest::default() };
        assert_eq!(environment(&request, &user), request.env);
        request.inherit_env = true;
        let env = environment(&request, &user);
        assert_eq!(env.iter().filter(|(key, _)| key == "HOME").count(), 1);
        assert!(env.contains(&("PATH".into(), DEFAULT_PATH.into())));
        assert!(!env.iter().any(|(key, _)| key == "TERM"));
    }

    #[test]
    fn programs_are_looked_up_like_a_shell_does() {
        assert_eq!(candidates("x", "/a::b"), ["/a/x", "./x", "b/x"]);
        assert_eq!(candidates("./x", "/a"), ["./x"]);
    }
}
