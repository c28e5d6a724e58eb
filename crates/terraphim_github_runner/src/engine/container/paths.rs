//! What is where in a container, and the names by which its processes know it.

use crate::engine::layout::Layout;

/// Where the nodes of the image are that run in any container, as a recipe puts them there.
pub(in crate::engine) const EXTERNALS: &str = "/opt/tci/externals";
/// The same in the container of a job.
pub(in crate::engine) const EXTERNALS_INSIDE: &str = "/__e";
/// The daemon's socket, which containers may use as the VM itself.
const SOCKET: &str = "/var/run/docker.sock";
/// The home of processes in containers.
pub(in crate::engine) const HOME_INSIDE: &str = "/github/home";

/// One directory that is in the VM and in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair {
    outside: String,
    inside: String,
    /// It is mounted; else its names are translated, but a longer one is what is mounted.
    is_mounted: bool,
    is_read_only: bool,
}

/// The directories of the VM that a container has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Paths(Vec<Pair>);

impl Paths {
    /// Those of the container that the steps of a job run in. GitHub: `ContainerInfo` and `ContainerOperationProvider` of
    /// its runner.
    pub(in crate::engine) fn of_job(layout: &Layout, repository: &str) -> Paths {
        let mut paths = Paths::default();
        let temp = layout.temp();
        paths.mount(&layout.workspace_of(repository), &format!("/__w/{repository}/{repository}"));
        paths.mount(&temp, "/__w/_temp");
        paths.mount(&format!("{}/_actions", layout.root), "/__w/_actions");
        paths.mount(&layout.tool_cache, "/__t");
        paths.mount(&format!("{temp}/_github_home"), HOME_INSIDE);
        paths.mount(&format!("{temp}/_github_workflow"), "/github/workflow");
        paths.add(EXTERNALS, EXTERNALS_INSIDE, true, true);
        paths.add(&layout.root, &format!("/__w/{repository}"), false, false);
        paths.mount(SOCKET, SOCKET);
        paths
    }

    /// Those of the container of a docker action; `job` are those of the container of the job, whose names its inputs may
    /// have.
    pub(in crate::engine) fn of_action(layout: &Layout, repository: &str, job: Option<&Paths>) -> Paths {
        let mut paths = Paths::default();
        let temp = layout.temp();
        paths.mount(&layout.workspace_of(repository), "/github/workspace");
        paths.mount(&temp, "/github/runner_temp");
        paths.mount(&format!("{temp}/_github_home"), HOME_INSIDE);
        paths.mount(&format!("{temp}/_github_workflow"), "/github/workflow");
        paths.mount(&format!("{temp}/{FILE_COMMANDS}"), "/github/file_commands");
        paths.mount(SOCKET, SOCKET);
        let names = job.map(|job| &*job.0).unwrap_or_default().iter().filter_map(|pair| {
            let inside = paths.0.iter().find(|own| own.outside == pair.outside)?.inside.clone();
            Some(Pair { outside: pair.inside.clone(), inside, is_mounted: false, is_read_only: false })
        });
        let names: Vec<Pair> = names.collect();
        paths.0.extend(names);
        paths
    }

    fn mount(&mut self, outside: &str, inside: &str) {
        self.add(outside, inside, true, false);
    }

    fn add(&mut self, outside: &str, inside: &str, is_mounted: bool, is_read_only: bool) {
        let pair = Pair { outside: outside.to_owned(), inside: inside.to_owned(), is_mounted, is_read_only };
        self.0.push(pair);
    }

    /// The values of `--volume`.
    pub(in crate::engine) fn volumes(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().filter(|pair| pair.is_mounted).map(|Pair { outside, inside, is_read_only, .. }| {
            format!("{outside}:{inside}{}", if *is_read_only { ":ro" } else { "" })
        })
    }

    /// A path of the VM as processes in the container know it; other texts stay what they are.
    pub(in crate::engine) fn inside(&self, path: &str) -> String {
        translate(path, self.0.iter().map(|pair| (&*pair.outside, &*pair.inside)))
    }

    /// A path in the container as the VM knows it, the other way round.
    pub(in crate::engine) fn outside(&self, path: &str) -> String {
        translate(path, self.0.iter().map(|pair| (&*pair.inside, &*pair.outside)))
    }
}

/// The directory for the files through which processes in containers and the engine speak, in the temporary directory of
/// the job. It is not that of processes of the VM: in this one root writes.
pub(in crate::engine) const FILE_COMMANDS: &str = "_container_file_commands";

/// The longest directory that the path is in, or is, decides.
fn translate<'a>(path: &str, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let below = |from: &str| {
        let rest = path.strip_prefix(from)?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    };
    let found = pairs.filter_map(|(from, to)| Some((from.len(), to, below(from)?)));
    match found.max_by_key(|(length, ..)| *length) {
        Some((_, to, rest)) => format!("{to}{rest}"),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_job_have_the_names_that_github_gives_them() {
        let paths = Paths::of_job(&Layout::default(), "tool");
        for (outside, inside) in [
            ("/workspace/tool", "/__w/tool/tool"),
            ("/workspace/tool/src/a.rs", "/__w/tool/tool/src/a.rs"),
            ("/workspace", "/__w/tool"),
            ("/workspace/_temp/x.sh", "/__w/_temp/x.sh"),
            ("/workspace/_temp/_github_workflow/event.json", "/github/workflow/event.json"),
            ("/workspace/_actions/o/r/v1/a.js", "/__w/_actions/o/r/v1/a.js"),
            ("/opt/hostedtoolcache/go", "/__t/go"),
            ("/opt/tci/externals/node20/bin/node", "/__e/node20/bin/node"),
        ] {
            assert_eq!(paths.inside(outside), inside);
            assert_eq!(paths.outside(inside), outside);
        }
        for other in ["/workspaces/tool", "/etc/passwd", "see /workspace/tool", "", "workspace"] {
            assert_eq!(paths.inside(other), other, "it is no path of ours");
        }
        assert_eq!(
            paths.inside("/workspace/toolbox/x"),
            "/__w/tool/toolbox/x",
            "another directory beside it"
        );
    }

    #[test]
    fn what_is_mounted_is_what_exists() {
        let paths = Paths::of_job(&Layout::default(), "tool");
        let volumes: Vec<String> = paths.volumes().collect();
        assert!(volumes.contains(&"/workspace/tool:/__w/tool/tool".to_owned()), "{volumes:?}");
        assert!(volumes.contains(&"/opt/tci/externals:/__e:ro".to_owned()), "{volumes:?}");
        assert!(!volumes.iter().any(|volume| volume.starts_with("/workspace:")), "{volumes:?}");
    }

    #[test]
    fn an_action_knows_the_names_of_the_vm_and_of_the_jobs_container() {
        let job = Paths::of_job(&Layout::default(), "tool");
        let paths = Paths::of_action(&Layout::default(), "tool", Some(&job));
        for (outside, inside) in [
            ("/workspace/tool/a", "/github/workspace/a"),
            ("/__w/tool/tool/a", "/github/workspace/a"),
            ("/__w/_temp/a", "/github/runner_temp/a"),
            ("/workspace/_temp/_container_file_commands/env_1", "/github/file_commands/env_1"),
            ("/github/home/.npmrc", "/github/home/.npmrc"),
            ("/opt/hostedtoolcache", "/opt/hostedtoolcache"),
        ] {
            assert_eq!(paths.inside(outside), inside);
        }
        let alone = Paths::of_action(&Layout::default(), "tool", None);
        assert_eq!(alone.inside("/__w/tool/tool"), "/__w/tool/tool");
    }
}
