//! Tokens to a tree. Operators wait on a stack until one of lower precedence comes, so the nesting
//! of the text costs no call stack.

use super::MAX_DEPTH;
use super::MAX_LENGTH;
use super::allowed::Allowed;
use super::ast::{Comparison, Expr, Node};
use super::error::{ErrorKind, ExprError};
use super::functions::Function;
use super::lexer::{Lexer, Operator, Token, TokenKind};
use super::value::Value;
use std::sync::Arc;

/// Parses an expression. Text without any token is `Ok(None)`.
pub(super) fn parse(source: &str, allowed: &Allowed) -> Result<Option<Expr>, ExprError> {
    if super::memory::utf16_len(source) > MAX_LENGTH {
        let message = format!("Exceeded max expression length {MAX_LENGTH}");
        return Err(ExprError::plain(ErrorKind::Parsing, message));
    }
    let parser = Parser {
        source,
        allowed,
        lexer: Lexer::new(source),
        operators: Vec::new(),
        operands: Vec::new(),
        last: None,
        too_deep: false,
    };
    let Some(Operand { node, depth, .. }) = parser.run()? else { return Ok(None) };
    Ok(Some(Expr::new(node, Arc::from(source), depth)))
}

struct Parser<'a> {
    source: &'a str,
    allowed: &'a Allowed,
    lexer: Lexer<'a>,
    operators: Vec<Token<'a>>,
    operands: Vec<Operand<'a>>,
    last: Option<Token<'a>>,
    /// A tree deeper than allowed is not built; the error waits until the text is read to its end.
    too_deep: bool,
}

struct Operand<'a> {
    node: Node,
    depth: usize,
    /// The name and the limits of a call whose arguments are not there yet.
    call: Option<(&'a str, usize, usize)>,
}

