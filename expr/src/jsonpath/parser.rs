//! Grammar of a path, as `jsonpath-rw` has it: `..` binds loosest, then `.`, `|`, `where` and, tightest, subscripts.

use super::lexer::{Token, tokens};
use super::{PathError, Step};

/// Longest path in bytes and in parts, and deepest nesting, that is taken.
const MAX_LENGTH: usize = 4096;
const MAX_TOKENS: usize = 400;
const MAX_DEPTH: usize = 50;

pub(super) fn parse(path: &str) -> Result<Step, PathError> {
    if path.len() > MAX_LENGTH {
        return Err(PathError(format!("the path is longer than {MAX_LENGTH} bytes")));
    }
    let mut parser = Parser { path, tokens: tokens(path)?, at: 0, depth: 0 };
    if parser.tokens.len() > MAX_TOKENS {
        return Err(PathError(format!("the path has more than {MAX_TOKENS} parts")));
    }
    let step = parser.chain()?;
    match parser.tokens.get(parser.at) {
        None => Ok(step),
        Some(_) => Err(parser.error()),
    }
}

struct Parser<'p> {
    path: &'p str,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn error(&self) -> PathError {
        let near = match self.tokens.get(self.at) {
            None => "end of path".to_owned(),
            Some(Token::Name(text) | Token::Operator(text)) => text.clone(),
            Some(Token::Number(number)) => number.to_string(),
            Some(Token::Where) => "where".to_owned(),
            Some(Token::DoubleDot) => "..".to_owned(),
            Some(Token::Sign(sign)) => sign.to_string(),
        };
        PathError(format!("Parse error near {near} in {}", self.path))
    }

    fn take(&mut self, sign: char) -> bool {
        let found = self.tokens.get(self.at) == Some(&Token::Sign(sign));
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: char) -> Result<(), PathError> {
        if self.take(sign) { Ok(()) } else { Err(self.error()) }
    }

    /// `a..b.c` is everything named `b.c` below `a`.
    fn chain(&mut self) -> Result<Step, PathError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(PathError("the path is nested too deeply".to_owned()));
        }
        let mut left = self.dotted()?;
        while self.tokens.get(self.at) == Some(&Token::DoubleDot) {
            self.at += 1;
            left = Step::Descendants(Box::new(left), Box::new(self.dotted()?));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn dotted(&mut self) -> Result<Step, PathError> {
        let mut left = self.union()?;
        while self.take('.') {
            left = Step::Child(Box::new(left), Box::new(self.union()?));
        }
        Ok(left)
    }

    fn union(&mut self) -> Result<Step, PathError> {
        let mut left = self.filtered()?;
        while self.take('|') {
            left = Step::Union(Box::new(left), Box::new(self.filtered()?));
        }
        Ok(left)
    }

    fn filtered(&mut self) -> Result<Step, PathError> {
        let mut left = self.subscripted()?;
        while self.tokens.get(self.at) == Some(&Token::Where) {
            self.at += 1;
            left = Step::Where(Box::new(left), Box::new(self.subscripted()?));
        }
        Ok(left)
    }

    fn subscripted(&mut self) -> Result<Step, PathError> {
        let mut left = self.atom()?;
        while self.take('[') {
            left = Step::Child(Box::new(left), Box::new(self.subscript()?));
        }
        Ok(left)
    }

    fn atom(&mut self) -> Result<Step, PathError> {
        match self.tokens.get(self.at).cloned() {
            Some(Token::Name(_) | Token::Sign('*')) => Ok(Step::Fields(self.names()?)),
            Some(Token::Sign('$')) => {
                self.at += 1;
                Ok(Step::Root)
            }
            Some(Token::Operator(name)) => {
                let step = match name.as_str() {
                    "this" => Step::This,
                    "parent" => Step::Parent,
                    _ => return Err(PathError(format!("Unknown named operator `{name}` in {}", self.path))),
                };
                self.at += 1;
                Ok(step)
            }
            Some(Token::Sign('(')) => {
                self.at += 1;
                let inner = self.chain()?;
                self.expect(')')?;
                Ok(inner)
            }
            Some(Token::Sign('[')) => {
                self.at += 1;
                self.subscript()
            }
            _ => Err(self.error()),
        }
    }

    /// One name or several with commas between; `*` takes all.
    fn names(&mut self) -> Result<Vec<String>, PathError> {
        let mut names = Vec::new();
        loop {
            match self.tokens.get(self.at).cloned() {
                Some(Token::Name(name)) => names.push(name),
                Some(Token::Sign('*')) => names.push("*".to_owned()),
                _ => return Err(self.error()),
            }
            self.at += 1;
            if !self.take(',') {
                return Ok(names);
            }
        }
    }

    fn number(&mut self) -> Option<i64> {
        let Some(Token::Number(number)) = self.tokens.get(self.at) else { return None };
        self.at += 1;
        Some(*number)
    }

    /// After `[`: names, an index, a slice or `*`.
    fn subscript(&mut self) -> Result<Step, PathError> {
        let step = match self.tokens.get(self.at) {
            Some(Token::Name(_)) => Step::Fields(self.names()?),
            Some(Token::Sign('*')) => {
                self.at += 1;
                Step::Slice(None, None)
            }
            _ => {
                let start = self.number();
                if self.take(':') {
                    let end = self.number();
                    Step::Slice(start, end)
                } else {
                    Step::Index(start.ok_or_else(|| self.error())?)
                }
            }
        };
        self.expect(']')?;
        Ok(step)
    }
}
