//! Reads a shell script as far as is needed to tell which programs it runs, and no further.
//!
//! Quotes, escapes, comments, here-documents, redirections, operators, groups and the words of control structures are
//! understood; expansions stay as they are written. Any text gives some answer: this is no checker.

use std::iter::Peekable;
use std::str::Chars;

/// Longer scripts are looked at up to here; what follows still counts in their exact form.
const MAX_CHARS: usize = 64 * 1024;

/// More commands than this in one script say nothing more about it.
const MAX_COMMANDS: usize = 64;

/// What stands between a command and the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joint {
    /// A new line, `;` or the beginning.
    Then,
    /// `&&`
    And,
    /// `||`
    Or,
    /// `|` or `|&`
    Pipe,
    /// `&`
    Background,
}

impl Joint {
    pub(super) const ALL: [Joint; 5] = [Joint::Then, Joint::And, Joint::Or, Joint::Pipe, Joint::Background];

    pub(super) fn text(self) -> &'static str {
        match self {
            Joint::Then => " ; ",
            Joint::And => " && ",
            Joint::Or => " || ",
            Joint::Pipe => " | ",
            Joint::Background => " & ",
        }
    }
}

/// One command of a script: its words without quotes and redirections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Simple {
    pub(super) joint: Joint,
    pub(super) words: Vec<String>,
}

/// The commands of a script in the order in which they are written.
pub(super) fn commands(script: &str) -> Vec<Simple> {
    let end = script.char_indices().nth(MAX_CHARS).map_or(script.len(), |(at, _)| at);
    let mut reader = Reader { chars: script[..end].chars().peekable(), found: Vec::new(), ..Reader::empty() };
    reader.read();
    reader.found
}

struct Reader<'a> {
    chars: Peekable<Chars<'a>>,
    found: Vec<Simple>,
    joint: Joint,
    words: Vec<String>,
    word: Option<String>,
    /// The next word is where a redirection leads.
    in_redirection: bool,
    /// `for x in a b` and `case x in`: no command until the line ends.
    in_header: bool,
    /// Ends of here-documents whose text begins after this line.
    here: Vec<String>,
    next_is_here: bool,
}

