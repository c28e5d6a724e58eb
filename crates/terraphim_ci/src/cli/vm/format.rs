//! `--format`: a line of our own for each VM.

use terraphim_vm::{Network, VmRecord};

use crate::output::{self, one_line};

/// Text and the fields in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Format(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
    Label(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Id,
    Name,
    State,
    Image,
    Cpus,
    Memory,
    Disk,
    Network,
    Created,
    Labels,
    Reason,
    Pid,
}

const FIELDS: [(&str, Field); 12] = [
    ("id", Field::Id),
    ("name", Field::Name),
    ("state", Field::State),
    ("image", Field::Image),
    ("cpus", Field::Cpus),
    ("memory", Field::Memory),
    ("disk", Field::Disk),
    ("network", Field::Network),
    ("created", Field::Created),
    ("labels", Field::Labels),
    ("reason", Field::Reason),
    ("pid", Field::Pid),
];

impl Format {
    /// `{field}` and `{label:KEY}`; `{{` is a brace, `\t` a tab and `\n` a line break.
    pub(super) fn parse(text: &str) -> Result<Format, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '{' | '}' if rest.starts_with(c) => {
                    plain.push(c);
                    rest = &rest[1..];
                }
                '{' => {
                    let (name, after) = rest.split_once('}').ok_or("a `{` has no `}` (`{{` is a brace)")?;
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                    parts.push(Format::field(name)?);
                    rest = after;
                }
                '\\' if rest.starts_with(['t', 'n', '\\']) => {
                    plain.push(match rest.as_bytes()[0] {
                        b't' => '\t',
                        b'n' => '\n',
                        _ => '\\',
                    });
                    rest = &rest[1..];
                }
                c => plain.push(c),
            }
        }
        parts.push(Part::Text(plain));
        Ok(Format(parts))
    }

    fn field(name: &str) -> Result<Part, String> {
        if let Some(key) = name.strip_prefix("label:") {
            return Ok(Part::Label(key.to_owned()));
        }
        let known = || FIELDS.map(|(name, _)| name).join(", ");
        let found = FIELDS.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, field)| Part::Field(*field))
            .ok_or_else(|| format!("there is no field {name:?}; known are {} and label:KEY", known()))
    }

    /// The line of one VM.
    pub(super) fn line(&self, record: &VmRecord) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(field) => one_line(&value(*field, record)),
            Part::Label(key) => one_line(record.spec.labels.get(key).map_or("", String::as_str)),
        };
        self.0.iter().map(part).chain(["\n".to_owned()]).collect()
    }
}

fn value(field: Field, record: &VmRecord) -> String {
    let spec = &record.spec;
    match field {
        Field::Id => record.id.to_string(),
        Field::Name => record.name.clone(),
        Field::State => record.effective_state().to_string(),
        Field::Image => spec.image.clone(),
        Field::Cpus => spec.vcpus.to_string(),
        Field::Memory => spec.memory_mib.to_string(),
        Field::Disk => spec.disk_mib.to_string(),
        Field::Network => match spec.network {
            Network::None => "none".to_owned(),
            Network::User => "user".to_owned(),
        },
        Field::Created => output::time(record.created_at_ms),
        Field::Labels => {
            let all = spec.labels.iter().map(|(key, value)| format!("{key}={value}"));
            all.collect::<Vec<_>>().join(",")
        }
        Field::Reason => {
            let reason = record.end.as_ref().map(|end| serde_json::to_value(end.reason));
            reason.and_then(Result::ok).and_then(|it| it.as_str().map(str::to_owned)).unwrap_or_default()
        }
        Field::Pid => record.hypervisor.as_ref().map(|it| it.pid.to_string()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_filled_in() {
        let record = crate::cli::vm::filter::tests::record();
        let line = |text: &str| Format::parse(text).unwrap().line(&record);
        assert_eq!(line("{name}\\t{state} {{{cpus}}}"), "web\tstopped {2}\n");
        assert_eq!(line("{label:team}{label:none}|{labels}|{pid}{reason}"), "ci|team=ci|\n");
        assert_eq!(line("ü \\x"), "ü \\x\n");
    }

    #[test]
    fn unknown_fields_are_refused() {
        assert!(Format::parse("{colour}").unwrap_err().contains("known are id, name"));
        assert!(Format::parse("{name").unwrap_err().contains("no `}`"));
    }
}