impl<'a> Parser<'a> {
    fn run(mut self) -> Result<Option<Operand<'a>>, ExprError> {
        while let Some(token) = self.lexer.next_token()? {
            if token.kind.is_operator() {
                self.push_operator(token)?;
            } else {
                self.push_operand(token)?;
            }
            self.last = Some(token);
        }
        let Some(last) = self.last else { return Ok(None) };
        let closes =
            matches!(last.kind, TokenKind::EndGroup | TokenKind::EndIndex | TokenKind::EndParameters);
        if self.lexer.has_unclosed() || (last.kind.is_operator() && !closes) {
            return Err(self.error("Unexpected end of expression", last));
        }
        while !self.operators.is_empty() {
            self.reduce();
        }
        if self.too_deep {
            let message = format!("Exceeded max expression depth {MAX_DEPTH}");
            return Err(ExprError::plain(ErrorKind::Parsing, message));
        }
        Ok(self.operands.pop())
    }

    fn error(&self, what: &str, token: Token<'_>) -> ExprError {
        ExprError::at(ErrorKind::Parsing, what, token.raw, token.at, self.source)
    }

    fn push_operand(&mut self, token: Token<'a>) -> Result<(), ExprError> {
        let mut call = None;
        let node = match token.kind {
            TokenKind::Function => {
                let Some((function, min, max)) = self.allowed.function(token.raw) else {
                    return Err(self.error("Unrecognized function", token));
                };
                call = Some((token.raw, min, max));
                Node::Call(function, token.raw.into(), Vec::new())
            }
            TokenKind::NamedValue if self.allowed.has_name(token.raw) => Node::Named(token.raw.into()),
            TokenKind::NamedValue => return Err(self.error("Unrecognized named-value", token)),
            TokenKind::PropertyName => Node::Literal(Value::str(token.raw)),
            TokenKind::Wildcard => Node::Wildcard,
            TokenKind::Boolean(value) => Node::Literal(Value::Bool(value)),
            TokenKind::Number(value) => Node::Literal(Value::Num(value)),
            TokenKind::String => {
                let inner = &token.raw[1..token.raw.len() - 1];
                Node::Literal(Value::from(inner.replace("''", "'")))
            }
            _ => Node::Literal(Value::Null),
        };
        self.operands.push(Operand { node, depth: 1, call });
        Ok(())
    }

    fn push_operator(&mut self, token: Token<'a>) -> Result<(), ExprError> {
        if binds_left(token.kind) {
            let precedence = precedence(token.kind);
            while self.operators.last().is_some_and(|top| {
                !matches!(
                    top.kind,
                    TokenKind::StartGroup
                        | TokenKind::StartIndex
                        | TokenKind::StartParameters
                        | TokenKind::Separator
                ) && precedence <= self::precedence(top.kind)
            }) {
                self.reduce();
            }
        }
        match token.kind {
            TokenKind::EndGroup => {
                self.operators.pop();
            }
            TokenKind::EndIndex => {
                self.operators.pop();
                self.reduce_index();
            }
            TokenKind::EndParameters => self.reduce_call()?,
            _ => self.operators.push(token),
        }
        Ok(())
    }

    /// Takes the last `count` operands; the lexer has made sure that they are there.
    fn take(&mut self, count: usize) -> (Vec<Node>, usize) {
        let first = self.operands.len().saturating_sub(count);
        let taken = self.operands.split_off(first);
        let depth = taken.iter().map(|operand| operand.depth).max().unwrap_or(0);
        (taken.into_iter().map(|operand| operand.node).collect(), depth)
    }

    /// Pushes a node whose children are `depth` deep.
    fn push_node(&mut self, node: Node, depth: usize) {
        if depth + 1 > MAX_DEPTH {
            self.too_deep = true;
            // A leaf in its place keeps the tree shallow, so that dropping it needs no deep stack.
            self.operands.push(Operand { node: Node::Wildcard, depth: 1, call: None });
        } else {
            self.operands.push(Operand { node, depth: depth + 1, call: None });
        }
    }

    fn reduce_index(&mut self) {
        let (mut nodes, depth) = self.take(2);
        if let (Some(index), Some(target)) = (nodes.pop(), nodes.pop()) {
            self.push_node(Node::Index(Box::new(target), Box::new(index)), depth);
        }
    }

    /// Applies the operator on top of the stack.
    fn reduce(&mut self) {
        let Some(token) = self.operators.pop() else { return };
        let TokenKind::Operator(operator) = token.kind else {
            return self.reduce_index();
        };
        if operator == Operator::Not {
            let (mut nodes, depth) = self.take(1);
            if let Some(operand) = nodes.pop() {
                self.push_node(Node::Not(Box::new(operand)), depth);
            }
            return;
        }
        if matches!(operator, Operator::And | Operator::Or) {
            return self.reduce_chain(operator);
        }
        let (mut nodes, depth) = self.take(2);
        if let (Some(right), Some(left)) = (nodes.pop(), nodes.pop()) {
            let node = Node::Compare(comparison(operator), Box::new(left), Box::new(right));
            self.push_node(node, depth);
        }
    }

    /// `&&` and `||` take the operands of an equal operator below them as their own: a long chain is
    /// one node and not deep.
    fn reduce_chain(&mut self, operator: Operator) {
        let first = self.operands.len().saturating_sub(2);
        let mut operands = Vec::new();
        let mut depth = 0;
        for operand in self.operands.split_off(first) {
            match (operator, operand.node) {
                (Operator::And, Node::And(nested)) | (Operator::Or, Node::Or(nested)) => {
                    operands.extend(nested);
                    depth = depth.max(operand.depth - 1);
                }
                (_, node) => {
                    operands.push(node);
                    depth = depth.max(operand.depth);
                }
            }
        }
        let node = if operator == Operator::And { Node::And(operands) } else { Node::Or(operands) };
        self.push_node(node, depth);
    }

    /// `)` of a call: gives the arguments to the function and counts them.
    fn reduce_call(&mut self) -> Result<(), ExprError> {
        let empty = self.last.is_some_and(|last| last.kind == TokenKind::StartParameters);
        let mut count = usize::from(!empty);
        while self.operators.last().is_some_and(|top| top.kind == TokenKind::Separator) {
            self.operators.pop();
            count += 1;
        }
        let (args, depth) = self.take(count);
        let start = self.operators.pop();
        let callee = self.operands.pop();
        let (Some(start), Some(Operand { node: Node::Call(function, ..), call: Some((name, min, max)), .. })) =
            (start, callee)
        else {
            return Ok(());
        };
        let token = Token { raw: name, at: self.name_at(start, name), ..start };
        if count < min {
            return Err(self.error("Too few parameters supplied", token));
        }
        if count > max {
            return Err(self.error("Too many parameters supplied", token));
        }
        if function == Function::Case && count.is_multiple_of(2) {
            let what = "Even number of parameters supplied, requires an odd number of parameters";
            return Err(self.error(what, token));
        }
        self.push_node(Node::Call(function, name.into(), args), depth);
        Ok(())
    }

    /// Where the name before the parenthesis `start` begins.
    fn name_at(&self, start: Token<'_>, name: &str) -> usize {
        self.source[..start.at].trim_end().len() - name.len()
    }
}

fn comparison(operator: Operator) -> Comparison {
    match operator {
        Operator::NotEqual => Comparison::NotEqual,
        Operator::Less => Comparison::Less,
        Operator::LessEqual => Comparison::LessEqual,
        Operator::Greater => Comparison::Greater,
        Operator::GreaterEqual => Comparison::GreaterEqual,
        Operator::Equal | Operator::Not | Operator::And | Operator::Or => Comparison::Equal,
    }
}

/// Does the operator let those before it of equal or higher precedence go first?
const fn binds_left(kind: TokenKind) -> bool {
    !matches!(kind, TokenKind::StartGroup | TokenKind::Operator(Operator::Not))
}

const fn precedence(kind: TokenKind) -> u8 {
    match kind {
        TokenKind::StartGroup => 20,
        TokenKind::StartIndex | TokenKind::StartParameters | TokenKind::Dereference => 19,
        TokenKind::Operator(Operator::Not) => 16,
        TokenKind::Operator(
            Operator::Less | Operator::LessEqual | Operator::Greater | Operator::GreaterEqual,
        ) => 11,
        TokenKind::Operator(Operator::Equal | Operator::NotEqual) => 10,
        TokenKind::Operator(Operator::And) => 6,
        TokenKind::Operator(Operator::Or) => 5,
        TokenKind::EndGroup | TokenKind::EndIndex | TokenKind::EndParameters | TokenKind::Separator => 1,
        _ => 0,
    }
}
