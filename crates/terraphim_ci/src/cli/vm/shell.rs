//! `tci vm shell`: a login shell in a VM.

use std::io;

use clap::Args;
use terraphim_vm::{Host, protocol::message::ExecRequest};

use super::{
    client,
    exec::{Show, WORKSPACES, attach, pass_term, view_of},
    terminal,
};
use crate::{exit::Exit, failure::Failure};

#[derive(Debug, Args)]
#[command(after_help = "\
Ends as `tci vm exec` does: with the exit code of the shell, 2 when the VM does not run, 3 when it is unknown how the shell ended.

Example:
  tci vm shell web
  tci vm shell --user runner --job test web
  tci vm shell --json web < script.sh")]
pub(super) struct ShellArgs {
    /// A VM's name, id, or the start of its id.
    vm: String,
    /// As this user of the guest [default: root].
    #[arg(long, short)]
    user: Option<String>,
    /// Where a job of a run that kept its VM (`tci run --keep`) had its files, named by its id; of a matrix JOB.1, JOB.2, ...
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    /// Without a terminal, and print JSON lines, as `tci vm exec --json` does.
    #[arg(long)]
    json: bool,
}

/// Takes bash where there is one.
const SHELL: &str = "command -v bash >/dev/null 2>&1 && exec bash -l; exec sh -l";

pub(super) async fn shell(host: &Host, args: &ShellArgs) -> Result<Exit, Failure> {
    let has_terminal = !args.json && rustix::termios::isatty(io::stdin());
    let mut env = Vec::new();
    pass_term(&mut env);
    let request = ExecRequest {
        argv: ["sh", "-c", SHELL].map(str::to_owned).to_vec(),
        env,
        inherit_env: true,
        cwd: args.job.as_ref().map(|_| WORKSPACES.to_owned()),
        view: args.job.as_deref().map(view_of),
        user: args.user.clone(),
        terminal: has_terminal.then(terminal::size),
        stdin: true,
        ..ExecRequest::default()
    };
    attach(host, &client(host, &args.vm)?, &request, Show::asked(args.json)).await
}
