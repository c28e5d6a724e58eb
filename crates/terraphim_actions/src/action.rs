//! `action.yml`: what an action takes, gives and runs.

use crate::diagnostic::Diagnostic;
use crate::expr::{self, Allowed, Expr, fold};
use crate::schema;
use crate::span::Span;
use crate::template::{self, Limits, Node, Template};
use crate::workflow::{Condition, Step, composite_steps};
use indexmap::IndexMap;
use std::sync::Arc;

/// The longest and deepest an action file may be; GitHub's limits for manifests are those of
/// workflows.
const MAX_DEPTH: usize = 100;
const MAX_BYTES: usize = 10 * 1024 * 1024;

/// An action.
#[derive(Clone, Debug)]
pub struct Action {
    /// `name`
    pub name: Option<String>,
    /// `description`
    pub description: Option<String>,
    /// `inputs` in the order of the file; see [`Action::input`].
    pub inputs: IndexMap<String, Input>,
    /// `outputs` in the order of the file.
    pub outputs: IndexMap<String, Output>,
    /// `runs`
    pub runs: Runs,
}

/// An input of an action.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// Where it is named.
    pub span: Span,
    /// `description`
    pub description: Option<String>,
    /// `required`; GitHub does not enforce it.
    pub required: bool,
    /// `default`, evaluated only if the input is not given.
    pub default: Option<Template>,
    /// `deprecationMessage`: to be shown as a warning if the input is given.
    pub deprecation_message: Option<String>,
}

/// An output of an action.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// `description`
    pub description: Option<String>,
    /// `value`; only composite actions have one.
    pub value: Option<Template>,
}

/// How an action runs.
#[derive(Clone, Debug)]
pub enum Runs {
    /// A program for node.
    Node(NodeRuns),
    /// A container.
    Docker(DockerRuns),
    /// Steps.
    Composite(Vec<Step>),
}

/// A version of node that actions run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeVersion {
    /// node 20, also for `node12` and `node16`.
    Node20,
    /// node 24
    Node24,
}

/// `runs` of a node action.
#[derive(Clone, Debug)]
pub struct NodeRuns {
    /// `using` as it is written, for instance `node16`.
    pub using: String,
    /// The version that it means.
    pub version: NodeVersion,
    /// `main`
    pub main: String,
    /// `pre` and its condition.
    pub pre: Option<Hook>,
    /// `post` and its condition.
    pub post: Option<Hook>,
}

/// `runs` of a docker action.
#[derive(Clone, Debug)]
pub struct DockerRuns {
    /// `image`: `docker://image`, or a Dockerfile in the action.
    pub image: String,
    /// `entrypoint`
    pub entrypoint: Option<String>,
    /// `args`
    pub args: Vec<Template>,
    /// `env`
    pub env: Option<Template>,
    /// `pre-entrypoint` and its condition.
    pub pre: Option<Hook>,
    /// `post-entrypoint` and its condition.
    pub post: Option<Hook>,
}

/// A program that runs before or after the main one.
#[derive(Clone, Debug)]
pub struct Hook {
    /// The program.
    pub program: String,
    /// `pre-if` or `post-if`; `always()` unless written. No `success()` is implied.
    pub condition: Condition,
}

impl Action {
    /// Reads an `action.yml`. `file` is how messages name it.
    ///
    /// # Errors
    /// All errors of the file, at most ten.
    pub fn parse(text: &str, file: &str) -> Result<Self, Vec<Diagnostic>> {
        let mut limits = Limits::new(MAX_DEPTH, MAX_BYTES);
        let action = match limits.file(file) {
            Ok(index) => template::read(text, index, &schema::ACTION, "action", &mut limits)
                .filter(|_| limits.errors.is_empty())
                .and_then(|root| convert(&mut limits, &root)),
            Err(fatal) => {
                limits.fatal(0, fatal);
                None
            }
        };
        match action {
            Some(action) if limits.errors.is_empty() => Ok(action),
            _ => Err(limits.errors),
        }
    }

    /// An input by its name, without regard to case.
    #[must_use]
    pub fn input(&self, name: &str) -> Option<&Input> {
        self.inputs.iter().find(|(known, _)| fold::eq(known, name)).map(|(_, input)| input)
    }
}

