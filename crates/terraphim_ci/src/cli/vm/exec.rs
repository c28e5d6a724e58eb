//! `tci vm exec`: a command in a VM as if it ran here.

use std::io::{self, Write as _};

use bytes::{Bytes, BytesMut};
use clap::Args;
use rustix::process::Signal;
use terraphim_vm::{
    Exec, ExecEvent, Host, VmClient,
    protocol::message::{ExecFailed, ExecFailure, ExecRequest},
};
use tokio::{signal::unix, sync::mpsc};

use super::{
    client, kill,
    past::{self, Seen},
    terminal,
};
use crate::{
    exec_line,
    exit::Exit,
    failure::{Context as _, Failure},
    output::stdout_failure,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Ends with the exit code of the command, with 128 and its number when a signal ended it, 126 or 127 when it cannot be started, \
3 when it is unknown how it ended. Signals that tci gets go on to the command; those of its own clocks and limits (SIGALRM, \
SIGXCPU) end tci alone. When nobody reads its output any more \
(`| head`), the command gets SIGPIPE and tci ends with 141, as a shell says it.

A command outlives its client: `--list` shows what was run (also by tci itself: `cp` looks at what is there with test(1), \
`ssh` for sshd), `--attach` takes it up again, with the output that was not shown \
yet, and prints that of commands that have ended, also of VMs that have.

Example:
  tci vm exec web -- uname -a
  tar c . | tci vm exec -i web -- tar x -C /srv
  tci vm exec -it web -- top
  tci vm exec --detach web -- make
  tci vm exec --attach 019ab3 web
  tci vm exec --attach 019ab3 --signal TERM web
  tci vm exec --json web -- make | jq -rj '.stdout // empty'")]
pub(super) struct ExecArgs {
    /// A VM's name, id, or the start of its id.
    vm: String,
    /// The command and its arguments.
    #[arg(required_unless_present_any = ["attach", "list"], trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// Pass standard input on.
    #[arg(long, short)]
    interactive: bool,
    /// Give it a terminal.
    #[arg(long, short)]
    tty: bool,
    /// As this user of the guest [default: root].
    #[arg(long, short)]
    user: Option<String>,
    /// In this directory.
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<String>,
    /// Where a job of a run that kept its VM (`tci run --keep`) had its files, named by its id; of a matrix JOB.1, JOB.2, ...
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    /// Set a variable: NAME=VALUE, or NAME to pass on our own.
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Start it, print its id and leave.
    #[arg(long, short, conflicts_with_all = ["interactive", "tty"])]
    detach: bool,
    /// Take up an execution, named by the start of its id.
    #[arg(long, value_name = "EXECUTION", conflicts_with_all = ["command", "user", "workdir", "job", "env", "detach", "list"])]
    attach: Option<String>,
    /// With --attach: from this offset of its output, 0 for all [default: behind what was shown].
    // That a command is in the way has to be said too: clap asks for nothing that conflicts with what is there.
    #[arg(long, value_name = "OFFSET", requires = "attach", conflicts_with_all = ["command", "list"])]
    from: Option<u64>,
    /// With --attach: send its processes this signal, by name or number, instead of showing its output.
    #[arg(long, value_name = "SIGNAL", requires = "attach", conflicts_with_all = ["command", "list", "from", "interactive", "tty"])]
    signal: Option<String>,
    /// List what was run in the VM.
    #[arg(long, conflicts_with_all = ["command", "interactive", "tty", "user", "workdir", "job", "env", "detach"])]
    list: bool,
    /// Print JSON: each piece of output and the end as an object on a line of its own, in front of them one with the id.
    #[arg(long, conflicts_with = "tty")]
    json: bool,
}

/// Sent to the guest at once.
const SEND: usize = 512 * 1024;

/// What a job of a run sees is in the view that the engine has made for it, with its workspace below this directory.
pub(super) const WORKSPACES: &str = "/workspace";

/// The view of a job.
pub(super) fn view_of(job: &str) -> String {
    format!("job-{job}")
}

pub(super) async fn exec(host: &Host, args: &ExecArgs) -> Result<Exit, Failure> {
    if args.list {
        return past::list(host, &args.vm, args.json);
    }
    if let Some(wanted) = &args.attach {
        return take_up(host, args, wanted).await;
    }
    let mut env = args.env.iter().filter_map(|text| variable(text)).collect::<Vec<_>>();
    if args.tty {
        pass_term(&mut env);
    }
    let request = ExecRequest {
        argv: args.command.clone(),
        env,
        inherit_env: true,
        cwd: args.workdir.clone().or_else(|| args.job.as_ref().map(|_| WORKSPACES.to_owned())),
        view: args.job.as_deref().map(view_of),
        user: args.user.clone(),
        terminal: args.tty.then(terminal::size),
        stdin: args.interactive,
        ..ExecRequest::default()
    };
    let client = client(host, &args.vm)?;
    if args.detach {
        return detached(client.exec(&request).await?, args.json).await;
    }
    attach(host, &client, &request, Show::asked(args.json)).await
}

/// Prints the id as soon as it is known whether the command could be started.
async fn detached(mut exec: Exec, as_json: bool) -> Result<Exit, Failure> {
    match exec.next().await? {
        Some(ExecEvent::Failed(failed)) => Err(cannot_start(&failed)),
        Some(ExecEvent::Lost(why)) => Err(Failure::fault(why)),
        _ if as_json => print_line(&of_id(&exec)).map(|()| Exit::Success),
        _ => crate::output::data(&format!("{}\n", exec.id())).map(|()| Exit::Success),
    }
}

async fn take_up(host: &Host, args: &ExecArgs, wanted: &str) -> Result<Exit, Failure> {
    let id = host.find(&args.vm)?.id;
    let exec = host.find_execution(&id, wanted)?;
    if let Some(name) = &args.signal {
        return kill::send(host, &args.vm, &exec, name).await;
    }
    let seen = Seen::of(host, &id, &exec);
    let offset = args.from.unwrap_or_else(|| seen.offset());
    let exec = host.follow(&id, &exec, offset).await?;
    if args.tty && args.interactive {
        // It was made for another window. One that has ended or has no terminal takes no size.
        let _ = exec.resize(terminal::size()).await;
    }
    let (stdin, terminal, show) = (args.interactive, args.tty, Show::asked(args.json));
    drive(exec, Streams { stdin, terminal, is_transport: false, show, seen: Some(seen) }).await
}

/// `NAME=VALUE`, or `NAME` with our own value; nothing when we have none.
fn variable(text: &str) -> Option<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => std::env::var(text).ok().map(|value| (text.to_owned(), value)),
    }
}

