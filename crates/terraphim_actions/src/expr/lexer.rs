//! Text to tokens. Whether a token may follow the one before it is decided here, so the parser
//! only ever sees sequences that make sense so far.

use super::error::{ErrorKind, ExprError};
use super::number;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum TokenKind {
    StartGroup,
    StartIndex,
    StartParameters,
    EndGroup,
    EndIndex,
    EndParameters,
    Separator,
    Dereference,
    Wildcard,
    Operator(Operator),
    Null,
    Boolean(bool),
    Number(f64),
    String,
    PropertyName,
    NamedValue,
    Function,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Not,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Equal,
    NotEqual,
    And,
    Or,
}

impl TokenKind {
    /// May an operand follow?
    const fn opens(self) -> bool {
        matches!(
            self,
            Self::Separator | Self::StartGroup | Self::StartParameters | Self::StartIndex | Self::Operator(_)
        )
    }

    /// Can it be the last token of something that `.` or `[` may follow?
    const fn ends_path(self) -> bool {
        matches!(
            self,
            Self::EndGroup
                | Self::EndParameters
                | Self::EndIndex
                | Self::Wildcard
                | Self::PropertyName
                | Self::NamedValue
        )
    }

    /// Can it be the last token of an operand?
    const fn ends_operand(self) -> bool {
        self.ends_path() || matches!(self, Self::Null | Self::Boolean(_) | Self::Number(_) | Self::String)
    }

    pub(super) const fn is_operator(self) -> bool {
        matches!(
            self,
            Self::StartGroup
                | Self::StartIndex
                | Self::StartParameters
                | Self::EndGroup
                | Self::EndIndex
                | Self::EndParameters
                | Self::Separator
                | Self::Dereference
                | Self::Operator(_)
        )
    }

    /// May this token come after `last`?
    fn may_follow(self, last: Option<Self>) -> bool {
        let operand_place = last.is_none_or(Self::opens);
        match self {
            Self::StartIndex | Self::Dereference => last.is_some_and(Self::ends_path),
            Self::StartParameters => last == Some(Self::Function),
            Self::EndParameters => last.is_some_and(|k| k == Self::StartParameters || k.ends_operand()),
            Self::EndGroup | Self::EndIndex | Self::Separator => last.is_some_and(Self::ends_operand),
            Self::Wildcard => matches!(last, Some(Self::StartIndex | Self::Dereference)),
            Self::PropertyName => last == Some(Self::Dereference),
            Self::Operator(Operator::Not)
            | Self::StartGroup
            | Self::Null
            | Self::Boolean(_)
            | Self::Number(_)
            | Self::String
            | Self::Function
            | Self::NamedValue => operand_place,
            Self::Operator(_) => last.is_some_and(Self::ends_operand),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: TokenKind,
    pub(super) raw: &'a str,
    /// Byte offset in the expression.
    pub(super) at: usize,
}

pub(super) struct Lexer<'a> {
    source: &'a str,
    index: usize,
    last: Option<TokenKind>,
    unclosed: Vec<TokenKind>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        Self { source, index: 0, last: None, unclosed: Vec::new() }
    }

    /// Is a bracket still open?
    pub(super) fn has_unclosed(&self) -> bool {
        !self.unclosed.is_empty()
    }

