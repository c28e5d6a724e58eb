//! What a job asks for, as arguments of `docker create`. GitHub's runner puts the same words there
//! (`DockerCommandManager`), and so has the same rules for options, ports and volumes.

use indexmap::IndexMap;
use terraphim_actions::resolve;

use super::launch::words;
use super::paths::{HOME_INSIDE, Paths};
use super::variables::{Reserved, Variables};
use super::wanted::Problem;
use crate::engine::shell::split;

/// What a container is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The steps of the job run in it.
    Job,
    /// A service with this name.
    Service(String),
}

impl Role {
    /// The key of the workflow file.
    pub(super) fn key(&self) -> String {
        match self {
            Role::Job => "container".to_owned(),
            Role::Service(name) => format!("services.{name}"),
        }
    }
}

/// A container that a job asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) role: Role,
    pub(super) image: String,
    env: IndexMap<String, String>,
    options: Vec<String>,
    ports: Vec<String>,
    volumes: Vec<String>,
    pub(super) credentials: Option<resolve::Credentials>,
    entrypoint: Option<String>,
    command: Vec<String>,
}

/// Options that the engine decides itself.
const OURS: [(&str, &str); 4] = [
    ("--network", "the job has a network of its own, in which services have their names"),
    ("--net", "the job has a network of its own, in which services have their names"),
    ("--name", "the engine names its containers"),
    ("--cidfile", "it would be written where nobody reads it"),
];

impl Spec {
    /// Reads what the expressions of a workflow file gave.
    ///
    /// # Errors
    /// What is wrong, with the key.
    pub(super) fn read(role: Role, container: &resolve::Container) -> Result<Spec, Problem> {
        let at = |sub: &'static str, text: String| Problem { role: role.clone(), sub, text };
        let words = |sub: &'static str, text: Option<&str>| {
            split(text.unwrap_or_default())
                .ok_or_else(|| at(sub, format!("a quote is not closed in {:?}", text.unwrap_or_default())))
        };
        let options = words("options", container.options.as_deref())?;
        for (name, why) in OURS {
            let is_it = |option: &&String| **option == name || option.starts_with(&format!("{name}="));
            if options.iter().any(|option| is_it(&option)) {
                return Err(at("options", format!("{name} cannot be given: {why}")));
            }
        }
        let has_entrypoint = options.iter().any(|option| option.split('=').next() == Some("--entrypoint"));
        if role == Role::Job && has_entrypoint {
            let why = "the container of a job waits for steps and starts nothing else";
            return Err(at("options", format!("--entrypoint cannot be given: {why}")));
        }
        for port in &container.ports {
            check_port(port).map_err(|why| at("ports", format!("{port:?} {why}")))?;
        }
        for volume in &container.volumes {
            check_volume(volume).map_err(|why| at("volumes", format!("{volume:?} {why}")))?;
        }
        if container.image.starts_with('-') || container.image.contains(char::is_whitespace) {
            return Err(at("image", format!("{:?} is no name of an image", container.image)));
        }
        Ok(Spec {
            image: container.image.clone(),
            env: container.env.clone(),
            options,
            ports: container.ports.clone(),
            volumes: container.volumes.clone(),
            credentials: container
                .credentials
                .clone()
                .filter(|it| !(it.username.is_empty() && it.password.is_empty())),
            entrypoint: container.entrypoint.clone().filter(|it| !it.is_empty()),
            command: words("command", container.command.as_deref())?,
            role,
        })
    }

    /// The variables of the container.
    ///
    /// # Errors
    /// One cannot be passed.
    pub(super) fn variables(&self) -> Result<Variables, Reserved> {
        let mut all = IndexMap::new();
        if self.role == Role::Job {
            all.insert("HOME".to_owned(), HOME_INSIDE.to_owned());
        }
        all.insert("GITHUB_ACTIONS".to_owned(), "true".to_owned());
        all.insert("CI".to_owned(), "true".to_owned());
        all.extend(self.env.clone());
        Variables::new(&all)
    }

    /// The arguments of `docker`.
    pub(super) fn create(&self, create: &Create<'_>) -> Vec<String> {
        let mut arguments = words(&["create", "--name", create.name, "--label", create.label]);
        match &self.role {
            Role::Job => {
                arguments.extend(words(&["--workdir", create.directory]));
                arguments.extend(super::host::options());
            }
            Role::Service(name) => arguments.extend(words(&["--network-alias", name])),
        }
        arguments.extend(words(&["--network", create.network]));
        arguments.extend(self.ports.iter().flat_map(|port| words(&["--publish", port])));
        arguments.extend(self.options.iter().cloned());
        arguments.extend(create.variables.iter().cloned());
        let own = create.paths.map(|paths| paths.volumes().collect()).unwrap_or_default();
        for volume in self.volumes.iter().cloned().chain::<Vec<String>>(own) {
            arguments.extend(["--volume".to_owned(), volume]);
        }
        let (entrypoint, command) = match self.role {
            // Something that waits and that every image has.
            Role::Job => (Some("tail"), vec!["-f".to_owned(), "/dev/null".to_owned()]),
            Role::Service(_) => (self.entrypoint.as_deref(), self.command.clone()),
        };
        if let Some(entrypoint) = entrypoint {
            arguments.extend(["--entrypoint".to_owned(), entrypoint.to_owned()]);
        }
        arguments.push(self.image.clone());
        arguments.extend(command);
        arguments
    }
}

