//! JavaScript actions: a program of the action, run by the guest's node.

use std::sync::Arc;

use indexmap::IndexMap;
use terraphim_actions::action::{NodeRuns, NodeVersion};

use super::inputs::Inputs;
use super::load::Loaded;
use crate::engine::container::{EXTERNALS, EXTERNALS_INSIDE};
use crate::engine::event::{AnnotationLevel, Conclusion};
use crate::engine::job::Job;
use crate::engine::level::{Holder, boxed};
use crate::engine::script::Program;
use crate::engine::services::Consumer;
use crate::engine::step::{Frame, WorkEnd};
use crate::error::Result;

/// Prints version and path of every node of the guest. Its images have node in `/opt/nodeNN` beside that of the
/// distribution.
const FIND: &str = r#"for n in /opt/node*/bin/node "$(command -v node)" "$(command -v nodejs)"; do
[ -x "$n" ] && echo "$("$n" --version) $n"; done; :"#;

/// The nodes of a guest: major version and path, in the order in which they were found.
pub(in crate::engine) type Nodes = Vec<(u32, String)>;

/// Which stage of a JavaScript action to run.
pub(super) struct NodeCall<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) node: &'a NodeRuns,
    /// The program, from the directory of the action.
    pub(super) program: &'a str,
    pub(super) inputs: &'a Inputs,
    /// The path of the step that uses the action.
    pub(super) path: &'a str,
}

impl Job {
    /// Runs a program of a JavaScript action.
    pub(super) async fn run_node(&mut self, frame: &Frame, call: NodeCall<'_>) -> Result<WorkEnd> {
        let nodes = match self.job_container().is_some() {
            false => self.nodes().await?,
            true => self.nodes_for_containers().await?,
        };
        let Some((major, node)) = choose(call.node.version, &nodes) else {
            let place = if self.job_container().is_some() { Some(EXTERNALS) } else { None };
            return Ok(self
                .failed(frame, none_of(call.node.version, &nodes, &call.loaded.file, place))
                .await);
        };
        let mut said = Vec::new();
        if let Some(text) = instead(&call.node.using, *major) {
            said = self.tell(frame, AnnotationLevel::Notice, [text]).await;
        }
        let mut env: IndexMap<String, String> = call.inputs.variables().collect();
        let state = self.states.get(call.path).into_iter().flatten();
        env.extend(state.map(|(name, value)| (format!("STATE_{name}"), value.clone())));
        let program = Program {
            argv: vec![node.clone(), self.seen(&format!("{}/{}", call.loaded.directory, call.program))],
            directory: self.shared.workspace(),
            files: Vec::new(),
            env,
            consumer: Consumer::Action,
            container: None,
        };
        self.say_script(frame, &format!("uses {} {}", call.loaded.file, call.program)).await;
        let mut end = boxed(|| self.run_program(frame, program)).await?;
        self.states.entry(call.path.to_owned()).or_default().extend(std::mem::take(&mut end.state));
        end.annotations.splice(0..0, said);
        Ok(end)
    }

    /// The nodes of the guest that run in any container, by their paths there.
    async fn nodes_for_containers(&mut self) -> Result<Arc<Nodes>> {
        let list = format!("ls -d {EXTERNALS}/node*/bin/node 2>/dev/null; :");
        let spec = self.spec(
            ["sh", "-c", &list].map(str::to_owned).to_vec(),
            &IndexMap::new(),
            "/".to_owned(),
            None,
        );
        let said = self.ask_tool(&spec, &Holder::nobody()).await?;
        Ok(Arc::new(said.stdout.lines().filter_map(inside).collect()))
    }

    /// The nodes that the guest has.
    async fn nodes(&mut self) -> Result<Arc<Nodes>> {
        if let Some(known) = self.place.nodes.get() {
            return Ok(Arc::clone(known));
        }
        let argv = ["sh", "-c", FIND].map(str::to_owned).to_vec();
        let mut spec = self.spec(argv, &IndexMap::new(), "/".to_owned(), None);
        // What steps put before the search path is theirs alone.
        let path = self.shared.inputs.layout.path.clone();
        spec.env = vec![("PATH".to_owned(), path)];
        let said = self.ask_tool(&spec, &Holder::nobody()).await?;
        let nodes = Arc::new(read(&said.stdout));
        if said.conclusion == Conclusion::Success {
            // Another job may have asked at the same time; the answer is the same.
            let _ = self.place.nodes.set(Arc::clone(&nodes));
        }
        Ok(nodes)
    }
}

