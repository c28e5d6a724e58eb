//! A plan as a graph.

use super::{Known, Plan, PlannedJob};
use std::fmt::Write;

/// Nodes and edges of all jobs; those of called workflows hang on their caller.
struct Graph<'a> {
    nodes: Vec<(&'a PlannedJob, String)>,
    edges: Vec<(String, String)>,
}

impl<'a> Graph<'a> {
    fn new(plan: &'a Plan) -> Self {
        let mut graph = Self { nodes: Vec::new(), edges: Vec::new() };
        graph.add(&plan.jobs, None);
        graph
    }

    fn add(&mut self, jobs: &'a [PlannedJob], caller: Option<&str>) {
        for job in jobs {
            self.nodes.push((job, label(job)));
            self.edges.extend(job.needs.iter().map(|need| (need.clone(), job.id.clone())));
            if let (Some(caller), true) = (caller, job.needs.is_empty()) {
                self.edges.push((caller.to_owned(), job.id.clone()));
            }
            if let Some(call) = &job.call {
                self.add(&call.jobs, Some(&job.id));
            }
        }
    }
}

fn label(job: &PlannedJob) -> String {
    match &job.instances {
        Known::Now(instances) if instances.len() == 1 => job.id.clone(),
        Known::Now(instances) => format!("{} ({} jobs)", job.id, instances.len()),
        Known::Later(_) => format!("{} (matrix later)", job.id),
    }
}

impl Plan {
    /// The graph in the language of Mermaid.
    #[must_use]
    pub fn mermaid(&self) -> String {
        let graph = Graph::new(self);
        let mut out = String::from("flowchart LR\n");
        // Ids may hold words of the language, such as `end`; numbers do not.
        let number = |id: &str| graph.nodes.iter().position(|(job, _)| job.id.eq_ignore_ascii_case(id));
        for (index, (_, label)) in graph.nodes.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "  j{index}[\"{}\"]", label.replace('"', "#quot;"));
        }
        for (from, to) in &graph.edges {
            if let (Some(from), Some(to)) = (number(from), number(to)) {
                let _ = writeln!(out, "  j{from} --> j{to}");
            }
        }
        out
    }

    /// The graph in the language of Graphviz.
    #[must_use]
    pub fn dot(&self) -> String {
        let graph = Graph::new(self);
        let quote = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let mut out = String::from("digraph workflow {\n  rankdir = LR;\n  node [shape = box];\n");
        for (job, label) in &graph.nodes {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "  {} [label = {}];", quote(&job.id), quote(label));
        }
        for (from, to) in &graph.edges {
            let _ = writeln!(out, "  {} -> {};", quote(from), quote(to));
        }
        out.push_str("}\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::Plan;
    use crate::expr::{Object, Value, from_json};
    use crate::workflow::{Loader, Options, Workflow};

    const TEXT: &str = "\
name: CI
on: push
concurrency: ci-${{ github.ref }}
jobs:
  test:
    needs: build
    runs-on: ${{ matrix.os }}
    strategy:
      matrix: {os: [a, b]}
    steps: [{run: x}, {run: y}]
  build:
    if: github.ref == 'main'
    runs-on: a
    steps: [{run: x}]
  deploy:
    needs: [build, test]
    strategy:
      matrix: ${{ fromJSON(needs.build.outputs.matrix) }}
    uses: o/r/.github/workflows/d.yml@v1
";

    fn plan() -> Plan {
        let mut loader = Loader::default();
        loader.add(
            "o/r/.github/workflows/d.yml@v1",
            "on: workflow_call\njobs: {go: {runs-on: x, steps: [{run: x}]}}",
        );
        let workflow = Workflow::load(TEXT, "w.yml", &loader, &Options::default()).expect("a workflow");
        let Ok(Value::Obj(contexts)) = from_json(r#"{"github": {"ref": "main"}}"#) else { panic!("JSON") };
        Plan::new(&workflow, &contexts).expect("a plan")
    }

    #[test]
    fn text_marks_what_is_known_later() {
        let expected = "\
CI
  concurrency: ci-main
  build
    build on a, 1 step
  test  needs build
    test (a) on a, 2 steps
    test (b) on b, 2 steps
  deploy  needs build, test
    matrix waits for needs.build.outputs.matrix
    calls o/r/.github/workflows/d.yml@v1
      deploy/go
        go on x, 1 step
";
        assert_eq!(plan().to_string(), expected);
    }

    #[test]
    fn graphs_have_all_edges() {
        let mermaid = plan().mermaid();
        assert!(mermaid.contains("j1[\"test (2 jobs)\"]") && mermaid.contains("  j0 --> j1\n"), "{mermaid}");
        let dot = plan().dot();
        assert!(dot.contains("\"deploy\" -> \"deploy/go\";"), "{dot}");
    }

    #[test]
    fn a_condition_that_fails_now_is_skipped_now() {
        let workflow = Workflow::parse(TEXT, "w.yml").expect("a workflow");
        let mut contexts = Object::new();
        contexts.insert("github", [("ref", "other")].into_iter().collect::<Object>());
        let plan = Plan::new(&workflow, &contexts).expect("a plan");
        assert_eq!(plan.jobs[0].runs.now(), Some(&false));
        assert_eq!(plan.jobs[1].runs.now(), None);
        let json = serde_json::to_value(&plan).expect("JSON");
        assert_eq!(json["jobs"][1]["instances"]["now"][1]["matrix"]["os"], "b");
    }
}