/// What the job adds to a container.
pub(super) struct Create<'a> {
    pub(super) name: &'a str,
    /// How the job finds it again.
    pub(super) label: &'a str,
    pub(super) network: &'a str,
    /// Where its processes start; for that of the job.
    pub(super) directory: &'a str,
    /// What it has of the VM; for that of the job.
    pub(super) paths: Option<&'a Paths>,
    /// The arguments with its variables.
    pub(super) variables: &'a [String],
}

/// The registry of an image, if its name has one: what is before the first slash, if it looks like a host.
pub(super) fn registry(image: &str) -> Option<&str> {
    let (first, _) = image.split_once('/')?;
    (first.contains(['.', ':']) || first == "localhost").then_some(first)
}

/// `[[ADDRESS:]PORT:]PORT[/PROTOCOL]`, where a port may be a range.
fn check_port(text: &str) -> Result<(), &'static str> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !matches!(protocol, "tcp" | "udp" | "sctp") {
        return Err("has a protocol that is none of tcp, udp and sctp");
    }
    let mut parts = ports.rsplitn(3, ':');
    let inside = parts.next().unwrap_or_default();
    let outside = parts.next();
    // Before two ports anything that is an address; without an outer port a random one is meant.
    let are_ports = is_port(inside) && outside.is_none_or(|port| port.is_empty() || is_port(port));
    if !are_ports {
        return Err("is no port: use PORT, PORT:PORT or ADDRESS:PORT:PORT, each of them from 1 to 65535");
    }
    match parts.next() {
        Some(address) if address.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_err() => {
            Err("has no IP address before the two ports")
        }
        _ => Ok(()),
    }
}

fn is_port(text: &str) -> bool {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| {
        let all_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        all_digits.then(|| text.parse::<u16>().ok())?.filter(|port| *port > 0)
    };
    matches!((number(from), number(to)), (Some(from), Some(to)) if from <= to)
}

