//! `strategy`: from vectors, `include` and `exclude` to the jobs of a matrix.

use crate::expr::{self, Object, Scope, Value, fold};
use crate::span::Span;
use crate::template::{Limits, Node, Template, TemplateError};
use crate::workflow::ids::{Ids, job_name};

/// Matrix ids are at most this long.
const MAX_ID: usize = 25;
/// The most jobs of a matrix. docs.github.com, "Usage limits": 256 jobs per matrix and run.
pub const MAX_JOBS: usize = 256;
/// The most comparisons of combinations with filters; a matrix near the limit of jobs needs thousands.
const MAX_WORK: usize = 2_000_000;

/// An evaluated `strategy`.
#[derive(Clone, Debug)]
pub struct Strategy {
    /// `fail-fast`: does a failure cancel the others? True unless written.
    pub fail_fast: bool,
    /// `max-parallel`, if written and above 0.
    pub max_parallel: Option<u32>,
    /// The jobs, at least one.
    pub configurations: Vec<Configuration>,
}

/// One job of a matrix.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The id, unique in the matrix; empty for a job without matrix.
    pub id: String,
    /// The name, if the job's `name` says nothing else: `job (a, b)`.
    pub name: String,
    /// The `matrix` context; null without matrix.
    pub matrix: Value,
    /// The `strategy` context.
    pub strategy: Value,
}

/// Evaluates `strategy`. Without one (or without matrix) there is one configuration. `name` is the
/// name of the job, to which the values are added in parentheses.
///
/// # Errors
/// If an expression cannot be evaluated, or the first thing that is wrong with the matrix.
pub fn expand(strategy: Option<&Template>, scope: &Scope<'_>, name: &str) -> Result<Strategy, TemplateError> {
    let mut limits = Limits::new(usize::MAX, usize::MAX);
    let resolved = match strategy {
        Some(template) => Some(template.resolve_as("strategy", scope)?),
        None => None,
    };
    let strategy = build(&mut limits, resolved.as_ref(), name);
    if let (Some(error), Some(template)) = (limits.errors.into_iter().next(), resolved) {
        return Err(TemplateError {
            file: template.file,
            span: error.span(),
            message: error.message,
            pending: false,
        });
    }
    Ok(strategy)
}

/// Reports what is wrong with the literal parts of `strategy` of the job `name`.
pub(crate) fn check(limits: &mut Limits, strategy: &Template, name: &str) {
    if let Some(matrix) = strategy.get("matrix") {
        Builder::new(limits, matrix).configurations(name);
    }
}