pub(super) fn pass_term(env: &mut Vec<(String, String)>) {
    if !env.iter().any(|(name, _)| name == "TERM") {
        env.extend(variable("TERM"));
    }
}

/// Runs the request with our standard streams, terminal and signals.
pub(super) async fn attach(
    host: &Host,
    client: &VmClient,
    request: &ExecRequest,
    show: Show,
) -> Result<Exit, Failure> {
    let exec = client.exec(request).await?;
    let seen = Some(Seen::of(host, client.id(), exec.id()));
    let (stdin, terminal) = (request.stdin, request.terminal.is_some());
    drive(exec, Streams { stdin, terminal, is_transport: false, show, seen }).await
}

/// What of ours an execution gets.
pub(super) struct Streams {
    /// Our standard input.
    pub(super) stdin: bool,
    /// Our terminal, if we have one.
    pub(super) terminal: bool,
    /// We are a program's way to the other side: a signal means that it has gone away, which is the end of our input and
    /// nothing that the other side should be told.
    pub(super) is_transport: bool,
    /// How what it tells is shown.
    pub(super) show: Show,
    /// Where to remember what was shown.
    pub(super) seen: Option<Seen>,
}

/// How what an execution tells is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    /// Its bytes go to our outputs.
    Bytes,
    /// As JSON lines on our standard output.
    Lines,
}

impl Show {
    pub(super) fn asked(as_json: bool) -> Show {
        if as_json { Show::Lines } else { Show::Bytes }
    }
}

