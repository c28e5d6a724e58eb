//! The static program that is PID 1 in every guest.
//!
//! `/init` of the initial RAM disk: [`boot`] makes the guest usable, then [`agent`] serves the supervisor over the
//! virtio-serial [`port`]. `terraphim_vm_agent serve --fd N` serves a socket instead, without the duties of PID 1.
//!
//! | module | owns |
//! |---|---|
//! | [`boot`] | mounts, modules, network, root file system |
//! | [`port`], [`link`] | the byte stream, the handshake |
//! | [`server`], [`body`] | HTTP/2 and its bodies |
//! | [`calls`] | the small calls, one file each |
//! | [`exec`] | one process: start, streams, end |
//! | [`files`] | tar streams in and out |
//! | [`forward`] | connections from the guest to the host |
//! | [`reaper`], [`tree`], [`left`] | zombies; killing everything a process started, at once or later |
//! | [`priority`] | coming before the processes of jobs |
//! | [`worker`] | threads for what blocks or enters a view |

mod agent;
mod body;
mod boot;
mod calls;
mod exec;
mod files;
mod forward;
mod kmsg;
mod left;
mod link;
mod port;
mod priority;
mod reaper;
mod server;
mod tree;
mod users;
mod view;
mod watch;
mod worker;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // The kernel passes boot options that it does not know to init; as PID 1 they are not ours to judge.
        _ if std::process::id() == 1 => agent::run_init(),
        ["serve", "--fd", fd] => agent::run_serve(fd),
        _ => {
            kmsg::say("usage: terraphim_vm_agent serve --fd N (or start it as PID 1)");
            ExitCode::from(2)
        }
    }
}
