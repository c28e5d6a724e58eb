//! Users and groups as `/etc/passwd` and `/etc/group` of the guest say. No name service: the agent is static.

use std::{
    collections::HashMap,
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// One line of `/etc/passwd` with the groups that `/etc/group` adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: String,
    pub(crate) shell: String,
    /// Supplementary groups, `gid` among them.
    pub(crate) groups: Vec<u32>,
}

/// No such user, or the files cannot be read.
#[derive(Debug)]
pub(crate) enum UserError {
    Unknown(String),
    Read(&'static str, io::Error),
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UserError::Unknown(name) => write!(f, "there is no user `{name}` in /etc/passwd"),
            UserError::Read(file, source) => write!(f, "cannot read {file}: {source}"),
        }
    }
}

/// The user with this name or number; a number without a line in `/etc/passwd` is a user without name and home.
pub(crate) fn find(name: &str) -> Result<User, UserError> {
    let stamps = [stamp(PASSWD)?, stamp(GROUP)?];
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).find(&stamps, name);
    if let Some(user) = known {
        return Ok(user);
    }
    let user = look_up(name)?;
    if stamps.iter().flatten().all(Stamp::is_settled) {
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have looked at newer files meanwhile.
        if known.stamps == stamps {
            known.users.insert(name.to_owned(), user.clone());
        }
    }
    Ok(user)
}

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// Who was found in these very files. Every execution asks, and reading them costs an emulated guest 0.4 ms.
static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Known {
    stamps: [Option<Stamp>; 2],
    users: HashMap<String, User>,
}

impl Known {
    /// A user of these files; those of others are forgotten.
    fn find(&mut self, stamps: &[Option<Stamp>; 2], name: &str) -> Option<User> {
        if self.stamps != *stamps {
            *self = Known { stamps: *stamps, users: HashMap::new() };
        }
        self.users.get(name).cloned()
    }
}

/// What tells one content of a file from another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Whether a change from now on must show: the kernel's time stamps are some milliseconds coarse.
    fn is_settled(&self) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let changed = u64::try_from(seconds).ok().zip(u32::try_from(nanoseconds).ok());
        let changed = changed.map(|(s, ns)| SystemTime::UNIX_EPOCH + Duration::new(s, ns));
        changed.is_some_and(|changed| changed.elapsed().is_ok_and(|age| age > Duration::from_secs(1)))
    }
}

/// `None` for a file that is not there.
fn stamp(path: &'static str) -> Result<Option<Stamp>, UserError> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(Stamp {
            file: (found.dev(), found.ino()),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(UserError::Read(path, error)),
    }
}

fn look_up(name: &str) -> Result<User, UserError> {
    let passwd = read(PASSWD)?;
    let group = read(GROUP)?;
    let mut user = match parse_passwd(&passwd, name) {
        Some(user) => user,
        None => nameless(name).ok_or_else(|| UserError::Unknown(name.to_owned()))?,
    };
    user.groups = groups_of(&group, &user);
    Ok(user)
}

/// The user that this process runs as: root in a guest.
pub(crate) fn own() -> Result<User, UserError> {
    find(&rustix::process::geteuid().as_raw().to_string())
}

/// A missing file is an empty one: an image may have no users but root.
fn read(path: &'static str) -> Result<String, UserError> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(UserError::Read(path, error)),
    }
}

fn nameless(name: &str) -> Option<User> {
    let (uid, home) = match name {
        "root" | "0" => (0, "/root"),
        number => (number.parse().ok()?, "/"),
    };
    let name = if uid == 0 { "root".to_owned() } else { name.to_owned() };
    Some(User { name, uid, gid: uid, home: home.to_owned(), shell: "/bin/sh".to_owned(), groups: Vec::new() })
}

fn parse_passwd(text: &str, wanted: &str) -> Option<User> {
    let by_name = text.lines().filter_map(passwd_line).find(|user| user.name == wanted);
    by_name.or_else(|| {
        let uid: u32 = wanted.parse().ok()?;
        text.lines().filter_map(passwd_line).find(|user| user.uid == uid)
    })
}

