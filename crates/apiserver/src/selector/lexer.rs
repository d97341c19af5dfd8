//! The tokens of a label selector's text.

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    End,
    Open,
    Close,
    Comma,
    Not,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
    In,
    NotIn,
    Word(String),
    /// A run of special characters that means nothing.
    Bad(String),
}

impl Token {
    /// The text as it is quoted in error messages.
    pub fn text(&self) -> &str {
        match self {
            Self::End => "",
            Self::Open => "(",
            Self::Close => ")",
            Self::Comma => ",",
            Self::Not => "!",
            Self::Equals => "=",
            Self::DoubleEquals => "==",
            Self::NotEquals => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::In => "in",
            Self::NotIn => "notin",
            Self::Word(text) | Self::Bad(text) => text,
        }
    }
}

fn special(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn white(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// All tokens of `text`, closed by [`Token::End`].
pub fn tokens(text: &str) -> Vec<Token> {
    let mut out = Vec::new();
    let mut rest = text.trim_start_matches(white);
    while let Some(first) = rest.chars().next() {
        let (token, len) = if special(first) { symbol(rest) } else { word(rest) };
        out.push(token);
        rest = rest[len..].trim_start_matches(white);
    }
    out.push(Token::End);
    out
}

/// The longest operator at the start of `rest`, which starts with a special character.
fn symbol(rest: &str) -> (Token, usize) {
    const SYMBOLS: [(&str, Token); 9] = [
        ("==", Token::DoubleEquals),
        ("!=", Token::NotEquals),
        ("=", Token::Equals),
        ("!", Token::Not),
        ("(", Token::Open),
        (")", Token::Close),
        (",", Token::Comma),
        (">", Token::Greater),
        ("<", Token::Less),
    ];
    for (text, token) in SYMBOLS {
        if rest.starts_with(text) {
            return (token, text.len());
        }
    }
    let len = rest.chars().next().map_or(rest.len(), char::len_utf8);
    (Token::Bad(rest[..len].to_owned()), len)
}

fn word(rest: &str) -> (Token, usize) {
    let len = rest.find(|c| special(c) || white(c)).unwrap_or(rest.len());
    let token = match &rest[..len] {
        "in" => Token::In,
        "notin" => Token::NotIn,
        text => Token::Word(text.to_owned()),
    };
    (token, len)
}
