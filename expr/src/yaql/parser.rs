//! From tokens to a tree (spec/orquesta.md §26.2).

use std::sync::Arc;

use super::lexer::{Kind, Token, tokens};
use crate::workflow::Fault;

/// Nesting of brackets and operators.
const MAX_DEPTH: usize = 60;
/// Bytes of the longest expression.
const MAX_TEXT: usize = 1 << 18;

/// A node of the tree.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expr {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Arc<str>),
    /// A bare word.
    Word(Arc<str>),
    Variable(Arc<str>),
    List(Vec<Arg>),
    Map(Vec<Arg>),
    Call(Arc<str>, Vec<Arg>),
    /// `a[…]`.
    Index(Box<Expr>, Vec<Arg>),
    /// `a{…}`.
    Extend(Box<Expr>, Vec<Arg>),
    /// `a.b` and `a?.b`.
    Dot {
        left: Box<Expr>,
        right: Box<Expr>,
        safe: bool,
    },
    Unary(&'static str, Box<Expr>),
    Binary(&'static str, Box<Expr>, Box<Expr>),
}

/// What stands between commas.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Arg {
    /// Nothing: the default.
    Empty,
    Plain(Expr),
    /// `word => value`.
    Named(Arc<str>, Expr),
    /// `key => value` with any other key.
    Mapping(Expr, Expr),
}

/// Parses a whole text.
pub(super) fn parse(text: &str) -> Result<Expr, Fault> {
    if text.len() > MAX_TEXT {
        return Err(Fault::limit("the expression is too long"));
    }
    let (tokens, wrong) = tokens(text);
    let mut parser = Parser { text, tokens, wrong, next: 0, depth: 0 };
    let expression = parser.expression(0)?;
    if parser.peek().is_none() && parser.wrong.is_none() { Ok(expression) } else { Err(parser.unexpected()) }
}

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<Token>,
    /// What is wrong behind the tokens.
    wrong: Option<Fault>,
    next: usize,
    depth: usize,
}

/// How tightly an operator binds on its left and right.
fn binding(operator: &str) -> Option<(u8, u8)> {
    Some(match operator {
        "->" => (2, 1),
        "or" => (3, 4),
        "and" => (5, 6),
        ">" | "<" | ">=" | "<=" | "!=" | "=" | "in" => (9, 10),
        "+" | "-" => (11, 12),
        "*" | "/" | "mod" => (13, 14),
        "=~" | "!~" => (15, 16),
        _ => return None,
    })
}

const NOT: u8 = 7;
const SIGN: u8 = 17;

impl Parser<'_> {
    fn peek(&self) -> Option<&Kind> {
        self.tokens.get(self.next).map(|token| &token.kind)
    }

    fn at(&self, symbol: &str) -> bool {
        matches!(self.peek(), Some(Kind::Symbol(found)) if *found == symbol)
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = self.at(symbol);
        self.next += usize::from(found);
        found
    }

    fn unexpected(&self) -> Fault {
        let text = match self.tokens.get(self.next) {
            None if let Some(wrong) = &self.wrong => return wrong.clone(),
            None => "Parse error: unexpected end of statement".to_owned(),
            Some(token) => {
                let (shown, at) = (token.shown(), token.at);
                format!("Parse error: unexpected '{shown}' at position {at} of expression '{}'", self.text)
            }
        };
        Fault::new("YaqlGrammarException", text)
    }

    fn expression(&mut self, least: u8) -> Result<Expr, Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Fault::limit("the expression is nested too deeply"));
        }
        let mut left = self.operand()?;
        let mut chain = 0;
        while let Some(Kind::Symbol(operator)) = self.peek() {
            let operator = *operator;
            let Some((before, after)) = binding(operator) else { break };
            if before < least {
                break;
            }
            self.next += 1;
            chain += 1;
            if chain > MAX_DEPTH * 2 {
                return Err(Fault::limit("the expression is too long"));
            }
            let right = self.expression(after)?;
            left = Expr::Binary(operator, Box::new(left), Box::new(right));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn operand(&mut self) -> Result<Expr, Fault> {
        let prefix = [("not", NOT), ("-", SIGN), ("+", SIGN)].into_iter().find(|(symbol, _)| self.at(symbol));
        if let Some((operator, power)) = prefix {
            self.next += 1;
            let inner = self.expression(power)?;
            return Ok(Expr::Unary(operator, Box::new(inner)));
        }
        let mut left = self.primary()?;
        let mut chain = 0;
        loop {
            chain += 1;
            if chain > MAX_DEPTH * 2 {
                return Err(Fault::limit("the expression is too long"));
            }
            left = if self.at(".") || self.at("?.") {
                let safe = self.at("?.");
                self.next += 1;
                Expr::Dot { left: Box::new(left), right: Box::new(self.primary()?), safe }
            } else if self.take("[") {
                Expr::Index(Box::new(left), self.arguments("]")?)
            } else if self.take("{") {
                Expr::Extend(Box::new(left), self.arguments("}")?)
            } else {
                return Ok(left);
            };
        }
    }

    fn primary(&mut self) -> Result<Expr, Fault> {
        let Some(kind) = self.peek().cloned() else { return Err(self.unexpected()) };
        let expression = match kind {
            Kind::Int(number) => Expr::Int(number),
            Kind::Float(number) => Expr::Float(number),
            Kind::Text(text) => Expr::Text(text),
            Kind::True => Expr::Bool(true),
            Kind::False => Expr::Bool(false),
            Kind::Null => Expr::Null,
            Kind::Word(word) => Expr::Word(word),
            Kind::Variable(name) => Expr::Variable(name),
            Kind::Call(name) => {
                self.next += 1;
                return Ok(Expr::Call(name, self.arguments(")")?));
            }
            Kind::Symbol("(") => {
                self.next += 1;
                let inner = self.expression(0)?;
                return if self.take(")") { Ok(inner) } else { Err(self.unexpected()) };
            }
            Kind::Symbol("[") => {
                self.next += 1;
                return Ok(Expr::List(self.arguments("]")?));
            }
            Kind::Symbol("{") => {
                self.next += 1;
                return Ok(Expr::Map(self.arguments("}")?));
            }
            Kind::Symbol(_) => return Err(self.unexpected()),
        };
        self.next += 1;
        Ok(expression)
    }

    /// Positional arguments, then named ones, up to the closing bracket.
    fn arguments(&mut self, close: &str) -> Result<Vec<Arg>, Fault> {
        let mut args = Vec::new();
        if self.take(close) {
            return Ok(args);
        }
        let mut named = false;
        loop {
            if self.at(",") && !named {
                args.push(Arg::Empty);
            } else {
                let key = self.expression(0)?;
                if self.take("=>") {
                    named = true;
                    let value = self.expression(0)?;
                    args.push(match key {
                        Expr::Word(word) => Arg::Named(word, value),
                        key => Arg::Mapping(key, value),
                    });
                } else if named {
                    return Err(self.unexpected());
                } else {
                    args.push(Arg::Plain(key));
                }
            }
            if self.take(close) {
                return Ok(args);
            }
            if !self.take(",") {
                return Err(self.unexpected());
            }
        }
    }
}
