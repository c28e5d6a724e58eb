//! Values of keys of jobs and steps, once their contexts are known.
//!
//! Each function takes what a key holds and a [`Scope`], and gives a typed value. What an
//! expression gave is checked as strictly as what was written.

mod inputs;

pub use inputs::{InputError, call_inputs, call_outputs, call_secrets, dispatch_inputs, dispatch_texts};

use crate::expr::Scope;
use crate::matrix::{self, Strategy};
use crate::template::{Node, Template, TemplateError};
use indexmap::IndexMap;

/// `runs-on`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunsOn {
    /// The labels that a runner must have, all of them.
    pub labels: Vec<String>,
    /// The group the runner must be in.
    pub group: Option<String>,
}

/// `concurrency`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// The group; groups are compared without regard to case.
    pub group: String,
    /// Does a new one cancel the running one?
    pub cancel_in_progress: bool,
    /// How many may wait.
    pub queue: Queue,
}

/// How many jobs or runs may wait in a concurrency group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Queue {
    /// One: a newer one takes its place.
    #[default]
    Single,
    /// All, in order.
    Max,
}

/// `environment`
#[derive(Clone, Debug)]
pub struct Environment {
    /// The name.
    pub name: String,
    /// The address to show, evaluated when the job is done.
    pub url: Option<Template>,
    /// Is a deployment recorded?
    pub deployment: bool,
}

/// `defaults.run`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// `shell`
    pub shell: Option<String>,
    /// `working-directory`
    pub working_directory: Option<String>,
}

/// `container`, or one of `services`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// The image, without `docker://`.
    pub image: String,
    /// `env`
    pub env: IndexMap<String, String>,
    /// `ports`
    pub ports: Vec<String>,
    /// `volumes`
    pub volumes: Vec<String>,
    /// `options`
    pub options: Option<String>,
    /// `credentials`
    pub credentials: Option<Credentials>,
    /// `entrypoint` of a service.
    pub entrypoint: Option<String>,
    /// `command` of a service.
    pub command: Option<String>,
}

/// A user of an image registry. The password does not show up in debug output.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// `username`
    pub username: String,
    /// `password`
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).field("password", &"***").finish()
    }
}

/// `strategy`: the jobs of a matrix. `name` is the name of the job.
///
/// # Errors
/// If an expression cannot be evaluated or the strategy is not valid.
pub fn strategy(
    strategy: Option<&Template>,
    scope: &Scope<'_>,
    name: &str,
) -> Result<Strategy, TemplateError> {
    matrix::expand(strategy, scope, name)
}

/// The name of a job: `name` evaluated with the values of its matrix, or `default` if that is empty.
///
/// # Errors
/// If an expression cannot be evaluated or gives no text.
pub fn job_name(name: &Template, scope: &Scope<'_>, default: &str) -> Result<String, TemplateError> {
    let name = name.text_value(scope)?;
    Ok(if name.is_empty() { default.to_owned() } else { name })
}

/// `runs-on`
///
/// # Errors
/// If an expression cannot be evaluated or gives something else.
pub fn runs_on(template: &Template, scope: &Scope<'_>) -> Result<RunsOn, TemplateError> {
    let resolved = template.resolve_as("runs-on", scope)?;
    let labels = match &resolved.node {
        Node::Map(_) => resolved.get("labels").map(texts).unwrap_or_default(),
        _ => texts(&resolved),
    };
    Ok(RunsOn { labels, group: text(&resolved, "group") })
}

/// `concurrency` of a workflow or a job.
///
/// # Errors
/// If an expression cannot be evaluated or gives something else, or the group is empty or too long.
pub fn concurrency(template: &Template, scope: &Scope<'_>) -> Result<Concurrency, TemplateError> {
    let resolved = template.resolve_as("workflow-concurrency", scope)?;
    let group = match &resolved.node {
        Node::Map(_) => text(&resolved, "group").unwrap_or_default(),
        _ => resolved.as_str().unwrap_or_default().to_owned(),
    };
    if group.is_empty() {
        return Err(resolved.fail("Concurrency group name cannot be empty"));
    }
    if crate::expr::memory::utf16_len(&group) > 400 {
        return Err(resolved.fail("Concurrency group name must be less than 400 characters"));
    }
    let queue = if text(&resolved, "queue").as_deref() == Some("max") { Queue::Max } else { Queue::Single };
    Ok(Concurrency { group, cancel_in_progress: is_true(resolved.get("cancel-in-progress")), queue })
}

