//! A tokenizer for Rust, precise enough to find paths and items. It drops comments.

use std::iter::Peekable;
use std::str::Chars;

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// An identifier or a keyword, without the `r#` of a raw identifier.
    Word(String),
    /// `::`.
    PathSep,
    /// Any other punctuation, one character each.
    Mark(char),
    /// The text of a string literal, escapes as written.
    Text(String),
    /// Any other literal, or a lifetime.
    Other,
}

impl Token {
    pub(crate) fn is_word(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own == word)
    }

    pub(crate) fn word(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            Self::PathSep | Self::Mark(_) | Self::Text(_) | Self::Other => None,
        }
    }
}

/// Splits `source` into tokens.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let mut lexer = Lexer { rest: source.chars().peekable() };
    let mut tokens = Vec::new();
    while let Some(first) = lexer.rest.next() {
        tokens.extend(lexer.token(first));
    }
    tokens
}

struct Lexer<'a> {
    rest: Peekable<Chars<'a>>,
}

impl Lexer<'_> {
    /// The token that begins with `first`; `None` for a space or a comment.
    fn token(&mut self, first: char) -> Option<Token> {
        Some(match first {
            '/' if self.eat('/') => {
                while self.rest.next_if(|letter| *letter != '\n').is_some() {}
                return None;
            }
            '/' if self.eat('*') => {
                self.block_comment();
                return None;
            }
            '"' => Token::Text(self.string()),
            '\'' => self.quote(),
            ':' if self.eat(':') => Token::PathSep,
            letter if letter.is_whitespace() => return None,
            letter if letter.is_alphabetic() || letter == '_' => self.word(letter),
            digit if digit.is_ascii_digit() => {
                while self.eat_word() {}
                Token::Other
            }
            mark => Token::Mark(mark),
        })
    }

    fn eat(&mut self, letter: char) -> bool {
        self.rest.next_if_eq(&letter).is_some()
    }

    fn eat_word(&mut self) -> bool {
        self.rest.next_if(|next| next.is_alphanumeric() || *next == '_').is_some()
    }

    fn block_comment(&mut self) {
        let mut depth = 1;
        while depth > 0 {
            match self.rest.next() {
                Some('/') if self.eat('*') => depth += 1,
                Some('*') if self.eat('/') => depth -= 1,
                Some(_) => {}
                None => return,
            }
        }
    }

    fn string(&mut self) -> String {
        let mut text = String::new();
        while let Some(letter) = self.rest.next() {
            match letter {
                '"' => break,
                '\\' => text.extend([Some(letter), self.rest.next()].into_iter().flatten()),
                _ => text.push(letter),
            }
        }
        text
    }

    /// The rest of a raw string, after `r`, `hashes` times `#` and the opening quote.
    fn raw_string(&mut self, hashes: usize) -> String {
        let mut text = String::new();
        let end = format!("\"{}", "#".repeat(hashes));
        for letter in self.rest.by_ref() {
            text.push(letter);
            if text.ends_with(&end) {
                text.truncate(text.len() - end.len());
                break;
            }
        }
        text
    }

    /// A character or a lifetime.
    fn quote(&mut self) -> Token {
        match self.rest.next() {
            Some('\\') => {
                self.rest.next();
                while self.rest.next().is_some_and(|letter| letter != '\'') {}
            }
            // `'a'` is a character, `'a` and `'static` are lifetimes.
            Some(letter) if letter.is_alphanumeric() || letter == '_' => {
                let is_lifetime = !self.eat('\'');
                while is_lifetime && self.eat_word() {}
            }
            Some(_) => {
                self.eat('\'');
            }
            None => {}
        }
        Token::Other
    }

    fn word(&mut self, first: char) -> Token {
        let mut word = String::from(first);
        while let Some(next) = self.rest.next_if(|next| next.is_alphanumeric() || *next == '_') {
            word.push(next);
        }
        match word.as_str() {
            "b" if self.eat('\'') => self.quote(),
            "b" | "c" if self.eat('"') => Token::Text(self.string()),
            "r" | "br" | "cr" => {
                let mut hashes = 0;
                while self.eat('#') {
                    hashes += 1;
                }
                if self.eat('"') {
                    return Token::Text(self.raw_string(hashes));
                }
                match self.rest.next_if(|next| next.is_alphabetic() || *next == '_') {
                    Some(letter) if hashes > 0 => self.word(letter),
                    Some(_) | None => Token::Word(word),
                }
            }
            _ => Token::Word(word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<String> {
        tokens(source).iter().filter_map(Token::word).map(str::to_owned).collect()
    }

    #[test]
    fn comments_and_literals_hold_no_words() {
        let source =
            "a // b\n/* c /* d */ e */ f \"g \\\" h\" r#\"i \" j\"# b'k' 'l' '\\'' 'm 1u8 n";
        assert_eq!(words(source), ["a", "f", "n"]);
    }

    #[test]
    fn raw_identifiers_lose_their_mark() {
        assert_eq!(words("r#type r x"), ["type", "r", "x"]);
    }

    #[test]
    fn paths_have_separators() {
        let word = |word: &str| Token::Word(word.to_owned());
        let expected = [word("a"), Token::PathSep, word("b"), Token::Mark(':'), word("c")];
        assert_eq!(tokens("a::b: c"), expected);
    }

    #[test]
    fn strings_keep_their_text() {
        assert_eq!(tokens(r#""x/y.rs""#), [Token::Text("x/y.rs".into())]);
    }
}
