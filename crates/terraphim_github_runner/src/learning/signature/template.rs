//! A tree of templates: signatures that differ only in words that look generated are one.
//!
//! After P. He et al., "Drain: An Online Log Parsing Approach with Fixed Depth Tree" (ICWS 2017): leaves are found by
//! the number of words and the first words; within a leaf, the most similar template. Different from Drain, words that
//! people chose are never joined: `cannot find x` and `cannot find y` have different causes.

use serde::{Deserialize, Serialize};

use super::extract::FailureSignature;
use crate::learning::command::short_hash;

/// Stands for any word.
const ANY: &str = "<*>";
/// Templates of one leaf; further ones stand alone.
const MAX_TEMPLATES: usize = 64;
/// At most one word in this many may differ.
const WORDS_PER_DIFFERENCE: usize = 3;

/// A leaf: templates with the same cause, number of words and first word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::learning) struct Node {
    templates: Vec<Template>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Template {
    /// Of the first signature; stays when words become [`ANY`].
    id: String,
    words: Vec<String>,
}

/// The key of the leaf of a signature.
pub(in crate::learning) fn leaf(signature: &FailureSignature) -> String {
    let count = signature.text.split(' ').count();
    let first = signature.text.split(' ').next().filter(|word| !is_generated(word)).unwrap_or(ANY);
    format!("{} {count} {first}", signature.cause.name())
}

/// The id of the template that a signature belongs to, and its text; makes one when there is none.
pub(in crate::learning) fn assign(node: &mut Node, signature: &FailureSignature) -> (String, String) {
    let words: Vec<&str> = signature.text.split(' ').collect();
    for template in &mut node.templates {
        let Some(differing) = differences(&template.words, &words) else { continue };
        for at in differing {
            ANY.clone_into(&mut template.words[at]);
        }
        return (template.id.clone(), template.words.join(" "));
    }
    let id = short_hash(&format!("{} {}", signature.cause.name(), signature.text));
    if node.templates.len() < MAX_TEMPLATES {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        node.templates.push(Template { id: id.clone(), words });
    }
    (id, signature.text.clone())
}

/// Which words of a template have to become [`ANY`] to fit; `None` when it is another one.
fn differences(template: &[String], words: &[&str]) -> Option<Vec<usize>> {
    if template.len() != words.len() {
        return None;
    }
    let mut differing = Vec::new();
    for (at, (known, word)) in template.iter().zip(words).enumerate() {
        if known == word || known == ANY && is_generated(word) {
            continue;
        }
        if !(is_generated(known) && is_generated(word)) {
            return None;
        }
        differing.push(at);
    }
    let any = template.iter().filter(|word| *word == ANY).count();
    ((any + differing.len()) * WORDS_PER_DIFFERENCE <= words.len()).then_some(differing)
}

/// Whether a word looks as if a program had made it up: letters and digits mixed, not a code like `E0432`.
fn is_generated(word: &str) -> bool {
    let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let digits = bare.bytes().filter(u8::is_ascii_digit).count();
    let letters = bare.bytes().filter(u8::is_ascii_alphabetic).count();
    let is_code = bare.len() <= 7 && bare.starts_with(|c: char| c.is_ascii_uppercase());
    let is_quoted_name = word.starts_with('`');
    digits >= 2 && letters >= 2 && bare.len() >= 6 && !is_code && !is_quoted_name
        || bare == "id" && word.contains("<id>")
}
