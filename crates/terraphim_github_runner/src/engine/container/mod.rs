//! Containers in the VM of a job: the one its steps run in, those of its services, and those of docker actions.
//!
//! | pure | acts |
//! |---|---|
//! | `spec`: what a job asks for, as arguments of `docker create` | `daemon`: the engine of a VM, started when it is first needed |
//! | `paths`: what is where in a container | `job`: the life of a job's containers |
//! | `variables`: variables without a trace in arguments | `start`: one container, from its image to its ports |
//! | `launch`: the command line of a step in a container | `site`: where a step runs |
//! | `wanted`: all of it, and what is wrong with it | `mounts`: the files of a job where the engine sees them |
//! | `needs`: which jobs need an engine, before the run | `tool`: commands of the client |
//! | `host`: the VM as its containers reach it | |

mod daemon;
mod host;
mod job;
mod launch;
mod mounts;
mod needs;
mod paths;
mod site;
mod spec;
mod start;
mod tool;
mod variables;
mod wanted;

pub(super) use daemon::Daemon;
pub(super) use host::let_in;
pub(super) use job::State;
pub(super) use launch::{JobContainer, OwnContainer};
pub(super) use needs::{lacking, no_engine, problems, refusal, refusals};
pub(super) use paths::{EXTERNALS, EXTERNALS_INSIDE};
pub(super) use site::Site;
pub(super) use tool::Call;
