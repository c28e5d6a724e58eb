//! The sentence as words, and a place in it.

use super::{NotUnderstood, Understood};

/// A word, a command in `backticks`, or a mark between clauses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    kind: Kind,
    /// Lower case; what is between the backticks or quotes as it is written.
    word: String,
    raw: String,
    start: usize,
    end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Word,
    Code,
    Quoted,
    Mark,
}

/// Words that say nothing by themselves.
const FILLERS: &[&str] = &[
    "a",
    "an",
    "the",
    "and",
    "then",
    "also",
    "please",
    "i",
    "we",
    "you",
    "want",
    "need",
    "would",
    "like",
    "to",
    "should",
    "must",
    "shall",
    "will",
    "run",
    "runs",
    "execute",
    "do",
    "perform",
    "start",
    "make",
    "sure",
    "that",
    "it",
    "this",
    "them",
    "everything",
    "all",
    "of",
    "our",
    "my",
    "its",
    "workflow",
    "ci",
    "pipeline",
    "github",
    "action",
    "actions",
    "job",
    "jobs",
    "step",
    "steps",
    "which",
    "is",
    "are",
    "be",
    "so",
    "for",
    "me",
    "us",
    "with",
    "using",
    "first",
    "next",
    "finally",
    "after",
    "that,",
    "afterwards",
    "plus",
    "additionally",
    "just",
    "always",
    "let",
    "have",
    "has",
    "code",
    "project",
    "repository",
    "repo",
    "command",
    "commands",
    "create",
    "write",
    "give",
    "set",
    "up",
    "new",
    "both",
    "by",
    "but",
    "it's",
    "i'd",
    "well",
    "as",
    "can",
    "when",
    "whenever",
    "on",
];

/// Words after which everything up to the end of the clause is denied.
const NEGATIONS: &[&str] = &["not", "don't", "dont", "never", "without", "no", "except", "neither", "nor"];

/// A place in the sentence.
pub(super) struct Reader<'a> {
    sentence: &'a str,
    tokens: Vec<Token>,
    at: usize,
    understood: Vec<Understood>,
    lost: Vec<(usize, usize)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(sentence: &'a str) -> Reader<'a> {
        Reader { sentence, tokens: tokens(sentence), at: 0, understood: Vec::new(), lost: Vec::new() }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn go(&mut self, position: usize) {
        self.at = position;
    }

    /// The word that stands `ahead` words after the place, in lower case; empty for everything else.
    pub(super) fn word(&self, ahead: usize) -> &str {
        self.token(ahead).filter(|token| token.kind == Kind::Word).map_or("", |token| token.word.as_str())
    }

    /// The same as it is written.
    pub(super) fn raw(&self, ahead: usize) -> &str {
        self.token(ahead).filter(|token| token.kind != Kind::Mark).map_or("", |token| token.raw.as_str())
    }

    fn token(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead)
    }

    /// Whether a mark between clauses, or the end, stands there.
    pub(super) fn is_mark(&self, ahead: usize) -> bool {
        self.token(ahead).is_none_or(|token| token.kind == Kind::Mark)
    }

    /// The command in backticks that stands next.
    pub(super) fn code(&mut self) -> Option<String> {
        let code = self.token(0).filter(|token| token.kind == Kind::Code)?.word.clone();
        self.at += 1;
        Some(code)
    }

    /// The quoted text, or else the word, that stands next.
    pub(super) fn name(&mut self) -> Option<String> {
        let name = self.token(0).filter(|token| token.kind != Kind::Mark)?.raw.clone();
        self.at += 1;
        Some(name)
    }

    /// Reads a phrase when it stands next. Words of the pattern are `one|another`; one that ends with `?` may be absent,
    /// one that ends with `*` may stand there any number of times.
    pub(super) fn phrase(&mut self, pattern: &str) -> bool {
        let begun = self.at;
        for part in pattern.split(' ') {
            let (part, may_lack, may_repeat) = match part.as_bytes().last() {
                Some(b'?') => (&part[..part.len() - 1], true, false),
                Some(b'*') => (&part[..part.len() - 1], true, true),
                _ => (part, false, false),
            };
            let fits = |reader: &Reader<'_>| {
                let word = reader.word(0);
                !word.is_empty() && part.split('|').any(|one| one == word)
            };
            if !fits(self) {
                if may_lack {
                    continue;
                }
                self.at = begun;
                return false;
            }
            self.at += 1;
            while may_repeat && fits(self) {
                self.at += 1;
            }
        }
        self.at > begun
    }

    /// Skips what joins two things of a list (`,`, `and`, `or`) when something follows it.
    pub(super) fn joint(&mut self) -> bool {
        let begun = self.at;
        if self.token(0).is_some_and(|token| token.kind == Kind::Mark && token.word == ",") {
            self.at += 1;
        }
        if matches!(self.word(0), "and" | "or" | "&") {
            self.at += 1;
        }
        self.at > begun && !self.is_at_end()
    }

    /// Keeps what was read since `begun` as understood.
    pub(super) fn understood(&mut self, begun: usize, meaning: impl Into<String>) {
        let (Some(first), Some(last)) =
            (self.tokens.get(begun), self.at.checked_sub(1).and_then(|at| self.tokens.get(at)))
        else {
            return;
        };
        let text = self.sentence[first.start..last.end.max(first.end)].to_owned();
        self.understood.push(Understood { text, meaning: meaning.into() });
    }

    /// Skips a mark, or a word that says nothing.
    pub(super) fn filler(&mut self) -> bool {
        let is_filler = self.is_mark(0) || FILLERS.contains(&self.word(0));
        self.at += usize::from(is_filler);
        is_filler
    }

    /// Gives the next word up; after a negation, the rest of its clause too, whose sense it turns round.
    pub(super) fn give_up(&mut self) {
        let is_negation = NEGATIONS.contains(&self.word(0));
        let begun = self.at;
        self.at += 1;
        while is_negation && !self.is_mark(0) && !self.is_at_end() {
            self.at += 1;
        }
        let (start, end) = (self.tokens[begun].start, self.tokens[self.at - 1].end);
        match self.lost.last_mut() {
            // Neighbours are told together.
            Some(last) if self.sentence[last.1..start].trim().is_empty() => last.1 = end,
            _ => self.lost.push((start, end)),
        }
    }

    /// Gives what was read since `begun` up.
    pub(super) fn lose(&mut self, begun: usize) {
        let (start, end) = (self.tokens[begun].start, self.tokens[self.at - 1].end);
        self.lost.push((start, end));
    }

    pub(super) fn into_parts(self) -> (Vec<Understood>, Vec<NotUnderstood>) {
        let lost = self
            .lost
            .into_iter()
            .map(|(start, end)| NotUnderstood { text: self.sentence[start..end].to_owned(), start });
        (self.understood, lost.collect())
    }
}