/// The variable that an input is passed in: `INPUT_` and the name in upper case, with `_` for spaces.
#[must_use]
pub fn input_variable(name: &str) -> String {
    format!("INPUT_{}", name.replace(' ', "_").to_uppercase())
}

fn convert(limits: &mut Limits, root: &Template) -> Option<Action> {
    let inputs = root.get("inputs").map(Template::entries).unwrap_or_default();
    let outputs = root.get("outputs").map(Template::entries).unwrap_or_default();
    // The schema lets other keys through and takes `Runs` for the required one; it is not.
    let Some(place) = root.get("runs") else {
        limits.error_at(root, "Required property is missing: runs");
        return None;
    };
    Some(Action {
        name: text(root, "name"),
        description: text(root, "description"),
        inputs: inputs.iter().map(|(name, value)| (key(name), input(name.span, value))).collect(),
        outputs: outputs.iter().map(|(name, value)| (key(name), output(value))).collect(),
        runs: runs(limits, place)?,
    })
}

fn key(name: &Template) -> String {
    name.as_str().unwrap_or_default().to_owned()
}

fn text(template: &Template, key: &str) -> Option<String> {
    Some(template.get(key)?.as_str()?.to_owned())
}

fn input(span: Span, value: &Template) -> Input {
    Input {
        span,
        description: text(value, "description"),
        required: matches!(value.get("required").map(|required| &required.node), Some(Node::Bool(true))),
        default: value.get("default").cloned(),
        deprecation_message: text(value, "deprecationMessage"),
    }
}

fn output(value: &Template) -> Output {
    Output { description: text(value, "description"), value: value.get("value").cloned() }
}

fn runs(limits: &mut Limits, runs: &Template) -> Option<Runs> {
    let using = text(runs, "using").unwrap_or_default();
    if using.eq_ignore_ascii_case("docker") {
        return Some(Runs::Docker(DockerRuns {
            image: required(limits, runs, "image")?,
            entrypoint: text(runs, "entrypoint"),
            args: runs.get("args").map(|args| args.items().to_vec()).unwrap_or_default(),
            env: runs.get("env").cloned(),
            pre: hook(limits, runs, "pre-entrypoint", "pre-if").ok()?,
            post: hook(limits, runs, "post-entrypoint", "post-if").ok()?,
        }));
    }
    if using.eq_ignore_ascii_case("composite") {
        let Some(steps) = runs.get("steps") else {
            limits.error_at(runs, "You are using a composite action but there are no steps provided.");
            return None;
        };
        return Some(Runs::Composite(composite_steps(limits, steps)));
    }
    let version = match using.to_ascii_lowercase().as_str() {
        "node12" | "node16" | "node20" => NodeVersion::Node20,
        "node24" => NodeVersion::Node24,
        _ => {
            let place = runs.get("using").unwrap_or(runs);
            let known = "'docker', 'composite', 'node12', 'node16', 'node20' or 'node24'";
            limits.error_at(place, format!("'using: {using}' is not supported, use {known} instead."));
            return None;
        }
    };
    Some(Runs::Node(NodeRuns {
        using,
        version,
        main: required(limits, runs, "main")?,
        pre: hook(limits, runs, "pre", "pre-if").ok()?,
        post: hook(limits, runs, "post", "post-if").ok()?,
    }))
}

fn required(limits: &mut Limits, runs: &Template, key: &str) -> Option<String> {
    let value = text(runs, key);
    if value.is_none() {
        limits.error_at(runs, format!("Required property is missing: {key}"));
    }
    value
}

/// An error was added to the limits.
struct Reported;

fn hook(limits: &mut Limits, runs: &Template, key: &str, condition: &str) -> Result<Option<Hook>, Reported> {
    let Some(program) = text(runs, key) else { return Ok(None) };
    let template = runs.get(condition);
    let written = match template.map(|template| &template.node) {
        Some(Node::Expr(expr)) => expr.source().to_owned(),
        Some(_) => template.and_then(Template::literal_text).unwrap_or_default().into_owned(),
        None => String::new(),
    };
    let source = if written.trim().is_empty() { "always()" } else { &written };
    let context = schema::ACTION.get("runs-if").map(|definition| definition.context.as_slice());
    let expr: Result<Option<Expr>, _> = expr::parse(source, &Allowed::new(context.unwrap_or_default()));
    match expr {
        Ok(Some(expr)) => {
            let span = template.map(|template| template.span).unwrap_or_default();
            let written = Some(Arc::from(source));
            Ok(Some(Hook { program, condition: Condition { expr: Arc::new(expr), span, file: 0, written } }))
        }
        Ok(None) => Ok(None),
        Err(error) => {
            limits.error_at(template.unwrap_or(runs), error.message);
            Err(Reported)
        }
    }
}

