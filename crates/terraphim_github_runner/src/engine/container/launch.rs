//! The command line of a step in a container.

use indexmap::IndexMap;
use uuid::Uuid;

use super::paths::Paths;
use super::variables::{Reserved, Variables};
use crate::workflow::FileToWrite;

/// Runs a command in a container that runs.
const EXEC: &str = include_str!("exec.sh");
/// Runs a container of its own.
const RUN: &str = include_str!("run.sh");
/// The directory of files that only root may read. In memory: what is here never reaches a disk.
const PRIVATE: &str = "/run/tci/containers";
/// The variable that marks the processes of a step.
const MARK: &str = "TCI_STEP";

/// The container that the steps of a job run in.
#[derive(Clone, Debug)]
pub(in crate::engine) struct JobContainer {
    pub(in crate::engine) id: String,
    pub(in crate::engine) paths: Paths,
    /// The search path of its image, if it has one.
    pub(super) path: Option<String>,
}

/// A container for one step.
#[derive(Clone, Debug)]
pub(in crate::engine) struct OwnContainer {
    pub(in crate::engine) image: String,
    pub(in crate::engine) entrypoint: Option<String>,
    /// The network of the job, if it has one.
    pub(in crate::engine) network: Option<String>,
    pub(in crate::engine) label: String,
    pub(in crate::engine) paths: Paths,
}

/// A process of the VM that runs something in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Launch {
    pub(in crate::engine) argv: Vec<String>,
    /// Variables of the process itself.
    pub(in crate::engine) env: Vec<(String, String)>,
    pub(in crate::engine) files: Vec<FileToWrite>,
    /// What to run when it was stopped: it may have had no time to end what it started.
    pub(in crate::engine) after_stop: Vec<String>,
}

impl JobContainer {
    /// Runs a command in it.
    ///
    /// # Errors
    /// A variable cannot be passed.
    pub(in crate::engine) fn launch(
        &self,
        argv: Vec<String>,
        directory: &str,
        env: &IndexMap<String, String>,
        paths_before: &[String],
    ) -> Result<Launch, Reserved> {
        let id = Uuid::new_v4().simple().to_string();
        let mut env = translated(env, &self.paths);
        if !paths_before.is_empty() {
            let path = env.get("PATH").or(self.path.as_ref()).map_or(DEFAULT_PATH, String::as_str);
            let path =
                paths_before.iter().rev().map(String::as_str).chain([path]).collect::<Vec<_>>().join(":");
            env.insert("PATH".to_owned(), path);
        }
        env.insert(MARK.to_owned(), id.clone());
        let variables = Variables::new(&env)?;
        let file = format!("{PRIVATE}/{id}.env");
        let script = |what: &str| {
            ["sh", "-c", EXEC, "sh", what, &self.id, &format!("{MARK}={id}"), &file]
                .map(str::to_owned)
                .to_vec()
        };
        let mut all = script("exec");
        all.extend(["exec".to_owned(), "--workdir".to_owned(), self.paths.inside(directory)]);
        all.extend(variables.arguments(&file));
        all.push(self.id.clone());
        all.extend(argv);
        Ok(Launch {
            argv: all,
            files: vec![private(&file, variables.file)],
            env: variables.named,
            after_stop: script("kill"),
        })
    }
}

impl OwnContainer {
    /// Runs it with these arguments.
    ///
    /// # Errors
    /// A variable cannot be passed.
    pub(in crate::engine) fn launch(
        &self,
        arguments: Vec<String>,
        env: &IndexMap<String, String>,
    ) -> Result<Launch, Reserved> {
        let id = Uuid::new_v4().simple().to_string();
        let mut env = translated(env, &self.paths);
        env.insert("HOME".to_owned(), super::paths::HOME_INSIDE.to_owned());
        let variables = Variables::new(&env)?;
        let file = format!("{PRIVATE}/{id}.env");
        let name = format!("tci-{id}");
        let mut argv = words(&["run", "--rm", "--name", &name, "--label", &self.label]);
        argv.extend(words(&["--workdir", "/github/workspace"]));
        argv.extend(super::host::options());
        if let Some(network) = &self.network {
            argv.extend(words(&["--network", network]));
        }
        if let Some(entrypoint) = &self.entrypoint {
            argv.extend(words(&["--entrypoint", entrypoint]));
        }
        argv.extend(variables.arguments(&file));
        argv.extend(self.paths.volumes().flat_map(|volume| ["--volume".to_owned(), volume]));
        argv.push(self.image.clone());
        argv.extend(arguments);
        let argv = with_file(&file, argv);
        let clear = "docker rm --force --volumes \"$1\" >/dev/null; rm -f \"$2\"";
        Ok(Launch {
            argv,
            files: vec![private(&file, variables.file)],
            env: variables.named,
            after_stop: words(&["sh", "-c", clear, "sh", &name, &file]),
        })
    }
}