/// Reads lines such as `v20.19.2 /usr/bin/node`.
fn read(text: &str) -> Nodes {
    let line = |line: &str| {
        let (version, path) = line.split_once(' ')?;
        Some((version.strip_prefix('v')?.split('.').next()?.parse().ok()?, path.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

/// Reads a path such as `/opt/tci/externals/node20/bin/node`.
fn inside(path: &str) -> Option<(u32, String)> {
    let below = path.strip_prefix(EXTERNALS)?;
    let major = below.strip_prefix("/node")?.strip_suffix("/bin/node")?.parse().ok()?;
    Some((major, format!("{EXTERNALS_INSIDE}{below}")))
}

fn wanted(version: NodeVersion) -> u32 {
    match version {
        NodeVersion::Node20 => 20,
        NodeVersion::Node24 => 24,
    }
}

/// The node for a version: that version, else the next newer one, as GitHub runs actions for node 20 on node 24 since
/// June 2026. Never an older one.
fn choose(version: NodeVersion, nodes: &Nodes) -> Option<&(u32, String)> {
    nodes.iter().filter(|(major, _)| *major >= wanted(version)).min_by_key(|(major, _)| *major)
}

/// `externals` is where nodes for containers are, if one of those was looked for.
fn none_of(version: NodeVersion, nodes: &Nodes, file: &str, externals: Option<&str>) -> String {
    let wanted = wanted(version);
    let there: Vec<String> = nodes.iter().map(|(major, path)| format!("{major} ({path})")).collect();
    let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
    let place = match externals {
        None => format!("/opt/node{wanted} or in the search path, such as `debian-testing`"),
        Some(directory) => format!("{directory}/node{wanted} for the containers of jobs"),
    };
    format!(
        "{file} needs node {wanted}, and the image of this VM has {there}: use an image with node {wanted} in {place}"
    )
}

/// What to say if the node that runs is another one than the action asks for.
fn instead(using: &str, major: u32) -> Option<String> {
    let asked = using.to_ascii_lowercase();
    let asked = asked.strip_prefix("node")?.to_owned();
    (asked != major.to_string())
        .then(|| format!("The action asks for node {asked} and runs on node {major}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_is_the_one_that_is_asked_for_or_a_newer_one() {
        let nodes = read("v24.1.0 /opt/node24/bin/node\nv20.19.2 /usr/bin/node\nnonsense\n");
        let path = |version, nodes: &Nodes| choose(version, nodes).map(|(major, _)| *major);
        assert_eq!(path(NodeVersion::Node20, &nodes), Some(20));
        assert_eq!(path(NodeVersion::Node24, &nodes), Some(24));
        let old = read("v20.19.2 /usr/bin/node\n");
        assert_eq!(path(NodeVersion::Node24, &old), None);
        assert!(none_of(NodeVersion::Node24, &old, "a", None).contains("has 20 (/usr/bin/node)"));
        assert!(
            none_of(NodeVersion::Node24, &old, "a", Some("/x"))
                .ends_with("in /x/node24 for the containers of jobs")
        );
        assert_eq!(path(NodeVersion::Node20, &read("v24.1.0 /x\nv18.0.0 /y\n")), Some(24));
    }

    #[test]
    fn a_node_for_containers_is_named_after_its_version() {
        let node = inside("/opt/tci/externals/node20/bin/node");
        assert_eq!(node, Some((20, "/__e/node20/bin/node".to_owned())));
        assert_eq!(inside("/opt/tci/externals/nodeX/bin/node"), None);
    }

    #[test]
    fn another_node_is_said() {
        assert_eq!(instead("node20", 20), None);
        assert_eq!(instead("Node16", 20).unwrap(), "The action asks for node 16 and runs on node 20.");
    }
}