/// `environment`; `None` if its name is empty.
///
/// # Errors
/// If an expression cannot be evaluated or gives something else.
pub fn environment(template: &Template, scope: &Scope<'_>) -> Result<Option<Environment>, TemplateError> {
    let (name, url, deployment) = match &template.node {
        Node::Map(_) => {
            let name = template.get("name").map(|name| name.text_value(scope)).transpose()?;
            let deployment = template.get("deployment").map(|value| value.bool_value(scope)).transpose()?;
            (name.unwrap_or_default(), template.get("url").cloned(), deployment.unwrap_or(true))
        }
        _ => {
            let resolved = template.resolve_as("job-environment", scope)?;
            match &resolved.node {
                Node::Map(_) => {
                    let deployment = resolved.get("deployment").is_none_or(|value| is_true(Some(value)));
                    (text(&resolved, "name").unwrap_or_default(), resolved.get("url").cloned(), deployment)
                }
                _ => (resolved.as_str().unwrap_or_default().to_owned(), None, true),
            }
        }
    };
    Ok((!name.is_empty()).then_some(Environment { name, url, deployment }))
}

/// `defaults` of a workflow or a job.
///
/// # Errors
/// If an expression cannot be evaluated or gives something else.
pub fn defaults(template: &Template, scope: &Scope<'_>) -> Result<Defaults, TemplateError> {
    let resolved = template.resolve_as("job-defaults", scope)?;
    let run = resolved.get("run");
    let get = |key: &str| run.and_then(|run| text(run, key));
    Ok(Defaults { shell: get("shell"), working_directory: get("working-directory") })
}

/// `timeout-minutes` and `cancel-timeout-minutes`, cut to whole minutes.
///
/// # Errors
/// If an expression cannot be evaluated or gives no number.
pub fn minutes(template: &Template, scope: &Scope<'_>) -> Result<i32, TemplateError> {
    let number = template.number_value(scope)?;
    #[expect(clippy::cast_possible_truncation, reason = "GitHub cuts the fraction; `as` saturates")]
    Ok(number as i32)
}

/// `container`; `None` if its image is empty.
///
/// # Errors
/// If an expression cannot be evaluated or gives something else.
pub fn container(template: &Template, scope: &Scope<'_>) -> Result<Option<Container>, TemplateError> {
    if has_no_image(template, scope)? {
        return Ok(None);
    }
    Ok(read_container(&template.resolve_as("container", scope)?))
}

/// Whether the image is an expression that yields nothing: the way to say that there is to be no container. A written
/// image that is empty is refused when the file is read.
fn has_no_image(template: &Template, scope: &Scope<'_>) -> Result<bool, TemplateError> {
    match template.get("image").filter(|image| image.has_expression()) {
        Some(image) => Ok(image.text_value(scope)?.is_empty()),
        None => Ok(false),
    }
}

/// `services`: containers by name; `None` for one whose image is empty, which is left out.
///
/// # Errors
/// If an expression cannot be evaluated or gives something else.
pub fn services(
    template: &Template,
    scope: &Scope<'_>,
) -> Result<IndexMap<String, Option<Container>>, TemplateError> {
    let name = |name: &Template| name.as_str().unwrap_or_default().to_owned();
    if template.has_expression() && template.entries().is_empty() {
        let resolved = template.resolve_as("services", scope)?;
        let services = resolved.entries().iter();
        return Ok(services.map(|(key, value)| (name(key), read_container(value))).collect());
    }
    let mut services = IndexMap::new();
    for (key, value) in template.entries() {
        let is_none = has_no_image(value, scope)?;
        let key = name(&key.resolve_as("text", scope)?);
        let service = if is_none { None } else { read_container(&value.resolve_as("service", scope)?) };
        services.insert(key, service);
    }
    Ok(services)
}

fn read_container(template: &Template) -> Option<Container> {
    let written = match &template.node {
        Node::Map(_) => text(template, "image").unwrap_or_default(),
        _ => template.as_str().unwrap_or_default().to_owned(),
    };
    let image = written.strip_prefix("docker://").unwrap_or(&written);
    if image.is_empty() {
        return None;
    }
    let list = |key: &str| template.get(key).map(texts).unwrap_or_default();
    let env = template.get("env").map(Template::entries).unwrap_or_default().iter();
    Some(Container {
        image: image.to_owned(),
        env: env
            .filter_map(|(key, value)| Some((key.as_str()?.to_owned(), value.as_str()?.to_owned())))
            .collect(),
        ports: list("ports"),
        volumes: list("volumes"),
        options: text(template, "options"),
        credentials: template.get("credentials").map(|credentials| Credentials {
            username: text(credentials, "username").unwrap_or_default(),
            password: text(credentials, "password").unwrap_or_default(),
        }),
        entrypoint: text(template, "entrypoint"),
        command: text(template, "command"),
    })
}

/// `env` of a workflow, job or step, `with` of a step, `outputs` of a job.
///
/// # Errors
/// If an expression cannot be evaluated or gives something else.
pub fn text_map(template: &Template, scope: &Scope<'_>) -> Result<IndexMap<String, String>, TemplateError> {
    template.text_map(scope)
}

fn text(template: &Template, key: &str) -> Option<String> {
    Some(template.get(key)?.as_str()?.to_owned())
}

fn texts(template: &Template) -> Vec<String> {
    match &template.node {
        Node::Seq(items) => items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => template.as_str().map(str::to_owned).into_iter().collect(),
    }
}

