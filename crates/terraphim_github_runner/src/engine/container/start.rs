//! One container of a job, from its image to its ports.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::json;
use terraphim_actions::resolve::Credentials;

use super::launch::{private, private_path, with_file, words};
use super::paths::Paths;
use super::spec::{Create, Role, Spec, registry};
use super::tool::{Call, failure, say};
use crate::engine::clock::Interruption;
use crate::engine::event::Conclusion;
use crate::engine::job::Job;
use crate::engine::level::Holder;
use crate::engine::output::StepOutput;
use crate::error::Result;

/// How often a pull is tried. GitHub: three times, with seconds in between.
const PULLS: u32 = 3;
/// Pulls with the credentials of a configuration of the client, and forgets them. Logging in asks the registry about those that
/// are in it. `$1` the file of the configuration, `$2` image, then the registry, if the image names one.
const PULL_AS: &str = r#"file=$1 directory=${1%/*} image=$2
shift 2
trap 'rm -rf "$directory"' EXIT
docker --config "$directory" login "$@" </dev/null || exit 99
docker --config "$directory" pull -- "$image""#;
/// The name by which the client knows the registry of images that name none.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// What [`PULL_AS`] ends with when the registry refuses the login.
const NO_LOGIN: i32 = 99;
/// Waits for the health of the container `$1`, from its start `$2` on. The engine remembers some hundred events of all
/// containers, so that an early one may be forgotten: what the state is by now is asked first. What happens after that is
/// among the remembered ones.
const WAIT: &str = r#"case $(docker inspect --type container --format '{{.State.Status}} {{.State.Health.Status}}' "$1") in
'running healthy') exit 0;; 'running unhealthy') exit 10;; exited*|dead*) exit 11;;
esac
while read -r action; do
case $action in *unhealthy) exit 10;; *healthy) exit 0;; die*) exit 11;; esac
done < <(docker events --since "$2" --filter "container=$1" --filter event=health_status --filter event=die --format '{{.Action}}')
exit 12"#;

/// Why the containers of a job do not run.
#[derive(Debug)]
pub(super) enum Stop {
    /// With this message.
    Failed(String),
    /// The job was cancelled meanwhile, or ran out of time.
    Interrupted,
}

/// A container that runs.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) id: String,
    /// The ports of the VM by those of the container.
    pub(super) ports: IndexMap<String, String>,
    /// The search path of its image.
    pub(super) path: Option<String>,
    /// When it was started, if it says whether it is healthy.
    pub(super) checked_since: Option<String>,
}

/// What the containers of a job have in common.
pub(super) struct Common {
    pub(super) label: String,
    pub(super) network: String,
    pub(super) paths: Paths,
    pub(super) directory: String,
}

type Outcome<T> = Result<std::result::Result<T, Stop>>;

impl Job {
    /// Makes and starts one container.
    pub(super) async fn start_container(
        &mut self,
        output: &mut StepOutput<'_>,
        spec: &Spec,
        common: &Common,
    ) -> Outcome<Started> {
        if let Err(stop) = self.provide_image(output, spec).await? {
            return Ok(Err(stop));
        }
        let variables = match spec.variables() {
            Ok(variables) => variables,
            Err(error) => return Ok(Err(Stop::Failed(error.to_string()))),
        };
        let file = private_path("env");
        // No name of a service is empty, so these are different.
        let name = match &spec.role {
            Role::Job => common.network.clone(),
            Role::Service(name) => format!("{}.{name}", common.network),
        };
        let create = Create {
            name: &name,
            label: &common.label,
            network: &common.network,
            directory: &common.directory,
            paths: (spec.role == Role::Job).then_some(&common.paths),
            variables: &variables.arguments(&file),
        };
        let arguments = spec.create(&create);
        say(output, &format!("[command]docker {}\n", arguments.join(" "))).await?;
        let argv = with_file(&file, arguments);
        let call = Call { argv, files: vec![private(&file, variables.file)], env: variables.named };
        let created = self.ask(call, &Holder::nobody()).await?;
        let failed =
            |text: &str| Stop::Failed(format!("Failed to initialize container {}: {text}", spec.image));
        match created.conclusion {
            Conclusion::Success => {}
            Conclusion::Cancelled => return Ok(Err(Stop::Interrupted)),
            _ => return Ok(Err(failed(&created.stderr))),
        }
        if !created.stderr.is_empty() {
            say(output, &format!("{}\n", created.stderr)).await?;
        }
        let id = created.stdout;
        // Some options make the client say something else and create nothing, as `--help` does.
        if id.len() != 64 || !id.chars().all(|c| c.is_ascii_hexdigit()) {
            return Ok(Err(failed(&format!("docker create made no container, but said {id:?}"))));
        }
        let start = Call::new(&["docker", "start", &id]);
        let started = self.call_heard(start, output, &Holder::nobody()).await?;
        match started.conclusion {
            Conclusion::Success => {}
            Conclusion::Cancelled => return Ok(Err(Stop::Interrupted)),
            _ => return Ok(Err(failed(&failure("docker start", &started)))),
        }
        self.look_at(&id, spec).await
    }