/// Connects an execution with our standard streams, terminal and signals until it ends.
pub(super) async fn drive(mut exec: Exec, mut streams: Streams) -> Result<Exit, Failure> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let raw = if streams.terminal && streams.stdin {
        terminal::RawMode::enter().context("cannot set the terminal to raw mode")?
    } else {
        None
    };
    let mut input =
        if streams.stdin { Some(terminal::input().context("cannot read standard input")?) } else { None };
    let mut about_terminal = match &raw {
        Some(_) => Some(Signals::of(&ABOUT_TERMINAL).context("cannot watch the terminal")?),
        None => None,
    };
    let mut told_to_end = false;
    if streams.show == Show::Lines {
        print_line(&of_id(&exec))?;
    }
    loop {
        tokio::select! {
            event = exec.next() => match event? {
                Some(event) => {
                    let shown = match streams.show {
                        Show::Bytes => Ok(()),
                        Show::Lines => exec_line::of(&event, exec.offset()).map_or(Ok(()), |line| print_line(&line)),
                    };
                    let shown = shown.and_then(|()| show(event, streams.show));
                    // The last event stays to be shown: whoever attaches again learns how the command ended.
                    if let (Ok(None), Some(seen)) = (&shown, &mut streams.seen) {
                        seen.record(exec.offset());
                    }
                    match shown {
                        Ok(Some(exit)) => return Ok(exit),
                        Ok(None) => {}
                        Err(failure) => {
                            // As it would learn here: nobody reads its output any more. It may have ended by now.
                            let _ = exec.signal(Signal::PIPE.as_raw()).await;
                            return Err(failure);
                        }
                    }
                }
                None => {
                    let text = format!("the output ends before offset {}", exec.offset());
                    return Err(Failure::usage(text).hint("`--from 0` shows all of it"));
                }
            },
            piece = next_input(&mut input) => send_input(&exec, piece, &mut input).await?,
            number = signals.next() => {
                // They are about us. Whoever attaches to the command again finds it as it was.
                if ABOUT_US.iter().any(|signal| signal.as_raw() == number) {
                    return Err(Failure::silent(signalled(number)));
                }
                if streams.is_transport {
                    // It may have ended by itself.
                    let _ = exec.close_stdin().await;
                    return Err(Failure::silent(signalled(number)));
                }
                // Told twice, we leave a command that does not want to end; it can be attached to again.
                if is_farewell(number) && std::mem::replace(&mut told_to_end, true) {
                    return Err(Failure::silent(signalled(number)));
                }
                pass_signal(&exec, number).await?;
            }
            number = next_about_terminal(&mut about_terminal) => {
                if let Some(raw) = &raw {
                    follow_terminal(raw, &exec, number).await?;
                }
            }
        }
    }
}

/// As a shell tells of a program that a signal has ended.
fn signalled(number: i32) -> Exit {
    Exit::Guest(u8::try_from(128 + number).unwrap_or(u8::MAX))
}

/// Signals after which a program is expected to be gone.
fn is_farewell(number: i32) -> bool {
    [Signal::TERM, Signal::HUP].iter().any(|signal| signal.as_raw() == number)
}

/// A command that has ended a moment ago takes no signal; its end is on its way.
async fn pass_signal(exec: &Exec, number: i32) -> Result<(), Failure> {
    match exec.signal(number).await {
        Err(terraphim_vm::VmError::Refused { .. } | terraphim_vm::VmError::Unreachable { .. }) => Ok(()),
        other => Ok(other?),
    }
}

/// The line in front of all others, with what `--attach` asks for.
fn of_id(exec: &Exec) -> serde_json::Value {
    serde_json::json!({"execution": exec.id(), "offset": exec.offset()})
}

fn print_line(line: &serde_json::Value) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(output_failure)
}

/// Shows an event; the exit code when it was the last one.
fn show(event: ExecEvent, how: Show) -> Result<Option<Exit>, Failure> {
    match event {
        ExecEvent::Started(_) | ExecEvent::File(_) | ExecEvent::FileData(_) => Ok(None),
        ExecEvent::Stdout(_) | ExecEvent::Stderr(_) if how == Show::Lines => Ok(None),
        ExecEvent::Stdout(bytes) => {
            let mut out = io::stdout().lock();
            out.write_all(&bytes).and_then(|()| out.flush()).map_err(output_failure)?;
            Ok(None)
        }
        ExecEvent::Stderr(bytes) => {
            // Nobody reads it any more: the command goes on all the same.
            let _ = io::stderr().lock().write_all(&bytes);
            Ok(None)
        }
        ExecEvent::Exited(exited) => {
            Ok(Some(Exit::Guest(u8::try_from(exited.status.shell_code()).unwrap_or(u8::MAX))))
        }
        ExecEvent::Failed(failed) => Err(cannot_start(&failed)),
        ExecEvent::Lost(why) => Err(Failure::fault(format!("the command's end is unknown: {why}"))),
    }
}