/// The image of a docker action: one to pull, or a Dockerfile to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerImage {
    /// An image by its name.
    Pull(String),
    /// The path of a Dockerfile in the action.
    Build(String),
}

impl DockerRuns {
    /// What `image` says.
    #[must_use]
    pub fn docker_image(&self) -> DockerImage {
        match self.image.strip_prefix("docker://") {
            Some(image) => DockerImage::Pull(image.to_owned()),
            None => DockerImage::Build(self.image.clone()),
        }
    }
}

/// The unknown inputs among `given`, for the warning that GitHub prints.
#[must_use]
pub fn unexpected_inputs<'a>(action: &Action, given: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    given.into_iter().filter(|name| action.input(name).is_none()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::StepKind;

    fn action(text: &str) -> Action {
        Action::parse(text, "action.yml").expect("an action")
    }

    #[test]
    fn a_node_action() {
        let action = action(
            "name: n\ninputs:\n  Who To-greet:\n    default: ${{ github.actor }}\n    required: true\nruns:\n  using: \
             node24\n  main: a.js\n  post: b.js\n  post-if: success()\n  pre: c.js\n",
        );
        let Runs::Node(node) = &action.runs else { panic!("{:?}", action.runs) };
        assert_eq!((node.version, node.main.as_str()), (NodeVersion::Node24, "a.js"));
        assert_eq!(node.post.as_ref().expect("post").condition.expr.source(), "success()");
        assert_eq!(node.pre.as_ref().expect("pre").condition.expr.source(), "always()");
        assert!(action.input("WHO TO-GREET").expect("the input").required);
        assert_eq!(input_variable("Who To-greet"), "INPUT_WHO_TO-GREET");
        assert_eq!(unexpected_inputs(&action, ["who to-greet", "x"]), ["x"]);
    }

    #[test]
    fn a_composite_action() {
        let action = action(
            "outputs:\n  o:\n    value: ${{ steps.s.outputs.x }}\nruns:\n  using: composite\n  steps:\n    - id: s\n      \
             run: echo ${{ inputs.x }}\n      shell: bash\n    - uses: ./other\n      if: inputs.x\n",
        );
        let Runs::Composite(steps) = &action.runs else { panic!("{:?}", action.runs) };
        assert!(matches!(steps[0].kind, StepKind::Run { shell: Some(_), .. }));
        assert_eq!(steps[1].condition.expr.source(), "success() && (inputs.x)");
        assert_eq!(steps[1].id, "__self");
        assert!(action.outputs["o"].value.is_some());
    }

    #[test]
    fn a_docker_action() {
        let action = action("runs:\n  using: Docker\n  image: Dockerfile\n  args: ['${{ inputs.a }}', b]\n");
        let Runs::Docker(docker) = &action.runs else { panic!("{:?}", action.runs) };
        assert_eq!(docker.docker_image(), DockerImage::Build("Dockerfile".into()));
        assert_eq!(docker.args.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_said_at_its_place() {
        for (text, place, words) in [
            ("name: x\n", (1, 1), "Required property is missing: runs"),
            ("Runs: {using: node20, main: x}\n", (1, 1), "Required property is missing: runs"),
            ("runs:\n  using: node99\n  main: x\n", (2, 10), "is not supported"),
            (
                "runs:\n  using: composite\n  steps:\n    - run: x\n",
                (4, 7),
                "Required property is missing: shell",
            ),
            (
                "runs:\n  using: node20\n  main: x\n  pre: y\n  pre-if: nosuch()\n",
                (5, 11),
                "Unrecognized function",
            ),
            ("runs:\n  using: node20\n  main: x\n  color: y\n", (4, 3), "Unexpected value 'color'"),
        ] {
            let errors = Action::parse(text, "action.yml").expect_err("errors");
            assert_eq!((errors[0].line, errors[0].col), place, "{errors:?}");
            assert!(errors[0].message.contains(words), "{errors:?}");
        }
    }
}
