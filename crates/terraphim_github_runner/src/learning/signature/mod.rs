//! What two failures have in common although their output differs.
//!
//! Lines that tell a cause are found with one automaton over the whole lexicon; the most telling one is masked, and
//! that text with its kind of cause is the signature. A tree of templates then joins signatures that differ only in
//! words that look generated.

mod cause;
mod clean;
mod extract;
mod lexicon;
mod template;

pub use cause::Cause;
pub(super) use clean::{clean_line, without_prefix};
pub use extract::FailureSignature;
pub(super) use template::{Node as TemplateNode, assign as assign_template, leaf as template_leaf};

#[cfg(test)]
mod tests;
