//! `--matrix`: which legs of a matrix run.

use indexmap::IndexMap;
use terraphim_actions::{
    expr::{Object, Scope, Value},
    matrix,
    template::Template,
    workflow::Job,
};

use super::select::{Chosen, with_needs};
use crate::failure::Failure;

/// More legs than this are not read.
const MAX_SHOWN: usize = 20;

/// The wanted values, those of one key together.
type Wanted = IndexMap<String, Vec<String>>;

/// Reads `--matrix KEY:VALUE`.
pub(super) fn parse(pairs: &[String]) -> Result<Wanted, Failure> {
    let mut all = Wanted::new();
    for pair in pairs {
        let (key, value) = pair
            .split_once(':')
            .ok_or_else(|| Failure::usage(format!("`--matrix {pair}`: write KEY:VALUE")))?;
        all.entry(key.to_owned()).or_default().push(value.to_owned());
    }
    Ok(all)
}

/// Refuses values that no leg of the jobs that run has: all legs would be left out, or none, and the run would be green.
/// Where some matrix is known only when it runs, nothing can be said.
///
/// # Errors
/// Which flag, and what there is.
pub(super) fn check(wanted: &Wanted, chosen: &[Chosen], jobs: &[String]) -> Result<(), Failure> {
    if wanted.is_empty() {
        return Ok(());
    }
    let mut legs = Legs::default();
    for it in chosen {
        with_needs(&it.workflow, jobs).into_iter().for_each(|job| legs.add(job));
    }
    if legs.is_incomplete { Ok(()) } else { legs.check(wanted) }
}

/// The legs of all matrices: their names and values.
#[derive(Default)]
struct Legs {
    all: Vec<(String, Value)>,
    is_incomplete: bool,
}

impl Legs {
    fn add(&mut self, job: &Job) {
        if let Some(strategy) = &job.strategy {
            match of_strategy(job, strategy) {
                Some(legs) => self.all.extend(legs),
                None => self.is_incomplete = true,
            }
        }
        if let Some(call) = &job.call {
            match &call.workflow {
                Some(called) => called.jobs.values().for_each(|job| self.add(job)),
                None => self.is_incomplete = true,
            }
        }
    }

    fn check(&self, wanted: &Wanted) -> Result<(), Failure> {
        for (key, values) in wanted {
            let of_key: Vec<&Value> = self.all.iter().filter_map(|(_, leg)| leg.get(key)).collect();
            for value in values {
                let message = match of_key.is_empty() {
                    true => format!(
                        "`--matrix {key}:{value}`: no matrix of the jobs that run has the key `{key}`"
                    ),
                    false if of_key.iter().any(|known| known.to_text() == value.as_str()) => continue,
                    false => format!("`--matrix {key}:{value}`: no leg of the jobs that run has this value"),
                };
                return Err(Failure::usage(message).hint(self.shown()));
            }
        }
        let is_wanted = |leg: &Value| {
            let mut known =
                wanted.iter().filter_map(|(key, values)| Some((leg.get(key)?, values))).peekable();
            known.peek().is_some()
                && known.all(|(value, values)| values.iter().any(|wanted| *wanted == value.to_text()))
        };
        if self.all.iter().any(|(_, leg)| is_wanted(leg)) {
            return Ok(());
        }
        let flags: Vec<String> = wanted
            .iter()
            .flat_map(|(key, values)| values.iter().map(move |value| format!("--matrix {key}:{value}")))
            .collect();
        Err(Failure::usage(format!("no leg of the jobs that run fits `{}`", flags.join(" ")))
            .hint(self.shown()))
    }

    fn shown(&self) -> String {
        if self.all.is_empty() {
            return "none of the jobs that run has a matrix; `tci run --list` shows the jobs".to_owned();
        }
        let leg = |(name, leg): &(String, Value)| match leg {
            Value::Obj(object) => {
                let values = object.iter().map(|(key, value)| format!("{key}:{}", value.to_text()));
                format!("{name} [{}]", values.collect::<Vec<_>>().join(" "))
            }
            _ => name.clone(),
        };
        let shown: Vec<String> = self.all.iter().take(MAX_SHOWN).map(leg).collect();
        let more = if self.all.len() > MAX_SHOWN { ", ..." } else { "" };
        format!("these legs exist: {}{more}", shown.join(", "))
    }
}

/// The legs of a job; `None` when its expressions decide. What is wrong with it is said when it is planned.
fn of_strategy(job: &Job, strategy: &Template) -> Option<Vec<(String, Value)>> {
    if strategy.has_expression() {
        return None;
    }
    let name = job.name.literal_text().filter(|name| !name.is_empty());
    let name = name.as_deref().unwrap_or(&job.id.value);
    let expanded = matrix::expand(Some(strategy), &Scope::of(&Object::new()), name).ok()?;
    let legs = expanded.configurations.into_iter().filter(|leg| !matches!(leg.matrix, Value::Null));
    Some(legs.map(|leg| (leg.name, leg.matrix)).collect())
}

#[cfg(test)]
mod tests {
    use terraphim_actions::workflow::Workflow;

    use super::*;

    const JOBS: &str = "on: push\njobs:\n  a:\n    runs-on: x\n    strategy: {matrix: {os: [u, w], v: [1, 2], exclude: [{os: w, v: 2}]}}\n    \
                        steps: [{run: x}]\n  b:\n    needs: a\n    runs-on: x\n    strategy: {matrix: {n: [5]}}\n    steps: [{run: x}]\n  \
                        c: {runs-on: x, steps: [{run: x}]}\n";

    fn told(text: &str, jobs: &[&str], pairs: &[&str]) -> Option<String> {
        let workflow = Workflow::parse(text, "w.yml").unwrap();
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let mut legs = Legs::default();
        with_needs(&workflow, &own(jobs)).into_iter().for_each(|job| legs.add(job));
        let wanted = parse(&own(pairs)).unwrap();
        if legs.is_incomplete { None } else { legs.check(&wanted).err().map(|failure| failure.message()) }
    }

    #[test]
    fn a_value_that_no_leg_has_is_refused() {
        for good in [&["os:u"][..], &["os:w", "v:1"], &["n:5"], &["os:u", "n:5"], &["os:u", "os:w"]] {
            assert_eq!(told(JOBS, &[], good), None, "{good:?}");
        }
        for (bad, want) in [
            (&["os:nope"][..], "`--matrix os:nope`: no leg of the jobs that run has this value"),
            (&["os:u", "os:nope"], "`--matrix os:nope`"),
            (&["nope:1"], "no matrix of the jobs that run has the key `nope`"),
            (&["os:w", "v:2"], "fits `--matrix os:w --matrix v:2`"),
        ] {
            assert!(told(JOBS, &[], bad).unwrap().contains(want), "{bad:?}");
        }
    }

    #[test]
    fn only_jobs_that_run_count_and_what_is_not_known_yet_may_be_right() {
        assert!(told(JOBS, &["a"], &["n:5"]).unwrap().contains("has the key `n`"));
        assert_eq!(told(JOBS, &["B"], &["os:u"]), None, "b needs a");
        assert!(told(JOBS, &["c"], &["os:u"]).unwrap().contains("has the key `os`"));
        let later = JOBS.replace("{n: [5]}", "{n: \"${{ fromJSON(vars.N) }}\"}");
        assert_eq!(told(&later, &[], &["n:7"]), None);
    }
}