fn passwd_line(line: &str) -> Option<User> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _password, uid, gid, _comment, home, shell] = fields[..] else { return None };
    Some(User {
        name: name.to_owned(),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        home: if home.is_empty() { "/" } else { home }.to_owned(),
        shell: if shell.is_empty() { "/bin/sh" } else { shell }.to_owned(),
        groups: Vec::new(),
    })
}

fn groups_of(text: &str, user: &User) -> Vec<u32> {
    let mut groups = vec![user.gid];
    for line in text.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if let [_, _, gid, members] = fields[..]
            && let Ok(gid) = gid.parse()
            && members.split(',').any(|member| member == user.name)
            && !groups.contains(&gid)
        {
            groups.push(gid);
        }
    }
    groups
}

/// Makes the calling thread open files as this user. Root's powers return with [`open_files_as_root`].
pub(crate) fn open_files_as(user: &User) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        set_file_ids(user.uid, user.gid, &user.groups)?;
    }
    Ok(())
}

/// Undoes [`open_files_as`].
pub(crate) fn open_files_as_root() -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        set_file_ids(0, 0, &[])?;
    }
    Ok(())
}

/// The system calls themselves: the C library's versions would change every thread of the process.
fn set_file_ids(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // setgroups(2) needs root's powers, which setfsuid(2) takes and returns.
    let become_root = uid == 0;
    // SAFETY: takes a number; returns the old one and cannot fail otherwise.
    let set_uid = |uid: u32| unsafe { libc::syscall(libc::SYS_setfsuid, uid) };
    if become_root {
        set_uid(uid);
    }
    // SAFETY: the kernel reads `groups.len()` numbers from the slice.
    if unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as for setfsuid.
    unsafe { libc::syscall(libc::SYS_setfsgid, gid) };
    set_uid(uid);
    // Both return the previous value whether or not they worked, so a second call is the only check.
    if set_uid(u32::MAX) == i64::from(uid) { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbroken line\n7:x:1007:1007::/home/seven:\n\
                          runner:x:1001:127:,,,:/home/runner:/bin/bash\n";

    #[test]
    fn names_win_over_numbers() {
        assert_eq!(parse_passwd(PASSWD, "7").unwrap().uid, 1007);
        assert_eq!(parse_passwd(PASSWD, "1001").unwrap().name, "runner");
        assert_eq!(parse_passwd(PASSWD, "7").unwrap().shell, "/bin/sh");
        assert_eq!(parse_passwd(PASSWD, "broken line"), None);
    }

    #[test]
    fn users_are_forgotten_with_the_files_they_were_found_in() {
        let stamp =
            |inode| [Some(Stamp { file: (1, inode), size: 1, modified: (0, 0), changed: (0, 0) }), None];
        let mut known = Known::default();
        let user = nameless("7").unwrap();
        assert_eq!(known.find(&stamp(1), "7"), None);
        known.users.insert("7".to_owned(), user.clone());
        assert_eq!(known.find(&stamp(1), "7"), Some(user));
        assert_eq!(known.find(&stamp(2), "7"), None);
        assert_eq!(known.find(&stamp(1), "7"), None);
    }

    #[test]
    fn groups_hold_the_primary_one_once() {
        let user = parse_passwd(PASSWD, "runner").unwrap();
        let group = "adm:x:4:syslog,runner\nrunner:x:127:runner\ndocker:x:999:notrunner\n";
        assert_eq!(groups_of(group, &user), [127, 4]);
    }

    #[test]
    fn a_number_needs_no_line_and_a_name_does() {
        assert_eq!(nameless("4000000000").unwrap().uid, 4_000_000_000);
        assert_eq!(nameless("nobody-here"), None);
        assert_eq!(nameless("-1"), None);
    }
}
