//! Findings about workflow files, with the line and a caret.

use std::{collections::HashMap, fmt::Write as _};

use terraphim_actions::diagnostic::{Diagnostic, Severity};

use crate::output::Paint;

/// The texts of files by the names that diagnostics use.
pub(crate) type Texts = HashMap<String, String>;

/// A finding for people: what, where, the source line, a caret, and what to do.
pub(crate) fn render(diagnostic: &Diagnostic, texts: &Texts, paint: Paint) -> String {
    let level = match diagnostic.severity {
        Severity::Error => paint.red("error:"),
        Severity::Warning => paint.yellow("warning:"),
        Severity::Info => paint.cyan("note:"),
    };
    let mut text = format!("{level} {}\n", paint.bold(&diagnostic.message));
    if diagnostic.line == 0 {
        let _ = writeln!(text, "  --> {}", diagnostic.file);
    } else {
        let _ = writeln!(text, "  --> {}:{}:{}", diagnostic.file, diagnostic.line, diagnostic.col);
    }
    for call in &diagnostic.called_from {
        let _ = writeln!(text, "      {}", call.trim_end());
    }
    if let Some(source) = source_line(diagnostic, texts) {
        let number = diagnostic.line.to_string();
        let gap = " ".repeat(number.len());
        // Tabs stay tabs, so that the caret stands below its column however wide they are.
        let before = diagnostic.col.saturating_sub(1) as usize;
        let indent: String =
            source.chars().take(before).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let _ = writeln!(text, " {gap} |\n {number} | {source}\n {gap} | {indent}{}", paint.red("^"));
    }
    if let Some(hint) = &diagnostic.hint {
        let _ = writeln!(text, "  {} {hint}", paint.cyan("hint:"));
    }
    text
}

fn source_line<'a>(diagnostic: &Diagnostic, texts: &'a Texts) -> Option<&'a str> {
    let index = (diagnostic.line as usize).checked_sub(1)?;
    let line = texts.get(&*diagnostic.file)?.lines().nth(index)?;
    // A line of a minified file helps nobody.
    (line.chars().count() <= 200).then_some(line)
}

#[cfg(test)]
mod tests {
    use terraphim_actions::span::Span;

    use super::*;

    #[test]
    fn a_finding_shows_its_line_and_column() {
        let file = "ci.yml".into();
        let finding =
            Diagnostic::error(&file, Span::new(2, 3), "Unexpected value 'foo'").with_hint("remove it");
        let texts = Texts::from([("ci.yml".to_owned(), "on: push\n\tä foo: 1\n".to_owned())]);
        let want = "error: Unexpected value 'foo'\n  --> ci.yml:2:3\n   |\n 2 | \tä foo: 1\n   | \t ^\n  hint: remove it\n";
        assert_eq!(render(&finding, &texts, Paint::plain()), want);
    }
}