/// What a failed write of the command's output ends with. When nobody reads any more, the command gets `SIGPIPE`, and we end as if
/// it ended by that: 0 would say that it succeeded.
fn output_failure(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::silent(signalled(Signal::PIPE.as_raw()))
    } else {
        stdout_failure(error)
    }
}

/// Ends as a shell would.
fn cannot_start(failed: &ExecFailed) -> Failure {
    let exit = match failed.reason {
        ExecFailure::NotFound => Exit::Guest(127),
        ExecFailure::NotExecutable => Exit::Guest(126),
        ExecFailure::BadRequest | ExecFailure::WorkingDirectory => Exit::Usage,
        ExecFailure::WriteFile | ExecFailure::Resources => Exit::Infrastructure,
    };
    Failure::usage(failed.message.clone()).ending(exit)
}

async fn next_input(input: &mut Option<mpsc::Receiver<Bytes>>) -> Option<Bytes> {
    match input {
        Some(input) => {
            let first = input.recv().await?;
            let mut all = BytesMut::from(first);
            // Every call is a message to the guest: what waits already goes with it.
            while all.len() < SEND
                && let Ok(more) = input.try_recv()
            {
                all.extend_from_slice(&more);
            }
            Some(all.freeze())
        }
        None => std::future::pending().await,
    }
}

/// `None` is the end of our input. A command that has closed its input is no failure.
async fn send_input(
    exec: &Exec,
    piece: Option<Bytes>,
    input: &mut Option<mpsc::Receiver<Bytes>>,
) -> Result<(), Failure> {
    let sent = match piece {
        Some(bytes) => exec.write_stdin(bytes).await,
        None => {
            *input = None;
            exec.close_stdin().await
        }
    };
    match sent {
        // If it is the supervisor that is gone, the output says so.
        Err(terraphim_vm::VmError::Refused { .. } | terraphim_vm::VmError::Broken { .. }) => {
            *input = None;
            Ok(())
        }
        other => Ok(other?),
    }
}

async fn next_about_terminal(signals: &mut Option<Signals>) -> i32 {
    match signals {
        Some(signals) => signals.next().await,
        None => std::future::pending().await,
    }
}

/// Stops, or sets the terminal's mode again and tells the command of the window's size, which may have changed meanwhile.
async fn follow_terminal(raw: &terminal::RawMode, exec: &Exec, number: i32) -> Result<(), Failure> {
    if number == Signal::TSTP.as_raw() {
        return raw.stop().context("cannot stop");
    }
    if number == Signal::CONT.as_raw() {
        raw.again().context("cannot set the terminal to raw mode")?;
    }
    Ok(exec.resize(terminal::size()).await?)
}

/// Signals that we pass on to the command. In raw mode Ctrl-C is a key and no signal.
const PASSED_ON: [Signal; 6] =
    [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];

/// Signals of our own clocks and limits. They would end us all the same, but with the terminal as the guest has it.
const ABOUT_US: [Signal; 5] = [Signal::ALARM, Signal::VTALARM, Signal::PROF, Signal::XCPU, Signal::XFSZ];

/// Signals about a terminal that the guest has. Ctrl-Z is a key then: a `SIGTSTP` comes from another process.
const ABOUT_TERMINAL: [Signal; 3] = [Signal::WINCH, Signal::TSTP, Signal::CONT];

/// Signals that are waited for.
struct Signals {
    each: Vec<(i32, unix::Signal)>,
}

impl Signals {
    fn listen() -> io::Result<Signals> {
        Signals::of(&[&PASSED_ON[..], &ABOUT_US[..]].concat())
    }

    fn of(signals: &[Signal]) -> io::Result<Signals> {
        let listen = |signal: &Signal| {
            let number = signal.as_raw();
            unix::signal(unix::SignalKind::from_raw(number)).map(|news| (number, news))
        };
        Ok(Signals { each: signals.iter().map(listen).collect::<io::Result<_>>()? })
    }

    /// The number of the next one.
    async fn next(&mut self) -> i32 {
        std::future::poll_fn(|context| {
            for (number, signal) in &mut self.each {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_that_nobody_reads_is_no_success() {
        let failure = output_failure(io::ErrorKind::BrokenPipe.into());
        assert_eq!((failure.exit.code(), failure.message().as_str()), (141, ""));
        let failure = output_failure(io::ErrorKind::StorageFull.into());
        assert_eq!(failure.exit, Exit::Infrastructure);
        assert!(failure.message().contains("cannot write to standard output"), "{}", failure.message());
    }
}