    /// What the engine says of a container that was started.
    async fn look_at(&mut self, id: &str, spec: &Spec) -> Outcome<Started> {
        let call = Call::new(&["docker", "inspect", "--type", "container", "--format", "{{json .}}", id]);
        let answer = self.ask(call, &Holder::nobody()).await?;
        match answer.conclusion {
            Conclusion::Success => {}
            Conclusion::Cancelled => return Ok(Err(Stop::Interrupted)),
            _ => return Ok(Err(Stop::Failed(format!("docker inspect failed: {}", answer.stderr)))),
        }
        let inspected: Inspected = match serde_json::from_str(&answer.stdout) {
            Ok(inspected) => inspected,
            Err(error) => return Ok(Err(Stop::Failed(format!("docker inspect cannot be read: {error}")))),
        };
        // A service may be one that does its work and ends; the container of the job must wait for steps.
        if spec.role == Role::Job && !inspected.state.running {
            let log = self.log_of(id).await?;
            let text =
                format!("The container of the job ended at once; image {} needs `tail`.\n{log}", spec.image);
            return Ok(Err(Stop::Failed(text)));
        }
        Ok(Ok(inspected.started(id.to_owned())))
    }

    /// Pulls the image unless the VM has it. A VM lives for one run: what it has came with its image, or from this run.
    async fn provide_image(&mut self, output: &mut StepOutput<'_>, spec: &Spec) -> Outcome<()> {
        if spec.credentials.is_none() && self.has_image(&spec.image).await? {
            say(output, &format!("The VM has {} already.\n", spec.image)).await?;
            return Ok(Ok(()));
        }
        let (ended, code) =
            self.pull(output, &spec.image, spec.credentials.as_ref(), &Holder::nobody()).await?;
        Ok(match ended {
            Conclusion::Success => Ok(()),
            Conclusion::Cancelled => Err(Stop::Interrupted),
            _ if code == NO_LOGIN => {
                let registry = registry(&spec.image).unwrap_or("docker.io");
                Err(Stop::Failed(format!("Docker login for '{registry}' failed")))
            }
            _ => Err(Stop::Failed(format!("Docker pull of {} failed with exit code {code}", spec.image))),
        })
    }

    /// Whether the VM has an image.
    pub(in crate::engine) async fn has_image(&mut self, image: &str) -> Result<bool> {
        let call = Call::new(&["docker", "image", "inspect", "--format", "{{.Id}}", "--", image]);
        Ok(self.ask(call, &Holder::nobody()).await?.conclusion == Conclusion::Success)
    }

