//! What a job asks for, once its expressions are evaluated, and what may be wrong with it.

use indexmap::IndexMap;
use terraphim_actions::resolve;
use terraphim_actions::span::Span;
use terraphim_actions::template::{Template, TemplateError};

use super::spec::{Role, Spec};

/// What a job asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) job: Option<Spec>,
    services: Vec<Spec>,
}

impl Wanted {
    /// Reads what the expressions of a workflow file gave.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(super) fn read(
        container: Option<&resolve::Container>,
        services: &IndexMap<String, Option<resolve::Container>>,
    ) -> Result<Wanted, Problem> {
        let job = container.map(|container| Spec::read(Role::Job, container)).transpose()?;
        let service = |(name, it): (&String, &Option<resolve::Container>)| {
            Some(Spec::read(Role::Service(name.clone()), it.as_ref()?))
        };
        let services = services.iter().filter_map(service).collect::<Result<_, _>>()?;
        Ok(Wanted { job, services })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Spec> {
        self.job.iter().chain(&self.services)
    }
}

/// What is wrong with what a job asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}.{sub}`: {text}", role.key())]
pub(super) struct Problem {
    pub(super) role: Role,
    /// The key below that of the container.
    pub(super) sub: &'static str,
    pub(super) text: String,
}

impl Problem {
    /// The same with its place in the file. `container` and `services` are those keys of the job.
    pub(super) fn at(&self, container: Option<&Template>, services: Option<&Template>) -> TemplateError {
        let whole = match &self.role {
            Role::Job => container,
            Role::Service(name) => services.map(|services| services.get(name).unwrap_or(services)),
        };
        // An expression may have given all of it.
        let place = whole.map(|whole| whole.get(self.sub).unwrap_or(whole));
        let (file, span) = place.map_or((0, Span::default()), |place| (place.file, place.span));
        TemplateError { file, span, message: self.to_string(), pending: false }
    }
}
