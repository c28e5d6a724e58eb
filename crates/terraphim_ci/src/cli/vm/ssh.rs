//! `tci vm ssh`: SSH without a network. The client's transport is a command in the guest, which runs `sshd` on its
//! standard input and output; the keys of both sides were made with the VM.

use std::{
    collections::BTreeMap,
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;
use terraphim_vm::{
    Exec, ExecEvent, Host, SshKeys, VmRecord,
    protocol::message::{ExecRequest, ExitStatus, FileWrite},
};

use super::{client, exec};
use crate::{cli::small_runtime, exit::Exit, failure::Failure, output};

#[derive(Debug, Args)]
#[command(after_help = "\
Nothing has to be set up: every VM has keys of its own for both sides, which go with it. The guest needs no network; its \
image must have `sshd` (the image `debian` has; another one needs the package openssh-server). With --config, other programs \
(scp, rsync, sftp, editors) can use the same way.

Ends with the exit code of the command in the VM, with 255 when ssh itself fails, 2 when the VM does not run or has no sshd.

Example:
  tci vm ssh web
  tci vm ssh web -- uname -a
  tci vm ssh web --config >> ~/.ssh/config && scp file tci-web:/srv")]
pub(super) struct SshArgs {
    /// A VM's name, id, or the start of its id.
    vm: String,
    /// As this user of the guest.
    #[arg(long, short, default_value = "root")]
    user: String,
    /// An option for ssh, as in ssh_config(5); may be repeated.
    #[arg(long = "option", short = 'o', value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// Print a block for ~/.ssh/config instead.
    #[arg(long)]
    config: bool,
    /// Likewise as JSON: the VM's `alias`, the `user`, and the `options` by their names in ssh_config(5).
    #[arg(long, conflicts_with_all = ["config", "command"])]
    json: bool,
    /// Be the transport (ProxyCommand).
    #[arg(long = "transport", hide = true)]
    pub(super) is_transport: bool,
    /// The command; a login shell without one.
    #[arg(last = true)]
    command: Vec<String>,
}

/// Where the guest keeps its side of the keys; in memory, so that they are on no disk and in no snapshot's files.
const GUEST_DIRECTORY: &str = "/run/tci-ssh";
const SSHD: &str = "/usr/sbin/sshd";
const NO_SSHD: i32 = 42;

/// The program itself becomes `ssh`.
pub(super) fn ssh(host: &Host, args: &SshArgs) -> Result<Exit, Failure> {
    let record = host.find(&args.vm)?;
    let keys = SshKeys::of(host.paths(), &record.id);
    keys.ensure()?;
    let options = options(host, &record, &keys)?;
    if args.config {
        return print_config(&record, &keys, &options, &args.user);
    }
    if args.json {
        let options: BTreeMap<_, _> = options.into_iter().collect();
        output::json(&serde_json::json!({"alias": keys.alias(), "user": args.user, "options": options}))?;
        return Ok(Exit::Success);
    }
    small_runtime()?.block_on(check(host, &args.vm))?;
    let mut ssh = Command::new("ssh");
    // Options of ours first: the first value of each counts, and no file of the user's has a say.
    ssh.args(["-F", "none"]);
    for (key, value) in &options {
        ssh.arg("-o").arg(format!("{key}={value}"));
    }
    for option in &args.options {
        ssh.arg("-o").arg(option);
    }
    ssh.arg("-l").arg(&args.user).arg("--").arg(keys.alias()).args(&args.command);
    let error = ssh.exec();
    if error.kind() == io::ErrorKind::NotFound {
        let failure = Failure::fault("this host has no `ssh`");
        return Err(failure.hint("install it: sudo apt-get install openssh-client; or use `tci vm shell`"));
    }
    Err(Failure::io("run", Path::new("ssh"), error))
}

/// What ssh is told about this VM, as in ssh_config(5).
fn options(host: &Host, record: &VmRecord, keys: &SshKeys) -> Result<Vec<(&'static str, String)>, Failure> {
    let program =
        std::env::current_exe().map_err(|error| Failure::io("find", Path::new("/proc/self/exe"), error))?;
    let (program, data) = (program.display().to_string(), host.paths().data().display().to_string());
    let transport =
        format!("{} --data-dir {} vm ssh --transport {}", quoted(&program), quoted(&data), record.id);
    let path = |path: PathBuf| format!("\"{}\"", path.display().to_string().replace('%', "%%"));
    Ok(vec![
        // A `%` means something to ssh.
        ("ProxyCommand", transport.replace('%', "%%")),
        ("HostKeyAlias", keys.alias().to_owned()),
        ("UserKnownHostsFile", path(keys.known_hosts())),
        ("GlobalKnownHostsFile", "none".to_owned()),
        ("StrictHostKeyChecking", "yes".to_owned()),
        ("UpdateHostKeys", "no".to_owned()),
        ("IdentityFile", path(keys.identity())),
        ("IdentitiesOnly", "yes".to_owned()),
        ("IdentityAgent", "none".to_owned()),
        ("PreferredAuthentications", "publickey".to_owned()),
        // Nobody is between the two ends, and under emulation the exchanges that resist quantum computers take seconds.
        ("KexAlgorithms", "curve25519-sha256".to_owned()),
    ])
}

/// For the shell that runs the ProxyCommand.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn print_config(
    record: &VmRecord,
    keys: &SshKeys,
    options: &[(&'static str, String)],
    user: &str,
) -> Result<Exit, Failure> {
    let mut text = format!("Host tci-{} {}\n  User {user}\n", record.name, keys.alias());
    for (key, value) in options {
        text += &format!("  {key} {value}\n");
    }
    output::data(&text)?;
    Ok(Exit::Success)
}

/// Tells before ssh does, and better, that this cannot work.
async fn check(host: &Host, name: &str) -> Result<(), Failure> {
    let client = client(host, name)?;
    let argv = ["/bin/sh", "-c", &format!("test -x {SSHD} || exit {NO_SSHD}")].map(str::to_owned).to_vec();
    let exec = client.exec(&ExecRequest { argv, inherit_env: true, ..ExecRequest::default() }).await?;
    match ended(exec).await? {
        ExitStatus::Code(0) => Ok(()),
        ExitStatus::Code(NO_SSHD) => {
            let failure = Failure::usage(format!("the image of VM {name} has no {SSHD}"));
            Err(failure.hint(
                "use an image with the package openssh-server (`tci image build debian`), or `tci vm shell`",
            ))
        }
        status => Err(Failure::fault(format!("the guest cannot run a shell: {status:?}"))),
    }
}

async fn ended(mut exec: Exec) -> Result<ExitStatus, Failure> {
    while let Some(event) = exec.next().await? {
        match event {
            ExecEvent::Exited(exited) => return Ok(exited.status),
            ExecEvent::Failed(failed) => return Err(Failure::fault(failed.message)),
            ExecEvent::Lost(why) => return Err(Failure::fault(why)),
            _ => {}
        }
    }
    Err(Failure::fault("the VM gave no answer"))
}

/// Between the client's standard streams and an `sshd` in the guest.
pub(super) async fn transport(host: &Host, args: &SshArgs) -> Result<Exit, Failure> {
    let record = host.find(&args.vm)?;
    let keys = SshKeys::of(host.paths(), &record.id);
    keys.ensure()?;
    let file = |name: &str, content: String, mode| FileWrite {
        path: format!("{GUEST_DIRECTORY}/{name}"),
        content,
        mode,
    };
    let script = format!(
        "if [ ! -x {SSHD} ]; then echo 'tci: this image has no {SSHD}: install openssh-server' >&2; exit {NO_SSHD}; fi\n\
         mkdir -p /run/sshd && chmod 755 /run/sshd {GUEST_DIRECTORY} && exec {SSHD} -i -e -f {GUEST_DIRECTORY}/config"
    );
    let request = ExecRequest {
        argv: ["/bin/sh", "-c", &script].map(str::to_owned).to_vec(),
        inherit_env: true,
        stdin: true,
        write_files: vec![
            file("host_key", keys.host_key()?, 0o600),
            file("authorized_keys", keys.authorized_key()?, 0o644),
            file("config", server_config(), 0o644),
        ],
        ..ExecRequest::default()
    };
    let client = client(host, &args.vm)?;
    let streams = exec::Streams {
        stdin: true,
        terminal: false,
        is_transport: true,
        show: exec::Show::Bytes,
        seen: None,
    };
    exec::drive(client.exec(&request).await?, streams).await
}

/// Only the key that was made for this VM lets in, whatever the image's own configuration says.
fn server_config() -> String {
    format!(
        "HostKey {GUEST_DIRECTORY}/host_key\n\
         AuthorizedKeysFile {GUEST_DIRECTORY}/authorized_keys\n\
         AuthenticationMethods publickey\n\
         PasswordAuthentication no\n\
         KbdInteractiveAuthentication no\n\
         PermitRootLogin prohibit-password\n\
         UsePAM yes\n\
         PrintMotd no\n\
         AcceptEnv LANG LC_* TERM COLORTERM\n\
         Subsystem sftp internal-sftp\n\
         PidFile none\n\
         LogLevel ERROR\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_the_proxy_command_stays_one_word() {
        assert_eq!(quoted("/a b/it's"), r"'/a b/it'\''s'");
    }
}
