//! The grammar of label selectors, and the complaints about text that does not follow it.
//!
//! `KEY`, `!KEY`, `KEY = V`, `KEY == V`, `KEY != V`, `KEY in (V, …)`, `KEY notin (V, …)`, `KEY > N`,
//! `KEY < N`, joined by commas.

use super::{
    label::{Operator, Requirement},
    lexer::{Token, tokens},
};
use crate::kinds::{
    field::{Errors, Path},
    format,
};

/// Parses the text of a selector.
pub fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let mut parser = Parser { tokens: tokens(text), at: 0 };
    let mut out = Vec::new();
    loop {
        match parser.peek() {
            Token::End => return Ok(out),
            Token::Word(_) | Token::In | Token::NotIn | Token::Not => {
                out.push(parser.requirement().map_err(|e| format!("unable to parse requirement: {e}"))?);
            }
            other => return Err(expected(other, "!, identifier, or 'end of string'")),
        }
        match parser.next() {
            Token::End => return Ok(out),
            Token::Comma => match parser.peek() {
                Token::Word(_) | Token::In | Token::NotIn | Token::Not => {}
                other => return Err(expected(other, "identifier after ','")),
            },
            other => return Err(expected(&other, "',' or 'end of string'")),
        }
    }
}

fn expected(found: &Token, what: &str) -> String {
    format!("found '{}', expected: {what}", found.text())
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let mut token = self.next();
        let negated = token == Token::Not;
        if negated {
            token = self.next();
        }
        let (Token::Word(_) | Token::In | Token::NotIn) = token else {
            return Err(expected(&token, "identifier"));
        };
        let key = token.text().to_owned();
        let complaints = format::qualified_name(&key);
        if !complaints.is_empty() {
            let shown = serde_json::Value::from(key.as_str());
            return Err(format!("<nil>: Invalid value: {shown}: {}", complaints.join("; ")));
        }
        if negated {
            return Ok(Requirement { key, operator: Operator::DoesNotExist, values: Vec::new() });
        }
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Ok(Requirement { key, operator: Operator::Exists, values: Vec::new() });
        }
        let operator = self.operator()?;
        let mut values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.exact_value()?],
        };
        values.sort();
        values.dedup();
        check_values(&key, operator, &values)?;
        Ok(Requirement { key, operator, values })
    }

    fn operator(&mut self) -> Result<Operator, String> {
        Ok(match self.next() {
            Token::In => Operator::In,
            Token::NotIn => Operator::NotIn,
            Token::Equals => Operator::Equals,
            Token::DoubleEquals => Operator::DoubleEquals,
            Token::NotEquals => Operator::NotEquals,
            Token::Greater => Operator::GreaterThan,
            Token::Less => Operator::LessThan,
            other => return Err(expected(&other, "in, notin, =, ==, !=, gt, lt")),
        })
    }

    /// `(a, b, )`: an empty place between commas is the empty value.
    fn values(&mut self) -> Result<Vec<String>, String> {
        let open = self.next();
        if open != Token::Open {
            return Err(format!("found '{}' expected: '('", open.text()));
        }
        let mut out = Vec::new();
        loop {
            match self.next() {
                Token::Close => {
                    out.push(String::new());
                    return Ok(out);
                }
                Token::Comma => out.push(String::new()),
                word @ (Token::Word(_) | Token::In | Token::NotIn) => {
                    out.push(word.text().to_owned());
                    match self.next() {
                        Token::Comma => {}
                        Token::Close => return Ok(out),
                        other => return Err(expected(&other, "',' or ')'")),
                    }
                }
                other if out.is_empty() => return Err(expected(&other, "',', ')' or identifier")),
                other => return Err(expected(&other, "',', or identifier")),
            }
        }
    }

    fn exact_value(&mut self) -> Result<String, String> {
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.next() {
            word @ (Token::Word(_) | Token::In | Token::NotIn) => Ok(word.text().to_owned()),
            other => Err(expected(&other, "identifier")),
        }
    }
}

fn check_values(key: &str, operator: Operator, values: &[String]) -> Result<(), String> {
    let mut errors = Errors::default();
    let numeric = matches!(operator, Operator::GreaterThan | Operator::LessThan);
    for (i, value) in values.iter().enumerate() {
        let path = Path::new("values").index(i);
        if numeric && value.parse::<i64>().is_err() {
            errors.invalid(&path, value.as_str(), "for 'Gt', 'Lt' operators, the value must be an integer");
        }
        let complaints = format::label_value(value);
        if !complaints.is_empty() {
            errors.invalid(&path.key(key), value.as_str(), &complaints.join("; "));
        }
    }
    let texts: Vec<String> =
        errors.into_causes().iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
    match texts.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}
