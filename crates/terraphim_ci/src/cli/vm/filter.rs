//! Which VMs are meant: `--filter KEY=VALUE`.

use terraphim_vm::VmRecord;

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    State(String),
    Name(String),
    Id(String),
    Image(String),
    Label(String, Option<String>),
}

const STATES: [&str; 6] = ["created", "starting", "running", "stopping", "stopped", "failed"];

impl Filter {
    pub(super) fn parse(text: &str) -> Result<Filter, String> {
        let (key, value) = text.split_once('=').ok_or("KEY=VALUE is expected")?;
        let value = value.to_owned();
        match key {
            "state" if STATES.contains(&value.as_str()) => Ok(Filter::State(value)),
            "state" => Err(format!("there is no state {value:?}; known are {}", STATES.join(", "))),
            "name" => Ok(Filter::Name(value)),
            "id" => Ok(Filter::Id(value)),
            "image" => Ok(Filter::Image(value)),
            "label" => Ok(match value.split_once('=') {
                Some((key, value)) => Filter::Label(key.to_owned(), Some(value.to_owned())),
                None => Filter::Label(value, None),
            }),
            _ => Err(format!("there is no filter {key:?}; known are state, name, id, image and label")),
        }
    }

    /// Whether a VM meets all conditions; of several about the same key (but labels) one is enough.
    pub(super) fn all(filters: &[Filter], record: &VmRecord) -> bool {
        filters.iter().all(|filter| match filter {
            Filter::Label(..) => filter.holds(record),
            _ => filters.iter().any(|other| filter.is_like(other) && other.holds(record)),
        })
    }

    fn is_like(&self, other: &Filter) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    fn holds(&self, record: &VmRecord) -> bool {
        match self {
            Filter::State(state) => record.effective_state().as_str() == state,
            Filter::Name(name) => record.name.contains(name),
            Filter::Id(id) => record.id.as_str().starts_with(id),
            Filter::Image(image) => record.spec.image == *image,
            Filter::Label(key, value) => record
                .spec
                .labels
                .get(key)
                .is_some_and(|found| value.as_ref().is_none_or(|wanted| wanted == found)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use terraphim_vm::{VmId, VmSpec, VmState};

    use super::*;

    pub(in crate::cli::vm) fn record() -> VmRecord {
        VmRecord {
            id: "0123456789ab".parse::<VmId>().unwrap(),
            name: "web".to_owned(),
            spec: VmSpec { labels: [("team".to_owned(), "ci".to_owned())].into(), ..VmSpec::default() },
            state: VmState::Stopped,
            supervisor: None,
            hypervisor: None,
            socket: None,
            owner: None,
            end: None,
            epoch: 1,
            created_at_ms: 0,
            updated_at_ms: 0,
        }
    }

    #[test]
    fn conditions_on_one_key_are_alternatives_and_others_add_up() {
        let holds = |filters: &[&str]| {
            let filters: Vec<Filter> = filters.iter().map(|text| Filter::parse(text).unwrap()).collect();
            Filter::all(&filters, &record())
        };
        assert!(holds(&[]) && holds(&["state=running", "state=stopped"]) && holds(&["label=team"]));
        assert!(holds(&["name=we", "id=0123", "image=debian", "label=team=ci"]));
        assert!(!holds(&["state=running"]) && !holds(&["state=stopped", "name=db"]));
        assert!(!holds(&["label=team=x"]) && !holds(&["label=team", "label=other"]));
    }

    #[test]
    fn unknown_conditions_are_refused() {
        for (text, want) in
            [("state", "KEY=VALUE"), ("state=gone", "known are created"), ("x=y", "known are state")]
        {
            assert!(Filter::parse(text).unwrap_err().contains(want), "{text}");
        }
    }
}
