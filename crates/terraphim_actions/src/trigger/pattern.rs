//! The patterns of `branches`, `tags` and `paths`.
//!
//! `*` is any text without `/`, `**` any text, `?` makes the character before it optional, `+`
//! repeats it, `[]` is one of several characters, `!` at the start turns the pattern round, and `\`
//! takes the next character as it is.

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// Starts it with `!`?
    pub negative: bool,
    tokens: Vec<Token>,
}

/// Why a pattern is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing, or nothing but `!`.
    #[error("a pattern must not be empty")]
    Empty,
    /// `?` or `+` with nothing before it.
    #[error("'{0}' has nothing before it to repeat")]
    NothingToRepeat(char),
    /// `[` without `]`, or `[]`.
    #[error("'[' has no matching ']' or nothing in it")]
    BadClass,
    /// `\` at the end.
    #[error("'\\' has nothing after it")]
    NothingEscaped,
}

#[derive(Clone, Debug)]
enum Token {
    /// One character.
    One(Class),
    /// One character or none.
    Optional(Class),
    /// One character or more.
    Repeated(Class),
    /// Any text without `/`.
    Star,
    /// Any text.
    StarStar,
    /// `**/`: nothing, or any text that ends with `/`.
    Directories,
}

#[derive(Clone, Debug)]
enum Class {
    Char(char),
    Ranges(Vec<(char, char)>),
}

impl Class {
    fn has(&self, c: char) -> bool {
        match self {
            Self::Char(known) => *known == c,
            Self::Ranges(ranges) => ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)),
        }
    }
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// If it breaks the rules.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let (negative, body) = match text.strip_prefix('!') {
            Some(body) => (true, body),
            None => (false, text),
        };
        if body.is_empty() {
            return Err(PatternError::Empty);
        }
        let chars: Vec<char> = body.chars().collect();
        let mut tokens = Vec::new();
        let mut at = 0;
        while let Some(c) = chars.get(at) {
            at += match c {
                '*' => star(&chars, at, &mut tokens),
                '?' | '+' => {
                    repeat(*c, &mut tokens)?;
                    1
                }
                '[' => class(&chars, at, &mut tokens)?,
                '\\' => {
                    let escaped = chars.get(at + 1).ok_or(PatternError::NothingEscaped)?;
                    tokens.push(Token::One(Class::Char(*escaped)));
                    2
                }
                _ => {
                    tokens.push(Token::One(Class::Char(*c)));
                    1
                }
            };
        }
        Ok(Self { negative, tokens })
    }

    /// Does the text fit the pattern, whatever its sign?
    #[must_use]
    pub fn fits(&self, text: &str) -> bool {
        let chars: Vec<char> = text.chars().collect();
        // For every length of a beginning of the text: do the tokens so far fit it?
        let mut fits = vec![false; chars.len() + 1];
        fits[0] = true;
        for token in &self.tokens {
            fits = token.step(&fits, &chars);
        }
        fits.last().copied().unwrap_or(false)
    }
}

impl Token {
    /// From the beginnings that fit before this token to those that fit with it.
    fn step(&self, before: &[bool], chars: &[char]) -> Vec<bool> {
        let mut after = vec![false; before.len()];
        let mut seen = false;
        for end in 0..before.len() {
            let last = end.checked_sub(1).map(|index| chars[index]);
            let is = |class: &Class| last.is_some_and(|c| class.has(c));
            after[end] = match self {
                Self::One(class) => is(class) && before[end - 1],
                Self::Optional(class) => before[end] || is(class) && before[end - 1],
                Self::Repeated(class) => is(class) && (before[end - 1] || after[end - 1]),
                Self::Star => before[end] || last.is_some_and(|c| c != '/') && after[end - 1],
                Self::StarStar => before[end] || end > 0 && after[end - 1],
                Self::Directories => before[end] || seen && last == Some('/'),
            };
            seen |= before[end];
        }
        after
    }
}

/// `*`, `**` or `**/`; gives the number of characters.
fn star(chars: &[char], at: usize, tokens: &mut Vec<Token>) -> usize {
    if chars.get(at + 1) != Some(&'*') {
        tokens.push(Token::Star);
        return 1;
    }
    let at_start = at == 0 || chars[at - 1] == '/';
    if at_start && chars.get(at + 2) == Some(&'/') {
        tokens.push(Token::Directories);
        return 3;
    }
    tokens.push(Token::StarStar);
    2
}

fn repeat(sign: char, tokens: &mut Vec<Token>) -> Result<(), PatternError> {
    let repeated = match (tokens.pop(), sign) {
        (Some(Token::One(class)), '?') => Token::Optional(class),
        (Some(Token::One(class)), _) => Token::Repeated(class),
        // A star matches nothing and everything already.
        (Some(star @ (Token::Star | Token::StarStar | Token::Directories)), _) => star,
        _ => return Err(PatternError::NothingToRepeat(sign)),
    };
    tokens.push(repeated);
    Ok(())
}