fn is_true(template: Option<&Template>) -> bool {
    matches!(template.map(|template| &template.node), Some(Node::Bool(true)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::{Object, Value, from_json};
    use crate::workflow::{Job, Workflow};

    fn job(keys: &str) -> Job {
        let text = format!("on: push\njobs:\n  a:\n    runs-on: x\n    steps: [{{run: x}}]\n{keys}");
        let mut workflow = Workflow::parse(&text, "w.yml").expect("a workflow");
        workflow.jobs.swap_remove("a").expect("the job")
    }

    fn contexts(json: &str) -> Object {
        match from_json(json).expect("JSON") {
            Value::Obj(object) => (*object).clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_expression_may_give_the_whole_value() {
        let contexts = contexts(
            r#"{"github": {"group": "g", "max": true}, "inputs": {"c": {"image": "docker://a", "ports": [80]}}}"#,
        );
        let scope = Scope::of(&contexts);
        let job = job(
            "    container: ${{ inputs.c }}\n    concurrency: {group: '${{ github.group }}', cancel-in-progress: \
             '${{ github.max }}', queue: max}\n",
        );
        let container = container(job.container.as_ref().expect("a container"), &scope).expect("valid");
        let container = container.expect("an image");
        assert_eq!(
            (container.image.as_str(), container.ports.as_slice()),
            ("a", ["80".to_owned()].as_slice())
        );
        let concurrency = concurrency(job.concurrency.as_ref().expect("concurrency"), &scope).expect("valid");
        assert_eq!(
            concurrency,
            Concurrency { group: "g".into(), cancel_in_progress: true, queue: Queue::Max }
        );
    }

    #[test]
    fn a_container_whose_image_yields_nothing_is_none() {
        let contexts = contexts(r#"{"inputs": {"image": "a", "none": ""}}"#);
        let scope = Scope::of(&contexts);
        for (text, want) in [
            ("container: ${{ inputs.none }}", false),
            ("container: {image: '${{ inputs.nosuch }}', options: x}", false),
            ("container: {image: '${{ inputs.image }}'}", true),
        ] {
            let job = job(&format!("    {text}\n"));
            let found = container(job.container.as_ref().expect("a container"), &scope).expect("valid");
            assert_eq!(found.is_some(), want, "{text}");
        }
        let job = job(
            "    services:\n      a: {image: '${{ inputs.none }}', ports: [80]}\n      b: {image: '${{ inputs.image }}', \
             ports: [80]}\n      c: ${{ inputs.image }}\n",
        );
        let services = services(job.services.as_ref().expect("services"), &scope).expect("valid");
        let images: Vec<_> = services
            .iter()
            .map(|(name, it)| (name.as_str(), it.as_ref().map(|it| it.image.as_str())))
            .collect();
        assert_eq!(images, [("a", None), ("b", Some("a")), ("c", Some("a"))]);
    }

    #[test]
    fn what_does_not_fit_is_said_at_its_place() {
        let contexts = contexts(r#"{"inputs": {"c": {"image": "a", "nosuch": 1}, "list": [1]}}"#);
        let scope = Scope::of(&contexts);
        let wrong = job("    container: ${{ inputs.c }}\n    timeout-minutes: ${{ inputs.list }}\n");
        let error = container(wrong.container.as_ref().expect("a container"), &scope).expect_err("an error");
        assert_eq!(error.to_string(), "(Line: 6, Col: 16): Unexpected value 'nosuch'");
        let error = minutes(wrong.timeout_minutes.as_ref().expect("a time"), &scope).expect_err("an error");
        assert_eq!(error.message, "A sequence was not expected");
    }

    #[test]
    fn runs_on_has_three_forms() {
        let empty = Object::new();
        let scope = Scope::of(&empty);
        let of = |keys: &str| {
            let text = format!("on: push\njobs:\n  a:\n    steps: [{{run: x}}]\n    runs-on: {keys}\n");
            let workflow = Workflow::parse(&text, "w.yml").expect("a workflow");
            runs_on(workflow.jobs["a"].runs_on.as_ref().expect("runs-on"), &scope).expect("valid")
        };
        assert_eq!(of("a").labels, ["a"]);
        assert_eq!(of("[a, b]").labels, ["a", "b"]);
        let group = of("{group: g, labels: [a]}");
        assert_eq!((group.group.as_deref(), group.labels), (Some("g"), vec!["a".to_owned()]));
    }

    #[test]
    fn an_environment_keeps_its_url_for_later() {
        let contexts = contexts(r#"{"inputs": {"e": "prod"}}"#);
        let scope = Scope::of(&contexts);
        let job =
            job("    environment:\n      name: ${{ inputs.e }}\n      url: ${{ steps.x.outputs.url }}\n");
        let found =
            environment(job.environment.as_ref().expect("environment"), &scope).expect("valid").expect("one");
        assert_eq!(found.name, "prod");
        assert!(found.deployment && found.url.expect("url").is_expression());
    }
}
