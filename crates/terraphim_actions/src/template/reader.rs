//! Reads a YAML document along a schema: every key is known, every scalar fits, every expression
//! uses what its place allows. What does not fit is one error at its own place and is skipped.

use super::hint;
use super::limits::{Fatal, Limits};
use super::scalar;
use super::{Node, Template};
use crate::expr::{Allowed, fold};
use crate::schema::{Definition, Key, Mapping, Schema};
use crate::span::Span;
use crate::yaml::{Reader, Scalar};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

/// Reads `text` as a `definition` of `schema`. Errors go to `limits`; `None` if nothing could be read.
pub(crate) fn read(
    text: &str,
    file: usize,
    schema: &Schema,
    definition: &str,
    limits: &mut Limits,
) -> Option<Template> {
    let mut reader = TemplateReader {
        yaml: Reader::new(text),
        file,
        schema,
        limits,
        contexts: HashMap::new(),
        unions: HashMap::new(),
    };
    match reader.document(definition) {
        Ok(template) => Some(template),
        Err(fatal) => {
            reader.limits.fatal(file, fatal);
            None
        }
    }
}

/// A definition at its place: the contexts it may use are its own and those of the places above.
#[derive(Clone)]
struct Place<'a> {
    definition: &'a Definition,
    context: Rc<Context>,
}

struct Context {
    names: Vec<Box<str>>,
    allowed: Allowed,
}

struct TemplateReader<'a> {
    yaml: Reader<'a>,
    file: usize,
    schema: &'a Schema,
    limits: &'a mut Limits,
    /// Unions of contexts that were made already.
    contexts: HashMap<Vec<Box<str>>, Rc<Context>>,
    /// The same by the addresses of the place above and the definition: every value asks. Both live as long as this.
    unions: HashMap<(*const Context, *const Definition), Rc<Context>>,
}

impl<'a> TemplateReader<'a> {
    fn document(&mut self, definition: &str) -> Result<Template, Fatal> {
        self.yaml.start()?;
        let context = self.context(Vec::new());
        let place = self.place(&context, definition)?;
        let template = self.value(&place)?;
        self.yaml.end()?;
        Ok(template)
    }

    fn context(&mut self, names: Vec<Box<str>>) -> Rc<Context> {
        if let Some(known) = self.contexts.get(&names) {
            return Rc::clone(known);
        }
        let context = Rc::new(Context { allowed: Allowed::new(&names), names: names.clone() });
        self.contexts.insert(names, Rc::clone(&context));
        context
    }