    /// The next token, `None` at the end.
    pub(super) fn next_token(&mut self) -> Result<Option<Token<'a>>, ExprError> {
        self.index += self.rest().len() - self.rest().trim_start().len();
        let Some(first) = self.rest().chars().next() else { return Ok(None) };
        let start = self.index;
        let kind = self.read(first)?;
        let token = Token { kind, raw: &self.source[start..self.index], at: start };
        self.check(token)?;
        self.last = Some(kind);
        Ok(Some(token))
    }

    fn rest(&self) -> &'a str {
        &self.source[self.index..]
    }

    /// Reads one token, moving past it.
    fn read(&mut self, first: char) -> Result<TokenKind, ExprError> {
        let single = match first {
            '(' if self.last == Some(TokenKind::Function) => TokenKind::StartParameters,
            '(' => TokenKind::StartGroup,
            ')' if self.unclosed.last() == Some(&TokenKind::StartParameters) => TokenKind::EndParameters,
            ')' => TokenKind::EndGroup,
            '[' => TokenKind::StartIndex,
            ']' => TokenKind::EndIndex,
            ',' => TokenKind::Separator,
            '*' => TokenKind::Wildcard,
            '.' if self.last.is_some_and(|last| !last.opens()) => TokenKind::Dereference,
            '\'' => return self.read_string(),
            '!' | '<' | '>' | '=' | '&' | '|' => return self.read_operator(),
            '.' | '-' | '+' | '0'..='9' => return self.read_number(),
            _ => return self.read_keyword(first),
        };
        self.index += 1;
        Ok(single)
    }

    fn lexing_error(&self, start: usize) -> ExprError {
        let raw = &self.source[start..self.index];
        ExprError::at(ErrorKind::Lexing, "Unexpected symbol", raw, start, self.source)
    }

    fn read_string(&mut self) -> Result<TokenKind, ExprError> {
        let start = self.index;
        self.index += 1;
        loop {
            let Some(quote) = self.rest().find('\'') else {
                self.index = self.source.len();
                return Err(self.lexing_error(start));
            };
            self.index += quote + 1;
            if !self.rest().starts_with('\'') {
                return Ok(TokenKind::String);
            }
            self.index += 1;
        }
    }

    fn read_operator(&mut self) -> Result<TokenKind, ExprError> {
        const OPERATORS: [(&str, Operator); 9] = [
            ("!=", Operator::NotEqual),
            (">=", Operator::GreaterEqual),
            ("<=", Operator::LessEqual),
            ("==", Operator::Equal),
            ("&&", Operator::And),
            ("||", Operator::Or),
            ("!", Operator::Not),
            (">", Operator::Greater),
            ("<", Operator::Less),
        ];
        let rest = self.rest();
        if let Some((text, operator)) = OPERATORS.iter().find(|(text, _)| rest.starts_with(text)) {
            self.index += text.len();
            return Ok(TokenKind::Operator(*operator));
        }
        let start = self.index;
        self.index += 1;
        self.skip_word(|_| false);
        Err(self.lexing_error(start))
    }

    fn read_number(&mut self) -> Result<TokenKind, ExprError> {
        let start = self.index;
        self.index += 1;
        self.skip_word(|c| c == '.');
        let number = number::parse(&self.source[start..self.index]);
        if number.is_nan() { Err(self.lexing_error(start)) } else { Ok(TokenKind::Number(number)) }
    }

    fn read_keyword(&mut self, first: char) -> Result<TokenKind, ExprError> {
        let start = self.index;
        self.index += first.len_utf8();
        self.skip_word(|_| false);
        let word = &self.source[start..self.index];
        if !is_keyword(word) {
            return Err(self.lexing_error(start));
        }
        if self.last == Some(TokenKind::Dereference) {
            return Ok(TokenKind::PropertyName);
        }
        Ok(match word {
            "null" => TokenKind::Null,
            "true" => TokenKind::Boolean(true),
            "false" => TokenKind::Boolean(false),
            "NaN" => TokenKind::Number(f64::NAN),
            "Infinity" => TokenKind::Number(f64::INFINITY),
            _ if self.rest().trim_start().starts_with('(') => TokenKind::Function,
            _ => TokenKind::NamedValue,
        })
    }

    /// Moves to the end of the word: a white space or a character that starts another token.
    fn skip_word(&mut self, also: impl Fn(char) -> bool) {
        let boundary = |c: char| !also(c) && ("()[],.!><=&|".contains(c) || c.is_whitespace());
        self.index += self.rest().find(boundary).unwrap_or(self.rest().len());
    }

    /// Refuses a token that cannot come here, and keeps account of brackets.
    fn check(&mut self, token: Token<'a>) -> Result<(), ExprError> {
        let innermost = self.unclosed.last().copied();
        let balanced = match token.kind {
            TokenKind::EndGroup => innermost == Some(TokenKind::StartGroup),
            TokenKind::EndIndex => innermost == Some(TokenKind::StartIndex),
            TokenKind::EndParameters | TokenKind::Separator => innermost == Some(TokenKind::StartParameters),
            _ => true,
        };
        if !balanced || !token.kind.may_follow(self.last) {
            let kind = ErrorKind::Parsing;
            return Err(ExprError::at(kind, "Unexpected symbol", token.raw, token.at, self.source));
        }
        match token.kind {
            TokenKind::StartGroup | TokenKind::StartIndex | TokenKind::StartParameters => {
                self.unclosed.push(token.kind);
            }
            TokenKind::EndGroup | TokenKind::EndIndex | TokenKind::EndParameters => {
                self.unclosed.pop();
            }
            _ => {}
        }
        Ok(())
    }
}

/// Is it a name: a letter or `_`, then letters, digits, `_` and `-`?
pub(crate) fn is_keyword(word: &str) -> bool {
    let mut bytes = word.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}