/// What a search path is when neither the step nor the image says: that of `docker exec`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// GitHub: a value that is a path of the VM becomes the one in the container.
fn translated(env: &IndexMap<String, String>, paths: &Paths) -> IndexMap<String, String> {
    env.iter().map(|(name, value)| (name.clone(), paths.inside(value))).collect()
}

/// The client of the engine with these arguments, which removes a file when it has ended.
pub(super) fn with_file(file: &str, arguments: Vec<String>) -> Vec<String> {
    let mut argv = words(&["sh", "-c", RUN, "sh", file]);
    argv.extend(arguments);
    argv
}

/// A file that only the client reads.
pub(super) fn private(path: &str, content: String) -> FileToWrite {
    FileToWrite { path: path.to_owned(), content, mode: 0o600 }
}

/// The path of a new file that only root may read.
pub(super) fn private_path(extension: &str) -> String {
    format!("{PRIVATE}/{}.{extension}", Uuid::new_v4().simple())
}

pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::layout::Layout;

    fn env(pairs: &[(&str, &str)]) -> IndexMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn container() -> JobContainer {
        let paths = Paths::of_job(&Layout::default(), "r");
        JobContainer { id: "c0ffee".to_owned(), paths, path: Some("/image/bin".to_owned()) }
    }

    #[test]
    fn no_value_of_a_variable_is_in_an_argument() {
        let env =
            env(&[("TOKEN", "hunter2"), ("KEY", "line\nhunter3"), ("GITHUB_WORKSPACE", "/workspace/r")]);
        let launch =
            container().launch(words(&["sh", "-e", "/x.sh"]), "/workspace/r/src", &env, &[]).unwrap();
        assert!(!launch.argv.iter().any(|word| word.contains("hunter")), "{:?}", launch.argv);
        assert_eq!(launch.env, [("KEY".to_owned(), "line\nhunter3".to_owned())]);
        let file = &launch.files[0];
        assert_eq!(file.mode, 0o600);
        assert!(file.content.contains("TOKEN=hunter2\nGITHUB_WORKSPACE=/__w/r/r\n"), "{}", file.content);
        assert!(!file.content.contains("\nPATH="), "the container keeps its own: {}", file.content);
        let text = launch.argv[8..].join(" ");
        assert!(text.starts_with("exec --workdir /__w/r/r/src --env-file /run/tci/containers/"), "{text}");
        assert!(text.ends_with("--env KEY c0ffee sh -e /x.sh"), "{text}");
        assert!(launch.after_stop.contains(&"kill".to_owned()));
    }

    #[test]
    fn what_steps_add_comes_before_the_search_path_of_the_image() {
        let before = words(&["/a", "/b"]);
        let launch =
            |env: &IndexMap<String, String>| container().launch(Vec::new(), "/", env, &before).unwrap();
        assert!(launch(&env(&[])).files[0].content.contains("PATH=/b:/a:/image/bin\n"));
        assert!(launch(&env(&[("PATH", "/mine")])).files[0].content.contains("PATH=/b:/a:/mine\n"));
    }

    #[test]
    fn a_container_of_its_own_has_the_places_of_an_action() {
        let own = OwnContainer {
            image: "img".to_owned(),
            entrypoint: Some("/e.sh".to_owned()),
            network: Some("net".to_owned()),
            label: "tci=j".to_owned(),
            paths: Paths::of_action(&Layout::default(), "r", None),
        };
        let env = env(&[("INPUT_PATH", "/workspace/r/x"), ("HOME", "/home/runner"), ("S", "hunter2")]);
        let launch = own.launch(words(&["a b", "c"]), &env).unwrap();
        let text = launch.argv[5..].join(" ");
        assert!(
            text.contains(
                "--label tci=j --workdir /github/workspace --add-host results.localhost:host-gateway --network net --entrypoint /e.sh --env-file"
            ),
            "{text}"
        );
        assert!(text.contains("--volume /workspace/r:/github/workspace"), "{text}");
        assert!(text.ends_with("img a b c") && !text.contains("hunter2"), "{text}");
        let content = &launch.files[0].content;
        assert!(content.contains("INPUT_PATH=/github/workspace/x\nHOME=/github/home\n"), "{content}");
    }
}