    /// Pulls an image, several times if need be.
    pub(in crate::engine) async fn pull(
        &mut self,
        output: &mut StepOutput<'_>,
        image: &str,
        credentials: Option<&Credentials>,
        holder: &Holder,
    ) -> Result<(Conclusion, i32)> {
        for attempt in 1.. {
            let ended = match credentials {
                None => self.call_aloud(Call::new(&["docker", "pull", "--", image]), output, holder).await?,
                Some(credentials) => {
                    let shown = format!("docker login, docker pull {image}");
                    self.call_shown(pull_as(image, credentials), &shown, output, holder).await?
                }
            };
            if ended.0 != Conclusion::Failure || attempt == PULLS || holder.is_over() {
                return Ok(ended);
            }
            // A registry that cannot be reached for a moment refuses a login just so.
            let what = if ended.1 == NO_LOGIN { "login" } else { "pull" };
            let wait = Duration::from_secs(2 * u64::from(attempt));
            let text = format!(
                "Docker {what} failed with exit code {}, back off {} seconds before retry.\n",
                ended.1,
                wait.as_secs()
            );
            say(output, &text).await?;
            if let Some(why) = self.pause(wait).await {
                if why != Interruption::Over {
                    self.interrupt(why).await;
                }
                if why == Interruption::Over || !self.goes_on(holder) {
                    return Ok((Conclusion::Cancelled, ended.1));
                }
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Waits until a service says that it is healthy.
    pub(super) async fn wait_for_health(
        &mut self,
        output: &mut StepOutput<'_>,
        name: &str,
        id: &str,
        since: &str,
    ) -> Outcome<()> {
        say(output, &format!("{name} service is starting, waiting for its health check.\n")).await?;
        let answer = self.ask(Call::new(&["bash", "-c", WAIT, "bash", id, since]), &Holder::nobody()).await?;
        let what = match (answer.conclusion, answer.code) {
            (Conclusion::Success, _) => {
                say(output, &format!("{name} service is healthy.\n")).await?;
                return Ok(Ok(()));
            }
            (Conclusion::Cancelled, _) => return Ok(Err(Stop::Interrupted)),
            (_, 10) => "unhealthy".to_owned(),
            (_, 11) => "not running any more".to_owned(),
            _ => format!("in an unknown state: {}", answer.stderr),
        };
        let log = self.log_of(id).await?;
        say(output, &format!("Service container {name} failed. Its log:\n{log}\n")).await?;
        Ok(Err(Stop::Failed(format!("Failed to initialize, {name} service is {what}."))))
    }

    /// The end of the log of a container.
    pub(super) async fn log_of(&mut self, id: &str) -> Result<String> {
        let answer = self.ask(Call::new(&["docker", "logs", "--tail", "200", id]), &Holder::nobody()).await?;
        Ok([answer.stdout, answer.stderr].join("\n").trim().to_owned())
    }
}

/// The credentials are in a file that only root may read, and that is gone afterwards.
fn pull_as(image: &str, credentials: &Credentials) -> Call {
    let file = format!("{}/config.json", private_path("login"));
    let auth = STANDARD.encode(format!("{}:{}", credentials.username, credentials.password));
    let config = json!({"auths": {registry(image).unwrap_or(DOCKER_HUB): {"auth": auth}}});
    let mut argv = words(&["sh", "-c", PULL_AS, "sh", &file, image]);
    argv.extend(registry(image).map(str::to_owned));
    Call { argv, files: vec![private(&file, config.to_string())], env: Vec::new() }
}

/// What `docker inspect` says of a container, as far as it is of use.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    state: InspectedState,
    config: InspectedConfig,
    network_settings: InspectedNetwork,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedState {
    running: bool,
    started_at: String,
    /// Absent without a check.
    health: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedConfig {
    env: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedNetwork {
    /// By `PORT/PROTOCOL`; without bindings for a port that is not published.
    ports: Option<IndexMap<String, Option<Vec<Binding>>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Binding {
    host_port: String,
}

impl Inspected {
    fn started(self, id: String) -> Started {
        let mut ports = IndexMap::new();
        for (inside, bindings) in self.network_settings.ports.unwrap_or_default() {
            let inside = inside.split('/').next().unwrap_or_default().to_owned();
            if let Some(binding) = bindings.unwrap_or_default().into_iter().next() {
                ports.insert(inside, binding.host_port);
            }
        }
        let env = self.config.env.unwrap_or_default();
        let path = env.iter().rev().find_map(|variable| variable.strip_prefix("PATH=")).map(str::to_owned);
        let checked_since = self.state.health.map(|_| self.state.started_at);
        Started { id, ports, path, checked_since }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_says_is_read() {
        let json = r#"{"Id":"x","State":{"Running":true,"StartedAt":"2026-01-02T03:04:05.6Z","Health":{"Status":"starting"}},
            "Config":{"Env":["PATH=/a:/b","X=1"]},"NetworkSettings":{"Ports":{"80/tcp":[{"HostIp":"0.0.0.0",
            "HostPort":"32768"},{"HostIp":"::","HostPort":"32769"}],"443/tcp":null}}}"#;
        let started = serde_json::from_str::<Inspected>(json).unwrap().started("x".to_owned());
        assert_eq!(started.ports, IndexMap::from([("80".to_owned(), "32768".to_owned())]));
        assert_eq!(started.path.as_deref(), Some("/a:/b"));
        assert_eq!(started.checked_since.as_deref(), Some("2026-01-02T03:04:05.6Z"));
        let json = r#"{"State":{"Running":false,"StartedAt":""},"Config":{"Env":null},"NetworkSettings":{"Ports":{}}}"#;
        let started = serde_json::from_str::<Inspected>(json).unwrap().started("x".to_owned());
        assert!(started.checked_since.is_none() && started.path.is_none());
    }

    #[test]
    fn credentials_are_in_no_argument() {
        let credentials = Credentials { username: "bot".to_owned(), password: "hunter:2".to_owned() };
        for (image, registry, arguments) in
            [("ghcr.io/o/i", "ghcr.io", &["ghcr.io/o/i", "ghcr.io"][..]), ("o/i", DOCKER_HUB, &["o/i"])]
        {
            let call = pull_as(image, &credentials);
            let all = call.argv.join(" ");
            assert!(!all.contains("hunter") && !all.contains(" bot"), "{all}");
            assert_eq!(call.argv[5..], *arguments);
            let [file] = &call.files[..] else { panic!("{call:?}") };
            assert_eq!((&file.path, file.mode), (&call.argv[4], 0o600));
            let config: serde_json::Value = serde_json::from_str(&file.content).unwrap();
            assert_eq!(config, json!({"auths": {registry: {"auth": "Ym90Omh1bnRlcjoy"}}}));
        }
    }
}
