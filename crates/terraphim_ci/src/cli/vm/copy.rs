//! `tci vm cp`: files into and out of a VM.

use std::{
    io,
    path::{Path, PathBuf},
};

use clap::Args;
use tar::EntryType;
use terraphim_vm::{
    ExecEvent, Host, VmClient, VmError,
    protocol::message::{ExecRequest, ExitStatus},
};
use tokio_util::io::SyncIoBridge;

use super::client;
use crate::{
    exit::Exit,
    failure::{Context as _, Failure},
    output,
    workspace::{Entry, Everything, Tree, tar_stream},
};

#[derive(Debug, Args)]
#[command(
    after_help = "The destination is always a directory; it is made when it does not exist, and what is copied keeps its \
                  name in it. Of devices, pipes and sockets there is nothing to copy: one is refused, and in a \
                  directory they are left out.\n\nEnds with 0 when everything is copied, 2 on wrong usage and when there is \
                  nothing to copy, 3 when something was left out, or when it failed.\n\nExample:\n  tci vm cp ./site web:/srv\n  tci vm cp web:/var/log/syslog ."
)]
pub(super) struct CpArgs {
    /// A file or directory here, or VM:PATH.
    #[arg(value_name = "SOURCE")]
    from: String,
    /// A directory here, or VM:PATH.
    #[arg(value_name = "DIRECTORY")]
    to: String,
    /// Who owns the copies in the guest [default: root].
    #[arg(long, value_name = "USER")]
    owner: Option<String>,
    /// Print what was copied as a JSON object: `from`, `to`, and the names that were `left_out`.
    #[arg(long)]
    json: bool,
}

/// Said of a device, a pipe or a socket, on either side.
const NOTHING_TO_COPY: &str = "is neither a directory nor a regular file: there is nothing to copy";

pub(super) async fn cp(host: &Host, args: &CpArgs) -> Result<Exit, Failure> {
    let left_out = match (in_guest(&args.from), in_guest(&args.to)) {
        (None, Some((vm, path))) => upload(&client(host, vm)?, Path::new(&args.from), path, args).await?,
        (Some((vm, path)), None) => download(&client(host, vm)?, path, Path::new(&args.to)).await?,
        _ => return Err(Failure::usage("one of the two must be VM:PATH, and the other one a path here")),
    };
    let left_out: Vec<String> = left_out.iter().map(|path| path.display().to_string()).collect();
    if args.json {
        output::json(&serde_json::json!({"from": args.from, "to": args.to, "left_out": left_out}))?;
    }
    if left_out.is_empty() {
        return Ok(Exit::Success);
    }
    Err(Failure::fault(format!(
        "everything was copied but what is no regular file, or would lie elsewhere: {}",
        left_out.join(", ")
    )))
}

/// `VM:/path`. A path here that looks so is given as `./VM:/path`.
fn in_guest(text: &str) -> Option<(&str, &str)> {
    let (vm, path) = text.split_once(':')?;
    (!vm.is_empty() && !vm.contains('/') && path.starts_with('/')).then_some((vm, path))
}

/// Returns what was left out.
async fn upload(
    client: &VmClient,
    from: &Path,
    directory: &str,
    args: &CpArgs,
) -> Result<Vec<PathBuf>, Failure> {
    let not_found = |error| Failure::io("find", from, error).ending(Exit::Usage);
    let absolute = from.canonicalize().map_err(not_found)?;
    let kind = absolute.metadata().map_err(not_found)?.file_type();
    if !kind.is_dir() && !kind.is_file() {
        return Err(Failure::usage(format!("{} {NOTHING_TO_COPY}", from.display())));
    }
    let name = absolute.file_name().map(PathBuf::from);
    let Everything { mut entries, left_out } = if kind.is_dir() {
        // Everything there is: this is a copy, no working tree.
        let tree = Tree { root: absolute.clone(), git: None, without: PathBuf::from("/nowhere") };
        tree.everything().map_err(|error| Failure::caused(Exit::Infrastructure, error))?
    } else {
        Everything::default()
    };
    if let Some(name) = name {
        for entry in &mut entries {
            entry.to = name.join(&entry.to);
        }
        entries.insert(0, Entry { from: absolute, to: name });
    }
    let Err(error) = client.upload(directory, args.owner.as_deref(), tar_stream(entries)).await else {
        return Ok(left_out);
    };
    let failure = refusal(error);
    if failure.exit != Exit::Usage && is_no_directory(client, directory).await {
        return Err(failure.ending(Exit::Usage).hint(format!("{directory} is no directory in the VM")));
    }
    Err(failure)
}

/// What the guest refuses because of the command line is the user's mistake, not a fault.
fn refusal(error: VmError) -> Failure {
    let is_usage = matches!(error, VmError::Refused { status: 400 | 404, .. });
    let failure = Failure::from(error);
    if is_usage { failure.ending(Exit::Usage) } else { failure }
}

