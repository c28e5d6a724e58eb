//! `tci vm cp`: files into and out of a VM.

use std::path::{Path, PathBuf};

use clap::Args;
use terraphim_vm::{
    ExecEvent, Host, VmClient,
    protocol::message::{ExecRequest, ExitStatus},
};
use tokio_util::io::SyncIoBridge;

use super::client;
use crate::{
    exit::Exit,
    failure::{Context as _, Failure},
    workspace::{Entry, Tree, tar_stream},
};

#[derive(Debug, Args)]
#[command(
    after_help = "The destination is always a directory; it is made when it does not exist, and what is copied keeps its \
                  name in it.\n\nExample:\n  tci vm cp ./site web:/srv\n  tci vm cp web:/var/log/syslog ."
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
}

pub(super) async fn cp(host: &Host, args: &CpArgs) -> Result<Exit, Failure> {
    match (in_guest(&args.from), in_guest(&args.to)) {
        (None, Some((vm, path))) => upload(&client(host, vm)?, Path::new(&args.from), path, args).await?,
        (Some((vm, path)), None) => download(&client(host, vm)?, path, Path::new(&args.to)).await?,
        _ => return Err(Failure::usage("one of the two must be VM:PATH, and the other one a path here")),
    }
    Ok(Exit::Success)
}

/// `VM:/path`. A path here that looks so is given as `./VM:/path`.
fn in_guest(text: &str) -> Option<(&str, &str)> {
    let (vm, path) = text.split_once(':')?;
    (!vm.is_empty() && !vm.contains('/') && path.starts_with('/')).then_some((vm, path))
}

async fn upload(client: &VmClient, from: &Path, directory: &str, args: &CpArgs) -> Result<(), Failure> {
    let absolute = from.canonicalize().map_err(|error| Failure::io("find", from, error))?;
    let name = absolute.file_name().map(PathBuf::from);
    let mut entries = Vec::new();
    if absolute.is_dir() {
        // Everything there is: this is a copy, no working tree.
        let tree = Tree { root: absolute.clone(), git: None, without: PathBuf::from("/nowhere") };
        entries = tree.everything().map_err(|error| Failure::caused(Exit::Infrastructure, error))?;
    }
    if let Some(name) = name {
        for entry in &mut entries {
            entry.to = name.join(&entry.to);
        }
        entries.insert(0, Entry { from: absolute, to: name });
    }
    client.upload(directory, args.owner.as_deref(), tar_stream(entries)).await?;
    Ok(())
}

async fn download(client: &VmClient, path: &str, to: &Path) -> Result<(), Failure> {
    // A directory comes as its content; it keeps its name here.
    let to = match Path::new(path).file_name() {
        Some(name) if is_directory(client, path).await? => to.join(name),
        _ => to.to_owned(),
    };
    std::fs::create_dir_all(&to).map_err(|error| Failure::io("create directory", &to, error))?;
    let stream = client.download(path).await?;
    let reader = SyncIoBridge::new(Box::pin(stream));
    let unpacked = tokio::task::spawn_blocking(move || {
        let mut archive = tar::Archive::new(reader);
        archive.set_preserve_permissions(true);
        archive.unpack(&to)
    });
    unpacked.await.context("cannot unpack")?.context("cannot unpack what the VM sent")
}

async fn is_directory(client: &VmClient, path: &str) -> Result<bool, Failure> {
    let argv = ["test", "-d", path].map(str::to_owned).to_vec();
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
    use super::*;

    #[test]
    fn a_path_in_a_guest_names_its_vm() {
        assert_eq!(in_guest("web:/srv"), Some(("web", "/srv")));
        for here in ["./web:/srv", "web", "/a:/b", ":/a", "web:relative"] {
            assert_eq!(in_guest(here), None, "{here}");
        }
    }
}
