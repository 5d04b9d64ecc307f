//! The grammar of label selectors in query strings.
//!
//! `in` and `notin` are operators only where an operator may stand; everywhere else they are ordinary words.

use std::collections::BTreeSet;

use super::{Operator, Requirement, SelectorError};
use crate::names::qualified_name_errors;
use crate::status::{FieldError, FieldPath};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Word,
    Comma,
    Not,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
    Open,
    Close,
    End,
    Error,
}

struct Lexer<'a> {
    text: &'a str,
    /// The token ahead and its text.
    ahead: (Token, &'a str),
}

fn is_special(byte: u8) -> bool {
    b"=!(),<>".contains(&byte)
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str) -> Lexer<'a> {
        let mut lexer = Lexer {
            text,
            ahead: (Token::End, ""),
        };
        lexer.take();
        lexer
    }

    /// Gives the token ahead and reads the next one.
    fn take(&mut self) -> (Token, &'a str) {
        let rest = self.text.trim_start_matches([' ', '\t', '\r', '\n']);
        let bytes = rest.as_bytes();
        let two = bytes.get(..2);
        let (token, length) = match bytes.first() {
            None => (Token::End, 0),
            Some(b'=') if two == Some(b"==") => (Token::DoubleEquals, 2),
            Some(b'=') => (Token::Equals, 1),
            Some(b'!') if two == Some(b"!=") => (Token::NotEquals, 2),
            Some(b'!') => (Token::Not, 1),
            Some(b'>') => (Token::Greater, 1),
            Some(b'<') => (Token::Less, 1),
            Some(b'(') => (Token::Open, 1),
            Some(b')') => (Token::Close, 1),
            Some(b',') => (Token::Comma, 1),
            // Upstream's scanner takes a NUL for the end of its input.
            Some(0) => (Token::Error, 1),
            Some(_) => {
                let end = bytes
                    .iter()
                    .position(|b| is_special(*b) || b" \t\r\n\0".contains(b));
                (Token::Word, end.unwrap_or(bytes.len()))
            }
        };
        let (text, rest) = rest.split_at(length);
        self.text = rest;
        std::mem::replace(&mut self.ahead, (token, text))
    }
}

/// The requirements in `text`, in their order.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut lexer = Lexer::new(text);
    let mut requirements = Vec::new();
    loop {
        match lexer.ahead {
            (Token::End, _) => return Ok(requirements),
            (Token::Word | Token::Not, _) => {}
            (_, found) => {
                return refuse(format!(
                    "found '{found}', expected: !, identifier, or 'end of string'"
                ));
            }
        }
        let requirement = parse_requirement(&mut lexer)
            .map_err(|error| SelectorError(format!("unable to parse requirement: {error}")))?;
        requirements.push(requirement);
        match lexer.take() {
            (Token::End, _) => return Ok(requirements),
            (Token::Comma, _) => {
                let (token, found) = lexer.ahead;
                if !matches!(token, Token::Word | Token::Not) {
                    return refuse(format!("found '{found}', expected: identifier after ','"));
                }
            }
            (_, found) => {
                return refuse(format!("found '{found}', expected: ',' or 'end of string'"));
            }
        }
    }
}

fn refuse<T>(message: String) -> Result<T, SelectorError> {
    Err(SelectorError(message))
}

fn parse_requirement(lexer: &mut Lexer<'_>) -> Result<Requirement, SelectorError> {
    let (mut token, mut key) = lexer.take();
    let negated = token == Token::Not;
    if negated {
        (token, key) = lexer.take();
    }
    if token != Token::Word {
        return refuse(format!("found '{key}', expected: identifier"));
    }
    let wrong = qualified_name_errors(key);
    if !wrong.is_empty() {
        // Upstream checks the key without a path here, and its printed form is part of the message.
        let error = FieldError::invalid(&FieldPath::root("<nil>"), key, wrong.join("; "));
        return refuse(error.to_string());
    }
    if negated {
        return Requirement::new(key.to_owned(), Operator::DoesNotExist, Vec::new());
    }
    if matches!(lexer.ahead.0, Token::End | Token::Comma) {
        return Requirement::new(key.to_owned(), Operator::Exists, Vec::new());
    }
    let operator = match lexer.take() {
        (Token::Word, "in") => Operator::In,
        (Token::Word, "notin") => Operator::NotIn,
        (Token::Equals, _) => Operator::Equals,
        (Token::DoubleEquals, _) => Operator::DoubleEquals,
        (Token::NotEquals, _) => Operator::NotEquals,
        (Token::Greater, _) => Operator::GreaterThan,
        (Token::Less, _) => Operator::LessThan,
        (_, found) => {
            return refuse(format!(
                "found '{found}', expected: in, notin, =, ==, !=, gt, lt"
            ));
        }
    };
    let values = match operator {
        Operator::In | Operator::NotIn => parse_values(lexer)?,
        _ => vec![parse_exact_value(lexer)?],
    };
    Requirement::new(key.to_owned(), operator, values)
}

fn parse_values(lexer: &mut Lexer<'_>) -> Result<Vec<String>, SelectorError> {
    let (token, found) = lexer.take();
    if token != Token::Open {
        return refuse(format!("found '{found}' expected: '('"));
    }
    let mut values = BTreeSet::new();
    // An empty place between commas or parentheses is the empty value.
    let mut place_is_empty = true;
    match lexer.ahead {
        (Token::Word | Token::Comma | Token::Close, _) => {}
        (_, found) => return refuse(format!("found '{found}', expected: ',', ')' or identifier")),
    }
    loop {
        match lexer.take() {
            (Token::Word, word) => {
                values.insert(word.to_owned());
                place_is_empty = false;
                let (token, found) = lexer.ahead;
                if !matches!(token, Token::Comma | Token::Close) {
                    return refuse(format!("found '{found}', expected: ',' or ')'"));
                }
            }
            (Token::Comma, _) => {
                if place_is_empty {
                    values.insert(String::new());
                }
                place_is_empty = true;
            }
            (Token::Close, _) => {
                if place_is_empty {
                    values.insert(String::new());
                }
                return Ok(values.into_iter().collect());
            }
            (_, found) => return refuse(format!("found '{found}', expected: ',', or identifier")),
        }
    }
}

fn parse_exact_value(lexer: &mut Lexer<'_>) -> Result<String, SelectorError> {
    if matches!(lexer.ahead.0, Token::End | Token::Comma) {
        return Ok(String::new());
    }
    match lexer.take() {
        (Token::Word, word) => Ok(word.to_owned()),
        (_, found) => refuse(format!("found '{found}', expected: identifier")),
    }
}