fn tokens(sentence: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = sentence;
    loop {
        rest = rest.trim_start();
        let start = sentence.len() - rest.len();
        let Some(first) = rest.chars().next() else { return tokens };
        let close = match first {
            '`' | '"' => rest[1..].find(first).map(|end| end + 1),
            _ => None,
        };
        if let Some(close) = close {
            let kind = if first == '`' { Kind::Code } else { Kind::Quoted };
            let inner = rest[1..close].trim().to_owned();
            let end = start + close + 1;
            if !inner.is_empty() {
                tokens.push(Token { kind, word: inner.clone(), raw: inner, start, end });
            }
            rest = &rest[close + 1..];
            continue;
        }
        let length = rest.find(char::is_whitespace).unwrap_or(rest.len());
        push_word(&mut tokens, &rest[..length], start);
        rest = &rest[length..];
    }
}

/// A word with the marks around it.
fn push_word(tokens: &mut Vec<Token>, text: &str, start: usize) {
    let mark = |at: usize, one: char| {
        let word = one.to_string();
        Token { kind: Kind::Mark, raw: word.clone(), word, start: at, end: at + one.len_utf8() }
    };
    let body = text.trim_start_matches(['(', '[', '•', '"']);
    let start = start + (text.len() - body.len());
    // A dash by itself begins or joins clauses.
    let core = if matches!(body, "-" | "–" | "—") { "" } else { body };
    let core = core.trim_end_matches([',', ';', ':', '!', '?', ')', ']', '"', '`']);
    // A dot ends a sentence, unless it belongs to a path like `.` or `./...`.
    let core = match core.strip_suffix('.') {
        Some(short) if short.ends_with(|c: char| c.is_alphanumeric() || c == '*') => short,
        _ => core,
    };
    if !core.is_empty() {
        let raw = core.to_owned();
        tokens.push(Token {
            kind: Kind::Word,
            word: raw.to_lowercase(),
            raw,
            start,
            end: start + core.len(),
        });
    }
    for (offset, one) in body[core.len()..].char_indices() {
        tokens.push(mark(start + core.len() + offset, one));
    }
}