    fn place(&mut self, parent: &Rc<Context>, name: &str) -> Result<Place<'a>, Fatal> {
        let Some(definition) = self.schema.get(name) else {
            return Err(Fatal::new(format!("Schema definition '{name}' not found")));
        };
        let context = if definition.context.iter().all(|own| parent.names.contains(own)) {
            Rc::clone(parent)
        } else {
            let key = (Rc::as_ptr(parent), std::ptr::from_ref(definition));
            match self.unions.get(&key) {
                Some(known) => Rc::clone(known),
                None => {
                    let mut names = parent.names.clone();
                    names
                        .extend(definition.context.iter().filter(|own| !parent.names.contains(own)).cloned());
                    let context = self.context(names);
                    self.unions.insert(key, Rc::clone(&context));
                    context
                }
            }
        };
        Ok(Place { definition, context })
    }

    fn template(&self, node: Node, span: Span) -> Template {
        Template { span, file: self.file, node }
    }

    fn error(&mut self, span: Span, message: impl Into<String>) {
        self.limits.error(self.file, span, message);
    }

    fn value(&mut self, place: &Place<'a>) -> Result<Template, Fatal> {
        if let Some((scalar, span)) = self.yaml.scalar()? {
            let parsed = self.parse_scalar(scalar, span, place);
            let template = self.validate(parsed, place);
            self.limits.add(&template.node)?;
            return Ok(template);
        }
        if let Some(span) = self.yaml.sequence_start()? {
            return self.sequence(span, place);
        }
        if let Some(span) = self.yaml.mapping_start()? {
            return self.mapping(span, place);
        }
        Err(Fatal::new("Expected a scalar value, a sequence, or a mapping"))
    }

    fn sequence(&mut self, span: Span, place: &Place<'a>) -> Result<Template, Fatal> {
        self.limits.enter()?;
        let mut items = Vec::new();
        self.limits.add(&Node::Seq(Vec::new()))?;
        if let Some(item) = self.schema.sequence(place.definition) {
            let item = self.place(&place.context, item)?;
            while !self.yaml.sequence_end()? {
                items.push(self.value(&item)?);
            }
        } else {
            self.error(span, "A sequence was not expected");
            while !self.yaml.sequence_end()? {
                self.skip()?;
            }
        }
        self.limits.leave();
        Ok(self.template(Node::Seq(items), span))
    }

    fn mapping(&mut self, span: Span, place: &Place<'a>) -> Result<Template, Fatal> {
        self.limits.enter()?;
        self.limits.add(&Node::Map(Vec::new()))?;
        let candidates = self.schema.mappings(place.definition);
        let mut entries = Vec::new();
        if candidates.is_empty() {
            self.error(span, "A mapping was not expected");
            while !self.yaml.mapping_end()? {
                self.skip()?;
                self.skip()?;
            }
        } else {
            self.entries(span, place, candidates, &mut entries)?;
        }
        self.limits.leave();
        Ok(self.template(Node::Map(entries), span))
    }

    fn entries(
        &mut self,
        span: Span,
        place: &Place<'a>,
        mut candidates: Vec<&'a Mapping>,
        entries: &mut Vec<(Template, Template)>,
    ) -> Result<(), Fatal> {
        let any_key = candidates.len() == 1 && candidates[0].keys.is_empty();
        let mut seen = HashSet::new();
        let mut has_expression_key = false;
        while let Some((scalar, key_span)) = self.yaml.scalar()? {
            let key = self.parse_scalar(scalar, key_span, place);
            if key.is_expression() {
                has_expression_key = true;
                self.expression_key(key, place, &candidates, entries)?;
                continue;
            }
            let name: Arc<str> = Arc::from(key.literal_text().unwrap_or_default());
            let key = self.template(Node::Str(Arc::clone(&name)), key_span);
            if !seen.insert(fold::fold(&name).into_owned()) {
                self.error(key_span, format!("'{name}' is already defined"));
                self.skip()?;
                continue;
            }
            let value = if let Some(definition) = match_key(&mut candidates, &name) {
                self.limits.add(&key.node)?;
                definition
            } else if let Some((key_definition, definition)) = &candidates[0].other {
                let key_place = self.place(&place.context, key_definition)?;
                self.validate(key.clone(), &key_place);
                self.limits.add(&key.node)?;
                definition
            } else {
                let hint = hint::unknown_key(&candidates, &name);
                self.limits.error_with(self.file, key_span, format!("Unexpected value '{name}'"), hint);
                self.skip()?;
                continue;
            };
            let value = self.place(&place.context, value)?;
            entries.push((key, self.value(&value)?));
        }
        if !any_key {
            self.check_keys(span, &candidates, &seen, has_expression_key);
        }
        if self.yaml.mapping_end()? { Ok(()) } else { Err(Fatal::new("Expected mapping end")) }
    }

    fn expression_key(
        &mut self,
        key: Template,
        place: &Place<'a>,
        candidates: &[&'a Mapping],
        entries: &mut Vec<(Template, Template)>,
    ) -> Result<(), Fatal> {
        if place.context.names.is_empty() {
            self.error(key.span, "A template expression is not allowed in this context");
            return self.skip();
        }
        self.limits.add(&key.node)?;
        let value = match candidates {
            [Mapping { keys, other: Some((_, value)), .. }] if keys.is_empty() => value,
            _ => "any",
        };
        let value = self.place(&place.context, value)?;
        entries.push((key, self.value(&value)?));
        Ok(())
    }

    /// At the end of a mapping: is it clear which one it is, and is all there that must be?
    fn check_keys(
        &mut self,
        span: Span,
        candidates: &[&Mapping],
        seen: &HashSet<String>,
        has_expression_key: bool,
    ) {
        if let [only] = candidates {
            let missing: Vec<&Key> = only
                .keys
                .iter()
                .filter(|key| key.required && !seen.contains(fold::fold(&key.name).as_ref()))
                .collect();
            for key in missing.iter().filter(|_| !has_expression_key) {
                self.error(span, format!("Required property is missing: {}", key.name));
            }
            return;
        }
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for key in
            candidates.iter().filter(|candidate| !candidate.quiet).flat_map(|candidate| &candidate.keys)
        {
            *counts.entry(&key.name).or_default() += 1;
        }
        let mut telling: Vec<&str> =
            counts.into_iter().filter(|(_, count)| *count == 1).map(|(name, _)| name).collect();
        telling.sort_unstable();
        let list = telling.join(", ");
        self.error(
            span,
            format!(
                "There's not enough info to determine what you meant. Add one of these properties: {list}"
            ),
        );
    }

    /// Moves past a value that is not wanted.
    fn skip(&mut self) -> Result<(), Fatal> {
        if self.yaml.scalar()?.is_some() {
            return Ok(());
        }
        let is_sequence = self.yaml.sequence_start()?.is_some();
        if !is_sequence && self.yaml.mapping_start()?.is_none() {
            return Err(Fatal::new("Expected a scalar value, a sequence, or a mapping"));
        }
        self.limits.enter()?;
        if is_sequence {
            while !self.yaml.sequence_end()? {
                self.skip()?;
            }
        } else {
            while !self.yaml.mapping_end()? {
                self.skip()?;
                self.skip()?;
            }
        }
        self.limits.leave();
        Ok(())
    }

    /// A scalar with its expressions parsed. A text whose expression is wrong is reported and stays
    /// a text.
    fn parse_scalar(&mut self, scalar: Scalar, span: Span, place: &Place<'a>) -> Template {
        let node = match scalar {
            Scalar::Null => Node::Null,
            Scalar::Bool(value) => Node::Bool(value),
            Scalar::Num(number) => Node::Num(number),
            Scalar::Str(text) => match scalar::parse(&text, &place.context.allowed) {
                Ok(node) => node,
                Err(message) => {
                    let hint = hint::names(&place.context.names);
                    self.limits.error_with(self.file, span, message, hint);
                    Node::Str(Arc::from(text))
                }
            },
        };
        self.template(node, span)
    }

    /// Checks that a scalar fits; a literal where only text fits becomes text.
    fn validate(&mut self, template: Template, place: &Place<'a>) -> Template {
        match &template.node {
            Node::Expr(_) => {
                if place.context.names.is_empty() {
                    self.error(template.span, "A template expression is not allowed in this context");
                }
                template
            }
            Node::Insert => {
                self.error(template.span, format!("Unexpected value '{}'", template.display()));
                template
            }
            node if self.schema.fits(place.definition, node) => template,
            _ => {
                let text = Node::Str(Arc::from(template.literal_text().unwrap_or_default()));
                if self.schema.fits(place.definition, &text) {
                    return Template { node: text, ..template };
                }
                self.error(template.span, format!("Unexpected value '{}'", template.display()));
                template
            }
        }
    }
}

/// The definition of the value of `name` in those of the candidates that know it; the others are
/// out from then on.
fn match_key<'a>(candidates: &mut Vec<&'a Mapping>, name: &str) -> Option<&'a str> {
    let found = candidates.iter().find_map(|candidate| candidate.key(name))?;
    candidates.retain(|candidate| candidate.key(name).is_some());
    Some(&found.definition)
}