/// `[...]`; gives the number of characters.
fn class(chars: &[char], at: usize, tokens: &mut Vec<Token>) -> Result<usize, PatternError> {
    let rest = &chars[at + 1..];
    let length = rest.iter().position(|c| *c == ']').ok_or(PatternError::BadClass)?;
    let mut ranges = Vec::new();
    let mut inner = &rest[..length];
    loop {
        inner = match inner {
            [] => break,
            [from, '-', to, tail @ ..] if from <= to => {
                ranges.push((*from, *to));
                tail
            }
            [c, tail @ ..] => {
                ranges.push((*c, *c));
                tail
            }
        };
    }
    if ranges.is_empty() {
        return Err(PatternError::BadClass);
    }
    tokens.push(Token::One(Class::Ranges(ranges)));
    Ok(length + 2)
}

/// The patterns of one filter, in order.
#[derive(Clone, Debug, Default)]
pub struct PatternList {
    patterns: Vec<Pattern>,
}

impl PatternList {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// The index of the first one that is not valid, and why.
    pub fn new<S: AsRef<str>>(texts: &[S]) -> Result<Self, (usize, PatternError)> {
        let patterns = texts
            .iter()
            .enumerate()
            .map(|(index, text)| Pattern::new(text.as_ref()).map_err(|error| (index, error)));
        Ok(Self { patterns: patterns.collect::<Result<_, _>>()? })
    }

    /// Does `branches`, `tags` or `paths` with these patterns let one of the names through? The last
    /// pattern that fits a name decides about it. Without patterns there is nothing to pass.
    #[must_use]
    pub fn admits<S: AsRef<str>>(&self, names: &[S]) -> bool {
        self.patterns.is_empty() || names.iter().any(|name| self.chooses(name.as_ref()))
    }

    /// The last pattern that fits the name decides.
    #[must_use]
    pub fn chooses(&self, name: &str) -> bool {
        let deciding = self.patterns.iter().rev().find(|pattern| pattern.fits(name));
        deciding.is_some_and(|pattern| !pattern.negative)
    }

    /// Does an `-ignore` filter with these patterns drop all of the names? A name is dropped by the
    /// first pattern that fits it, and by the first with `!` that does not.
    #[must_use]
    pub fn ignores<S: AsRef<str>>(&self, names: &[S]) -> bool {
        let dropped = |name: &S| self.patterns.iter().any(|p| p.fits(name.as_ref()) != p.negative);
        !self.patterns.is_empty() && names.iter().all(dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern).expect("a pattern").fits(text)
    }

    #[test]
    fn signs() {
        for (pattern, yes, no) in [
            ("release/*", "release/a", "release/a/b"),
            ("release/**", "release/a/b", "release"),
            ("**/x", "x", "ax"),
            ("**/x", "a/b/x", "a/bx"),
            ("a/**/z", "a/z", "az"),
            ("a/**/z", "a/b/c/z", "a/bz"),
            ("v[0-9]+.x", "v12.x", "v.x"),
            ("ab?c", "ac", "abbc"),
            ("*.rs", ".rs", "a/b.rs"),
            ("a\\*", "a*", "ab"),
            ("[a-c-]", "-", "d"),
            ("a+", "aaa", ""),
        ] {
            assert!(fits(pattern, yes), "{pattern} {yes}");
            assert!(!fits(pattern, no), "{pattern} {no}");
        }
    }

    #[test]
    fn order_matters() {
        let list = PatternList::new(&["a*", "!ab", "abc"]).expect("patterns");
        assert!(list.admits(&["ax"]));
        assert!(!list.admits(&["ab"]));
        assert!(list.admits(&["ab", "abc"]));
        assert!(!list.admits::<&str>(&[]));
    }

    #[test]
    fn ignoring_needs_all_names() {
        let list = PatternList::new(&["docs/**"]).expect("patterns");
        assert!(list.ignores(&["docs/a", "docs/b/c"]));
        assert!(!list.ignores(&["docs/a", "src/b"]));
        assert!(!PatternList::default().ignores(&["a"]));
    }

    #[test]
    fn wrong_patterns_are_refused() {
        for (pattern, error) in [
            ("", PatternError::Empty),
            ("!", PatternError::Empty),
            ("?a", PatternError::NothingToRepeat('?')),
            ("a??", PatternError::NothingToRepeat('?')),
            ("[a", PatternError::BadClass),
            ("[]", PatternError::BadClass),
            ("a\\", PatternError::NothingEscaped),
        ] {
            assert_eq!(Pattern::new(pattern).err(), Some(error), "{pattern}");
        }
    }
}