impl<'a> Reader<'a> {
    fn empty() -> Reader<'a> {
        Reader {
            chars: "".chars().peekable(),
            found: Vec::new(),
            joint: Joint::Then,
            words: Vec::new(),
            word: None,
            in_redirection: false,
            in_header: false,
            here: Vec::new(),
            next_is_here: false,
        }
    }

    fn read(&mut self) {
        while let Some(c) = self.chars.next() {
            if self.found.len() >= MAX_COMMANDS {
                return;
            }
            match c {
                '\\' => self.escape(),
                '\'' => self.single(),
                '"' => self.double(),
                '`' => self.substitution('`', None),
                '$' => self.dollar(),
                '#' if self.word.is_none() => self.comment(),
                '\n' => {
                    self.end_command(Joint::Then);
                    self.skip_here_documents();
                }
                ';' => self.end_command(Joint::Then),
                '&' => self.ampersand(),
                '|' => self.bar(),
                '<' | '>' => self.redirection(c),
                '(' if self.word.is_none() => self.end_command(self.joint_now()),
                ')' => self.end_command(Joint::Then),
                c if c.is_whitespace() => self.end_word(),
                c => self.push(c),
            }
        }
        self.end_command(Joint::Then);
    }

    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn escape(&mut self) {
        match self.chars.next() {
            Some('\n') | None => {}
            Some(c) => self.push(c),
        }
    }

    fn single(&mut self) {
        self.word.get_or_insert_default();
        while let Some(c) = self.chars.next().filter(|c| *c != '\'') {
            self.push(c);
        }
    }

    fn double(&mut self) {
        self.word.get_or_insert_default();
        while let Some(c) = self.chars.next() {
            match c {
                '"' => return,
                '\\' => self.escape(),
                '$' => self.dollar(),
                c => self.push(c),
            }
        }
    }

    /// `$x`, `${x}`, `$(x)`, and `${{ x }}` of a workflow that was not evaluated.
    fn dollar(&mut self) {
        self.push('$');
        match self.chars.peek() {
            Some('(') => {
                self.chars.next();
                self.push('(');
                self.substitution(')', Some('('));
            }
            Some('{') => {
                self.chars.next();
                self.push('{');
                self.substitution('}', Some('{'));
            }
            _ => {}
        }
    }

    /// Text up to the matching `end`, kept as it is.
    fn substitution(&mut self, end: char, start: Option<char>) {
        let mut depth = 1;
        while let Some(c) = self.chars.next() {
            if Some(c) == start {
                depth += 1;
            } else if c == end {
                depth -= 1;
            }
            self.push(if c.is_whitespace() { ' ' } else { c });
            if depth == 0 {
                return;
            }
        }
    }

    fn comment(&mut self) {
        while self.chars.next_if(|c| *c != '\n').is_some() {}
    }

    fn ampersand(&mut self) {
        match self.chars.peek() {
            Some('&') => {
                self.chars.next();
                self.end_command(Joint::And);
            }
            // `&> file`
            Some('>') => self.end_word(),
            _ => self.end_command(Joint::Background),
        }
    }

    fn bar(&mut self) {
        let joint = match self.chars.peek() {
            Some('|') => Joint::Or,
            _ => Joint::Pipe,
        };
        if matches!(self.chars.peek(), Some('|' | '&')) {
            self.chars.next();
        }
        self.end_command(joint);
    }

    fn redirection(&mut self, first: char) {
        // The number before it (`2>`) is no word.
        if self.word.as_ref().is_some_and(|word| word.chars().all(|c| c.is_ascii_digit())) {
            self.word = None;
        }
        self.end_word();
        if first == '<' && self.chars.next_if_eq(&'<').is_some() {
            // `<<<` gives a text, `<<` a here-document.
            if self.chars.next_if_eq(&'<').is_none() {
                self.chars.next_if_eq(&'-');
                self.next_is_here = true;
            }
        } else {
            self.chars.next_if(|c| matches!(c, '>' | '&' | '|'));
        }
        self.in_redirection = true;
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else { return };
        if self.in_redirection {
            self.in_redirection = false;
            if std::mem::take(&mut self.next_is_here) {
                self.here.push(word);
            }
            return;
        }
        if self.words.is_empty() && !self.in_header {
            match word.as_str() {
                "if" | "then" | "else" | "elif" | "fi" | "do" | "done" | "while" | "until" | "!" | "{"
                | "}" | "esac" => return,
                "for" | "case" | "select" | "function" => {
                    self.in_header = true;
                    return;
                }
                _ => {}
            }
        }
        if !self.in_header {
            self.words.push(word);
        }
    }

    /// What joins the command that ends here to the next one, when nothing was read of it yet.
    fn joint_now(&self) -> Joint {
        if self.words.is_empty() { self.joint } else { Joint::Then }
    }

    fn end_command(&mut self, next: Joint) {
        self.end_word();
        self.in_redirection = false;
        self.next_is_here = false;
        self.in_header = false;
        let words = std::mem::take(&mut self.words);
        if words.is_empty() {
            // `(` after `&&`, and the line end after `&&`, do not change how the commands are joined.
            if next != Joint::Then {
                self.joint = next;
            }
            return;
        }
        self.found.push(Simple { joint: self.joint, words });
        self.joint = next;
    }

    fn skip_here_documents(&mut self) {
        for end in std::mem::take(&mut self.here) {
            loop {
                let mut line = String::new();
                let mut is_last = true;
                for c in self.chars.by_ref() {
                    if c == '\n' {
                        is_last = false;
                        break;
                    }
                    line.push(c);
                }
                if is_last || line.trim() == end {
                    break;
                }
            }
        }
    }
}
