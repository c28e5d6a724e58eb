//! Opening the services for a job: a port in its VM, tokens, variables.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use indexmap::IndexMap;
use terraphim_github_runner::{
    GitHubRunnerError, Result,
    engine::{JobAccess, JobIdentity, JobServices, Secret},
};
use terraphim_vm::{ForwardTarget, Host, VmForward};
use tokio::sync::OnceCell;

use super::{
    HOST, Settings,
    policy::{Origin, Scopes},
    server::Server,
    state::{OpenJob, State},
    token::{BackendIds, Use, now},
};

/// The services of this process: nothing runs until a job needs them, and everything ends with the last owner.
pub(crate) struct Services {
    host: Host,
    settings: Settings,
    running: OnceCell<Running>,
}

struct Running {
    server: Server,
    state: Arc<State>,
}

impl Services {
    /// Services for VMs of `host`.
    pub(crate) fn new(host: Host, settings: Settings) -> Arc<Services> {
        Arc::new(Services { host, settings, running: OnceCell::new() })
    }

    /// The services as the jobs of one run see them; `run` is its number in the store, `earlier` are those of the runs that
    /// it repeats in part, the newest first.
    pub(crate) fn of_run(self: &Arc<Services>, run: i64, earlier: Vec<i64>) -> Arc<dyn JobServices> {
        Arc::new(OfRun { services: Arc::clone(self), run, earlier })
    }

    async fn running(&self) -> Result<&Running> {
        let start = async || {
            let (directory, settings) = (self.directory(), self.settings.clone());
            // Reads directories, of which there may be many.
            let state = tokio::task::spawn_blocking(move || State::open(&directory, settings)).await;
            let state = state.map_err(failed)?.map_err(failed)?;
            let state = Arc::new(state);
            let server = Server::start(self.host.paths().runtime(), Arc::clone(&state)).map_err(failed)?;
            Ok(Running { server, state })
        };
        self.running.get_or_try_init(start).await
    }

    fn directory(&self) -> PathBuf {
        super::directory(self.host.paths().data())
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> GitHubRunnerError {
    GitHubRunnerError::failed("start the services for jobs", error)
}

struct OfRun {
    services: Arc<Services>,
    run: i64,
    earlier: Vec<i64>,
}

#[async_trait]
impl JobServices for OfRun {
    async fn open(&self, identity: &JobIdentity) -> Result<JobAccess> {
        let running = self.services.running().await?;
        let unreachable = |error| {
            GitHubRunnerError::failed(
                format!("reach the services for jobs from VM {}", identity.vm_id),
                error,
            )
        };
        let id = identity.vm_id.parse().map_err(|error| {
            GitHubRunnerError::failed(format!("reach the services for jobs from {:?}", identity.vm_id), error)
        })?;
        let vm = self.services.host.client(&id).map_err(unreachable)?;
        let target = ForwardTarget::Unix(running.server.socket().to_owned());
        let forward = vm.forward(0, &target).await.map_err(unreachable)?;
        let job = OpenJob { earlier: self.earlier.clone(), ..open_job(self.run, identity, forward.port()) };
        let access = access(&running.state, &job);
        running.state.add_job(Arc::new(job));
        let closing = Closing { state: Arc::clone(&running.state), job: access.1, _forward: forward };
        Ok(JobAccess { guard: Some(Box::new(closing)), ..access.0 })
    }
}

/// What ends with the job.
struct Closing {
    state: Arc<State>,
    job: String,
    _forward: VmForward,
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.state.remove_job(&self.job);
    }
}

pub(super) fn open_job(run: i64, identity: &JobIdentity, port: u16) -> OpenJob {
    let scopes = Scopes::of(Origin {
        git_ref: identity.github("ref"),
        base_ref: identity.github("base_ref"),
        default_branch: identity.default_branch.as_deref(),
        is_from_outside: identity.is_from_outside,
    });
    OpenJob {
        ids: BackendIds {
            run: identity.run_id.to_string(),
            // A job that is repeated in a run would be another one.
            job: uuid::Uuid::new_v4().to_string(),
        },
        run,
        earlier: Vec::new(),
        identity: identity.clone(),
        scopes,
        origin: format!("http://{HOST}:{port}"),
    }
}

/// The variables of a job, and the id by which it is closed.
pub(super) fn access(state: &State, job: &OpenJob) -> (JobAccess, String) {
    let token = state.keys.token(Use::Results, &job.ids, now());
    let base = format!("{}/", job.origin);
    let mut actions: IndexMap<String, String> = [
        ("ACTIONS_RUNTIME_TOKEN", token.as_str()),
        ("ACTIONS_RUNTIME_URL", &base),
        ("ACTIONS_RESULTS_URL", &base),
        // Version 1 appends its paths to this.
        ("ACTIONS_CACHE_URL", &base),
        ("ACTIONS_CACHE_SERVICE_V2", "True"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    if !is_taken_for_github(job.identity.github("server_url")) {
        // Clients refuse to work with any other server.
        actions.insert("GITHUB_SERVER_URL".to_owned(), job.origin.clone());
    }
    let mut secrets = vec![Secret::from(token.as_str())];
    let mut steps = IndexMap::new();
    if job.identity.may_request_id_token {
        let token = state.keys.token(Use::IdToken, &job.ids, now());
        secrets.push(Secret::from(token.as_str()));
        // Clients append `&audience=...`.
        let address = format!("{}/oidc/token?api-version=2.0", job.origin);
        steps.insert("ACTIONS_ID_TOKEN_REQUEST_URL".to_owned(), address);
        steps.insert("ACTIONS_ID_TOKEN_REQUEST_TOKEN".to_owned(), token);
    }
    (JobAccess { actions, steps, secrets, guard: None }, job.ids.job.clone())
}

/// Whether the clients of artifacts and caches work with a server of this address.
fn is_taken_for_github(server: &str) -> bool {
    let host = server.split("://").nth(1).and_then(|rest| rest.split(['/', ':']).next()).unwrap_or_default();
    let host = host.to_ascii_lowercase();
    host == "github.com" || host.ends_with(".ghe.com") || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::{super::tests::identity, *};

    #[test]
    fn variables_follow_the_permissions_and_the_server() {
        let services = tempfile::tempdir().unwrap();
        let state = State::open(services.path(), Settings::default()).unwrap();
        let mut identity = identity();
        let of = |identity: &JobIdentity| access(&state, &open_job(1, identity, 4321)).0;
        let access = of(&identity);
        assert_eq!(access.actions["ACTIONS_RESULTS_URL"], "http://results.localhost:4321/");
        assert!(access.steps.contains_key("ACTIONS_ID_TOKEN_REQUEST_URL"));
        assert!(!access.actions.contains_key("GITHUB_SERVER_URL"));
        assert_eq!(access.secrets.len(), 2);
        identity.may_request_id_token = false;
        identity.github.insert("server_url".into(), "https://git.example.org".into());
        let access = of(&identity);
        assert!(access.steps.is_empty() && access.secrets.len() == 1);
        assert_eq!(access.actions["GITHUB_SERVER_URL"], "http://results.localhost:4321");
    }

    #[test]
    fn servers() {
        for (server, want) in [
            ("https://github.com", true),
            ("https://acme.ghe.com/x", true),
            ("http://ci.localhost:8080", true),
            ("https://notgithub.com", false),
            ("http://localhost", false),
            ("", false),
        ] {
            assert_eq!(is_taken_for_github(server), want, "{server}");
        }
    }
}