fn build(limits: &mut Limits, strategy: Option<&Template>, name: &str) -> Strategy {
    let get = |key: &str| strategy.and_then(|template| template.get(key));
    let fail_fast = !matches!(get("fail-fast").map(|value| &value.node), Some(Node::Bool(false)));
    let max_parallel = match get("max-parallel").map(|value| &value.node) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` saturates, as is right here"
        )]
        Some(Node::Num(number)) if *number >= 1.0 => Some(*number as u32),
        _ => None,
    };
    let mut configurations = match get("matrix") {
        Some(matrix) => Builder::new(limits, matrix).configurations(name),
        None => Vec::new(),
    };
    if configurations.is_empty() {
        configurations.push(Configuration {
            id: String::new(),
            name: job_name(name, &[]),
            matrix: Value::Null,
            strategy: Value::Null,
        });
    }
    let total = configurations.len();
    for (index, configuration) in configurations.iter_mut().enumerate() {
        configuration.strategy = context(fail_fast, max_parallel, index, total);
    }
    Strategy { fail_fast, max_parallel, configurations }
}

/// The `strategy` context of one job.
#[expect(clippy::cast_precision_loss, reason = "there are at most a few hundred jobs")]
fn context(fail_fast: bool, max_parallel: Option<u32>, index: usize, total: usize) -> Value {
    let mut strategy = Object::new();
    strategy.insert("fail-fast", fail_fast);
    strategy.insert("job-index", index as f64);
    strategy.insert("job-total", total as f64);
    strategy.insert("max-parallel", max_parallel.map_or(total as f64, f64::from));
    Value::from(strategy)
}

/// Conditions on the values of a combination, and what to add where they hold.
struct Filter {
    /// Paths into the combination and the literals they must equal.
    leaves: Vec<(Vec<Value>, Value)>,
    /// The entries that the conditions are made of.
    conditions: Vec<(String, Value)>,
    extra: Vec<(String, Value)>,
}

struct Builder<'a> {
    limits: &'a mut Limits,
    /// Where the matrix is.
    place: (usize, Span),
    vectors: Vec<(String, Vec<Value>)>,
    include: Vec<Filter>,
    exclude: Vec<Filter>,
    /// Something is not known yet, so no combination can be made.
    incomplete: bool,
}

impl<'a> Builder<'a> {
    fn new(limits: &'a mut Limits, matrix: &Template) -> Self {
        let mut builder = Self {
            limits,
            place: (matrix.file, matrix.span),
            vectors: Vec::new(),
            include: Vec::new(),
            exclude: Vec::new(),
            incomplete: matrix.has_expression(),
        };
        let mut has_vector = false;
        let mut has_include = false;
        for (key, value) in matrix.entries() {
            match key.as_str() {
                Some("include") => has_include = value.has_expression() || !value.items().is_empty(),
                Some("exclude") => {}
                Some(name) => {
                    has_vector = true;
                    builder.add_vector(name, value);
                }
                None => has_vector = true,
            }
        }
        if let Some(include) = matrix.get("include").filter(|value| !value.has_expression()) {
            builder.add_includes(include);
        }
        if let Some(exclude) = matrix.get("exclude").filter(|value| !value.has_expression()) {
            builder.add_excludes(exclude);
        }
        if !has_vector && !has_include && !matrix.is_expression() {
            builder.limits.error_at(matrix, "Matrix must define at least one vector");
        }
        builder
    }

    fn has_vector(&self, name: &str) -> bool {
        self.vectors.iter().any(|(known, _)| fold::eq(known, name))
    }

    fn add_vector(&mut self, name: &str, value: &Template) {
        if !value.has_expression() && value.items().is_empty() {
            self.limits.error_at(value, format!("Matrix vector '{name}' does not contain any values"));
            self.incomplete = true;
        }
        let items = value.items().iter().map(literal).collect();
        self.vectors.push((name.to_owned(), items));
    }

    fn add_includes(&mut self, include: &Template) {
        for item in include.items() {
            let mut filter = Filter { leaves: Vec::new(), conditions: Vec::new(), extra: Vec::new() };
            for (key, value) in item.entries() {
                let name = key.as_str().unwrap_or_default().to_owned();
                if self.has_vector(&name) {
                    collect_leaves(&mut vec![Value::str(&name)], value, &mut filter.leaves);
                    filter.conditions.push((name, literal(value)));
                } else {
                    filter.extra.push((name, literal(value)));
                }
            }
            if filter.conditions.is_empty() && filter.extra.is_empty() {
                self.limits.error_at(item, "Matrix include mapping does not contain any values");
                continue;
            }
            self.include.push(filter);
        }
    }

    fn add_excludes(&mut self, exclude: &Template) {
        for item in exclude.items() {
            if item.entries().is_empty() {
                self.limits.error_at(item, "Matrix exclude filter must not be empty");
                continue;
            }
            let mut filter = Filter { leaves: Vec::new(), conditions: Vec::new(), extra: Vec::new() };
            for (key, value) in item.entries() {
                let name = key.as_str().unwrap_or_default();
                if !self.has_vector(name) {
                    let message =
                        format!("Matrix exclude key '{name}' does not match any key within the matrix");
                    self.limits.error_at(key, message);
                }
                collect_leaves(&mut vec![Value::str(name)], value, &mut filter.leaves);
            }
            self.exclude.push(filter);
        }
    }

    /// All jobs of the matrix, in order.
    fn configurations(self, name: &str) -> Vec<Configuration> {
        if self.incomplete || !self.limits.errors.is_empty() {
            return Vec::new();
        }
        let sizes = self.vectors.iter().map(|(_, items)| items.len());
        let total = sizes.fold(usize::from(!self.vectors.is_empty()), usize::saturating_mul);
        // What is excluded does not count, but what takes too long to find out is not tried.
        let filters = self.include.len() + self.exclude.len() + 1;
        if total.saturating_mul(filters) > MAX_WORK {
            self.too_many(name);
            return Vec::new();
        }
        let mut ids = Ids::default();
        let mut matched = vec![false; self.include.len()];
        let mut configurations = Vec::new();
        for index in 0..total {
            let combination = self.combination(index, total);
            if self.exclude.iter().any(|filter| filter.matches(&combination)) {
                continue;
            }
            let mut extra: Vec<(&str, &Value)> = Vec::new();
            for (filter, matched) in self.include.iter().zip(&mut matched) {
                if filter.matches(&combination) {
                    *matched = true;
                    extra.extend(filter.extra.iter().map(|(key, value)| (key.as_str(), value)));
                }
            }
            configurations.push(configuration(&mut ids, name, combination, &extra));
            if configurations.len() > MAX_JOBS {
                break;
            }
        }
        let unmatched = self.include.iter().zip(matched).filter(|(_, matched)| !matched);
        let room = (MAX_JOBS + 1).saturating_sub(configurations.len());
        for (filter, _) in unmatched.take(room) {
            let entries = filter.conditions.iter().chain(&filter.extra);
            let matrix = entries.map(|(key, value)| (key, value.clone())).collect();
            configurations.push(configuration(&mut ids, name, matrix, &[]));
        }
        if configurations.len() > MAX_JOBS {
            self.too_many(name);
            configurations.clear();
        }
        configurations
    }

    fn too_many(self, name: &str) {
        let (file, span) = self.place;
        let message = format!("The strategy matrix of job '{name}' has more than {MAX_JOBS} jobs");
        let hint = "Leave combinations out with `exclude`, or share the values among several jobs".to_owned();
        self.limits.error_with(file, span, message, Some(hint));
    }

    /// The combination with this number; the last vector changes fastest.
    fn combination(&self, index: usize, total: usize) -> Object {
        let mut matrix = Object::new();
        let mut block = total;
        for (name, items) in &self.vectors {
            block /= items.len().max(1);
            if let Some(value) = items.get(index / block.max(1) % items.len().max(1)) {
                matrix.insert(name, value.clone());
            }
        }
        matrix
    }
}

fn configuration(ids: &mut Ids, name: &str, mut matrix: Object, extra: &[(&str, &Value)]) -> Configuration {
    let mut segments = Vec::new();
    for value in matrix.values() {
        collect_segments(value, &mut segments);
    }
    for segment in &segments {
        ids.segment(segment);
    }
    for (key, value) in extra {
        matrix.insert(key, (*value).clone());
    }
    Configuration {
        id: ids.build(false, MAX_ID),
        name: job_name(name, &segments),
        matrix: Value::from(matrix),
        strategy: Value::Null,
    }
}

/// The scalars of a value in order, as parts of a name.
fn collect_segments(value: &Value, segments: &mut Vec<String>) {
    match value {
        Value::Arr(items) => items.iter().for_each(|item| collect_segments(item, segments)),
        Value::Obj(object) => object.values().for_each(|item| collect_segments(item, segments)),
        _ => {
            let text = value.to_text();
            if !text.is_empty() {
                segments.push(text.into_owned());
            }
        }
    }
}

fn literal(template: &Template) -> Value {
    template.evaluate(&Scope::of(&Object::new())).unwrap_or_default()
}

/// The scalars of a filter with the paths that lead to them.
fn collect_leaves(path: &mut Vec<Value>, template: &Template, leaves: &mut Vec<(Vec<Value>, Value)>) {
    match &template.node {
        Node::Seq(items) => {
            for (index, item) in items.iter().enumerate() {
                #[expect(clippy::cast_precision_loss, reason = "a file has no 2^53 items")]
                path.push(Value::Num(index as f64));
                collect_leaves(path, item, leaves);
                path.pop();
            }
        }
        Node::Map(entries) => {
            for (key, value) in entries {
                path.push(Value::str(key.as_str().unwrap_or_default()));
                collect_leaves(path, value, leaves);
                path.pop();
            }
        }
        _ => leaves.push((path.clone(), literal(template))),
    }
}

impl Filter {
    /// Do all its scalars equal those of the combination, as `==` of expressions has it?
    fn matches(&self, combination: &Object) -> bool {
        self.leaves.iter().all(|(path, wanted)| {
            let mut steps = path.iter();
            let first = steps.next().and_then(|name| combination.get(&name.to_text()));
            let found = steps.try_fold(first.cloned().unwrap_or_default(), |value, step| index(&value, step));
            expr::equal(&found.unwrap_or_default(), wanted)
        })
    }
}

fn index(value: &Value, step: &Value) -> Option<Value> {
    match value {
        Value::Obj(object) => object.get(&step.to_text()).cloned(),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positions are whole")]
        Value::Arr(items) => {
            let position = step.to_number();
            if position >= 0.0 { items.get(position as usize).cloned() } else { None }
        }
        _ => None,
    }
}