/// `[SOURCE:]TARGET[:MODE]`: a source is an absolute path or the name of a volume.
fn check_volume(text: &str) -> Result<(), &'static str> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target) = match parts[..] {
        [target] => (None, target),
        [source, target] => (Some(source), target),
        [source, target, mode] if !mode.is_empty() => (Some(source), target),
        _ => return Err("is no volume: use TARGET, SOURCE:TARGET or SOURCE:TARGET:ro"),
    };
    if !target.starts_with('/') {
        return Err("has a target that is not absolute");
    }
    let is_name = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    };
    match source {
        Some(source) if !source.starts_with('/') && !is_name(source) => {
            Err("has a source that is neither an absolute path nor the name of a volume")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::layout::Layout;

    fn container(change: impl FnOnce(&mut resolve::Container)) -> resolve::Container {
        let mut container = resolve::Container { image: "img:1".to_owned(), ..resolve::Container::default() };
        change(&mut container);
        container
    }

    fn service(change: impl FnOnce(&mut resolve::Container)) -> Result<Spec, String> {
        Spec::read(Role::Service("db".to_owned()), &container(change)).map_err(|problem| problem.to_string())
    }

    fn create(spec: &Spec, paths: Option<&Paths>) -> String {
        let create = Create {
            name: "n",
            label: "l",
            network: "net",
            directory: "/__w/r/r",
            paths,
            variables: &["--env-file".to_owned(), "/e".to_owned()],
        };
        spec.create(&create).join(" ")
    }

    #[test]
    fn a_service_has_its_name_in_the_network_and_its_options_as_they_are() {
        let spec = service(|it| {
            it.ports = vec!["5432".to_owned(), "8080:80/tcp".to_owned()];
            it.volumes = vec!["data:/var/lib/data".to_owned()];
            it.options =
                Some("--health-cmd \"pg_isready -U x\"  --health-interval=1s\n--health-retries 5".to_owned());
            it.entrypoint = Some("run".to_owned());
            it.command = Some("a \"b c\"".to_owned());
        });
        assert_eq!(
            create(&spec.unwrap(), None),
            "create --name n --label l --network-alias db --network net --publish 5432 --publish 8080:80/tcp \
             --health-cmd pg_isready -U x --health-interval=1s --health-retries 5 --env-file /e --volume \
             data:/var/lib/data --entrypoint run img:1 a b c"
        );
    }

    #[test]
    fn the_container_of_a_job_waits_and_has_the_files_of_the_job() {
        let spec = Spec::read(Role::Job, &container(|it| it.options = Some("--cpus 1".to_owned()))).unwrap();
        let text = create(&spec, Some(&Paths::of_job(&Layout::default(), "r")));
        assert!(
            text.starts_with(
                "create --name n --label l --workdir /__w/r/r --add-host results.localhost:host-gateway --network net --cpus 1 \
             --env-file"
            ),
            "{text}"
        );
        assert!(text.contains("--volume /workspace/r:/__w/r/r"), "{text}");
        assert!(text.ends_with("--entrypoint tail img:1 -f /dev/null"), "{text}");
        assert!(
            spec.variables().unwrap().file.starts_with("HOME=/github/home\nGITHUB_ACTIONS=true\nCI=true\n")
        );
    }

    #[test]
    fn options_are_split_as_github_splits_them() {
        let options = |text: &str| service(|it| it.options = Some(text.to_owned())).map(|spec| spec.options);
        assert_eq!(options("a 'b c'").unwrap(), ["a", "'b", "c'"], "single quotes are letters");
        assert_eq!(options(r#"--x="a b" \"c"#).unwrap(), ["--x=a b", "\"c"]);
        assert_eq!(options("").unwrap(), Vec::<String>::new());
        assert!(options("--health-cmd \"x").unwrap_err().starts_with("`services.db.options`: a quote"));
    }

    #[test]
    fn what_the_engine_decides_itself_is_refused() {
        for (options, words) in [
            ("--network host", "`services.db.options`: --network cannot be given"),
            ("--net=host", "--net cannot be given"),
            ("--name x", "--name cannot be given"),
        ] {
            let error = service(|it| it.options = Some(options.to_owned())).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        assert!(service(|it| it.options = Some("--entrypoint x --network-alias y".to_owned())).is_ok());
        let error = Spec::read(Role::Job, &container(|it| it.options = Some("--entrypoint=x".to_owned())))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("`container.options`: --entrypoint"), "{error}");
    }

    #[test]
    fn ports_have_their_forms() {
        for good in [
            "80",
            "8080:80",
            "8080:80/udp",
            "127.0.0.1:8080:80",
            "127.0.0.1::80",
            "[::1]:80:80",
            "7000-7010:7000-7010",
        ] {
            assert_eq!(check_port(good), Ok(()), "{good}");
        }
        for bad in ["", "x", "0", "70000", "80:", "80/http", "a:80:80", "9-8", "1:2:3:4", "+80"] {
            assert!(check_port(bad).is_err(), "{bad}");
        }
        let error = service(|it| it.ports = vec!["http".to_owned()]).unwrap_err();
        assert!(error.starts_with("`services.db.ports`: \"http\" is no port"), "{error}");
    }

    #[test]
    fn volumes_have_their_forms() {
        for good in ["/data", "name:/data", "/a:/b", "/a:/b:ro", "my_vol.1:/x:ro,z"] {
            assert_eq!(check_volume(good), Ok(()), "{good}");
        }
        for bad in ["", "data", "./a:/b", "a:b", "/a:/b:", "/a:/b:ro:x", "-v:/x"] {
            assert!(check_volume(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_registry_looks_like_a_host() {
        for (image, want) in [
            ("postgres:15", None),
            ("owner/image", None),
            ("ghcr.io/o/i:1", Some("ghcr.io")),
            ("localhost/i", Some("localhost")),
            ("127.0.0.1:5000/i", Some("127.0.0.1:5000")),
            ("host:80", None),
        ] {
            assert_eq!(registry(image), want, "{image}");
        }
    }

    #[test]
    fn an_image_is_no_option() {
        assert!(
            service(|it| it.image = "--privileged".to_owned()).unwrap_err().contains("`services.db.image`")
        );
    }
}
