//! Where the processes of a step run, and what they know the files of the job by.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

use super::job::State;
use super::launch::{JobContainer, Launch, OwnContainer};
use super::paths::{FILE_COMMANDS, Paths};
use crate::engine::job::Job;
use crate::engine::layout::Layout;
use crate::workflow::ProcessSpec;

/// Where the processes of a step run.
#[derive(Clone, Debug)]
pub(in crate::engine) enum Site {
    /// In the VM itself.
    Vm,
    /// In the container of the job.
    Job(Arc<JobContainer>),
    /// In a container of its own.
    Own(Arc<OwnContainer>),
}

impl Site {
    /// The directory for the files through which the step and the engine speak.
    pub(in crate::engine) fn file_commands(&self, layout: &Layout, has_views: bool) -> String {
        match self {
            Site::Vm => layout.file_commands(has_views),
            Site::Job(_) | Site::Own(_) => format!("{}/{FILE_COMMANDS}", layout.temp()),
        }
    }
}

impl Job {
    /// Where the processes of a step run that has no container of its own; a text where that is not there.
    pub(in crate::engine) fn site(&self) -> Result<Site, String> {
        match &self.containers {
            State::None => Ok(Site::Vm),
            State::Running(containers) => Ok(containers.job.clone().map_or(Site::Vm, Site::Job)),
            State::Failed { has_job: false } => Ok(Site::Vm),
            State::Failed { has_job: true } => Err("the container of the job does not run".to_owned()),
        }
    }

    /// A path of the VM as the steps of the job know it.
    pub(in crate::engine) fn seen(&self, path: &str) -> String {
        self.job_container().map_or_else(|| path.to_owned(), |container| container.paths.inside(path))
    }

    /// The container of the job, if its steps run in one.
    pub(in crate::engine) fn job_container(&self) -> Option<&Arc<JobContainer>> {
        match &self.containers {
            State::Running(containers) => containers.job.as_ref(),
            _ => None,
        }
    }

    /// A container for one step.
    pub(in crate::engine) fn own_container(&self, image: String, entrypoint: Option<String>) -> OwnContainer {
        let (layout, repository) = (&self.shared.inputs.layout, self.shared.inputs.repository_name());
        let job = self.job_container().map(|container| &container.paths);
        let network = match &self.containers {
            State::Running(containers) => Some(containers.network.clone()),
            _ => None,
        };
        OwnContainer {
            image,
            entrypoint,
            network,
            label: self.label(),
            paths: Paths::of_action(layout, repository, job),
        }
    }

    /// The process of the VM that runs a program where it is to run, and the command that ends what a stopped one may
    /// have left there. The error is one of the step.
    pub(in crate::engine) fn place_at(
        &self,
        site: &Site,
        argv: Vec<String>,
        env: &IndexMap<String, String>,
        directory: String,
        limit: Option<Duration>,
    ) -> Result<(ProcessSpec, Vec<String>), String> {
        let launch = match site {
            Site::Vm => return Ok((self.spec(argv, env, directory, limit), Vec::new())),
            Site::Job(container) => container.launch(argv, &directory, env, &self.paths),
            Site::Own(container) => container.launch(argv, env),
        };
        let Launch { argv, env, files, after_stop } = launch.map_err(|error| error.to_string())?;
        let spec = self.spec(argv, &IndexMap::new(), "/".to_owned(), limit);
        let user = Some("root".to_owned());
        Ok((ProcessSpec { env, user, write_files: files, ..spec }, after_stop))
    }
}
