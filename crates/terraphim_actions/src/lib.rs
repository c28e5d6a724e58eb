//! The GitHub Actions language: workflow files, expressions, triggers, plans, and what steps say to
//! the runner. Everything is pure: no files, no clock, no environment, no randomness, no tasks. The
//! caller brings texts and contexts and gets values, or messages in GitHub's own words with the
//! place in the file.
//!
//! # Map
//!
//! | module | what it does |
//! |---|---|
//! | [`workflow`] | reads a workflow: [`workflow::Workflow::parse`], with called workflows [`workflow::Workflow::load`] |
//! | [`action`] | reads an `action.yml` |
//! | [`template`] | a value that may hold expressions, and its evaluation |
//! | [`expr`] | expressions: [`expr::parse`], [`expr::Expr::evaluate`], values, contexts, functions |
//! | [`resolve`] | typed values of keys: containers, services, groups, environments, defaults |
//! | [`matrix`] | the jobs of a `strategy` |
//! | [`trigger`] | does an event start a workflow, and why; patterns; cron |
//! | [`plan`] | what a run will do, as text, JSON, Mermaid or Graphviz |
//! | [`command`] | `::commands::` in the output of a step |
//! | [`env_file`] | `GITHUB_ENV`, `GITHUB_OUTPUT`, `GITHUB_STATE`, `GITHUB_PATH` |
//! | [`mask`] | hiding secrets, also in output that comes in pieces |
//! | [`diagnostic`] | messages about a file |
//! | [`span`] | places in a file |
//!
//! # The way of a file
//!
//! Text, then YAML events, then a [`template::Template`] that the schema has let through (unknown
//! keys, wrong kinds and forbidden contexts are one message each), then the typed model. A key that
//! may hold expressions stays a template until its contexts are known; then [`resolve`] and the
//! methods of [`template::Template`] give its value. The schema is data, in `schema/*.schema`: a new
//! key of GitHub's is a line there.
//!
//! # Example
//!
//! ```
//! use terraphim_actions::expr::{NoFunctions, Object, Scope};
//! use terraphim_actions::workflow::{StepKind, Workflow};
//! use terraphim_actions::{matrix, trigger};
//!
//! let text = "
//! on: {push: {branches: [main]}}
//! jobs:
//!   test:
//!     runs-on: ubuntu-latest
//!     strategy:
//!       matrix: {os: [linux, windows], debug: [true]}
//!     steps:
//!       - run: make ${{ matrix.os }} REF=${{ github.ref }}
//! ";
//! let workflow = Workflow::parse(text, ".github/workflows/ci.yml").expect("a valid workflow");
//!
//! // Does a push to `main` start it?
//! let push = trigger::Event { branch: Some("main".into()), ..trigger::Event::new("push") };
//! assert!(trigger::decide(&workflow.on, &push).starts);
//!
//! // The jobs of the matrix.
//! let job = &workflow.jobs["test"];
//! let mut contexts = Object::new();
//! contexts.insert("github", [("ref", "refs/heads/main")].into_iter().collect::<Object>());
//! let strategy = matrix::expand(job.strategy.as_ref(), &Scope::of(&contexts), "test").expect("a matrix");
//! let names: Vec<&str> = strategy.configurations.iter().map(|one| one.name.as_str()).collect();
//! assert_eq!(names, ["test (linux, true)", "test (windows, true)"]);
//!
//! // What the step of the second job runs.
//! contexts.insert("matrix", strategy.configurations[1].matrix.clone());
//! let StepKind::Run { run, .. } = &job.steps[0].kind else { panic!("a script") };
//! let script = run.text_value(&Scope::new(&contexts, &NoFunctions)).expect("a text");
//! assert_eq!(script, "make windows REF=refs/heads/main");
//!
//! // Errors are GitHub's, with their place.
//! let errors = Workflow::parse("on: push\njobs: {a: {runs-on: x, stepz: []}}", "w.yml").unwrap_err();
//! assert_eq!(errors[0].to_string(), "w.yml (Line: 2, Col: 24): Unexpected value 'stepz'");
//! ```

pub mod action;
pub mod command;
pub mod diagnostic;
pub mod env_file;
pub mod expr;
pub mod mask;
pub mod matcher;
pub mod matrix;
pub mod plan;
pub mod resolve;
mod schema;
pub mod span;
pub mod template;
pub mod trigger;
pub mod workflow;
mod yaml;