/// Returns what was left out.
async fn download(client: &VmClient, path: &str, to: &Path) -> Result<Vec<PathBuf>, Failure> {
    // A directory comes as its content; it keeps its name here.
    let is_directory = test_in_guest(client, "-d", path).await?;
    if !is_directory && !test_in_guest(client, "-f", path).await? {
        let what = match test_in_guest(client, "-e", path).await? {
            true => NOTHING_TO_COPY,
            false => "is not there in the VM",
        };
        return Err(Failure::usage(format!("{path} {what}")));
    }
    let to = match Path::new(path).file_name() {
        Some(name) if is_directory => to.join(name),
        _ => to.to_owned(),
    };
    std::fs::create_dir_all(&to).map_err(|error| {
        let exit = if is_in_the_way(&error) { Exit::Usage } else { Exit::Infrastructure };
        Failure::io("create directory", &to, error).ending(exit)
    })?;
    let stream = client.download(path).await.map_err(refusal)?;
    let reader = SyncIoBridge::new(Box::pin(stream));
    let unpacked = tokio::task::spawn_blocking(move || unpack(reader, &to));
    unpacked.await.context("cannot unpack")?.context("cannot unpack what the VM sent")
}

/// Whether a file is where a directory was to be made.
fn is_in_the_way(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory)
}

/// Unpacks an archive, and says what of it was left out: the crate `tar` makes empty files of devices and pipes.
fn unpack(archive: impl io::Read, to: &Path) -> io::Result<Vec<PathBuf>> {
    let mut archive = tar::Archive::new(archive);
    archive.set_preserve_permissions(true);
    let to = to.canonicalize()?;
    let (mut directories, mut left_out) = (Vec::new(), Vec::new());
    for entry in archive.entries()? {
        let mut entry = entry?;
        match entry.header().entry_type() {
            // Last, as their modes may forbid to write into them.
            EntryType::Directory => directories.push(entry),
            EntryType::Char | EntryType::Block | EntryType::Fifo => left_out.push(entry.path()?.into_owned()),
            // One that would lead out of the directory is not written.
            _ => {
                let name = entry.path()?.into_owned();
                if !entry.unpack_in(&to)? {
                    left_out.push(name);
                }
            }
        }
    }
    // The innermost first: unpacking one makes those around it, and may need to write into them.
    directories.sort_by(|a, b| b.path_bytes().cmp(&a.path_bytes()));
    for mut directory in directories {
        directory.unpack_in(&to)?;
    }
    // An archive that breaks off may look whole up to here; its sender says so behind it.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(left_out)
}

/// Whether something is there in the guest that is no directory. When that cannot be found out, the failure before it counts.
async fn is_no_directory(client: &VmClient, path: &str) -> bool {
    matches!(test_in_guest(client, "-e", path).await, Ok(true))
        && matches!(test_in_guest(client, "-d", path).await, Ok(false))
}

/// test(1) in the guest.
async fn test_in_guest(client: &VmClient, flag: &str, path: &str) -> Result<bool, Failure> {
    let argv = ["test", flag, path].map(str::to_owned).to_vec();
    let mut exec = client.exec(&ExecRequest { argv, inherit_env: true, ..ExecRequest::default() }).await?;
    while let Some(event) = exec.next().await? {
        match event {
            ExecEvent::Exited(exited) => return Ok(exited.status == ExitStatus::Code(0)),
            ExecEvent::Failed(failed) => return Err(Failure::fault(failed.message)),
            ExecEvent::Lost(why) => return Err(Failure::fault(why)),
            _ => {}
        }
    }
    Err(Failure::fault("the VM gave no answer"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_no_file_is_left_out_and_named() {
        let directory = tempfile::tempdir().unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        let kinds = [
            ("closed", EntryType::Directory),
            ("closed/zero", EntryType::Char),
            ("closed/file", EntryType::Regular),
            ("pipe", EntryType::Fifo),
        ];
        for (name, kind) in kinds {
            let content: &[u8] = if kind == EntryType::Regular { b"text" } else { b"" };
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(content.len() as u64);
            header.set_mode(if kind == EntryType::Directory { 0o500 } else { 0o600 });
            tar.append_data(&mut header, name, content).unwrap();
        }
        let left_out = unpack(tar.into_inner().unwrap().as_slice(), directory.path()).unwrap();
        assert_eq!(left_out, [Path::new("closed/zero"), Path::new("pipe")]);
        let closed = directory.path().join("closed");
        assert_eq!(std::fs::read(closed.join("file")).unwrap(), b"text");
        assert_eq!(std::fs::read_dir(&closed).unwrap().count(), 1);
        let mode = std::fs::metadata(&closed).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode, directory.path().join("pipe").exists()), (0o500, false));
        // So that it can be removed.
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn a_path_in_a_guest_names_its_vm() {
        assert_eq!(in_guest("web:/srv"), Some(("web", "/srv")));
        for here in ["./web:/srv", "web", "/a:/b", ":/a", "web:relative"] {
            assert_eq!(in_guest(here), None, "{here}");
        }
    }
}
