//! Reads one source file: the modules that it declares, its imports, the paths in its code and the
//! items that it defines. Code under `#[cfg(test)]` is skipped.

use std::collections::{BTreeMap, BTreeSet};

use crate::checks::tokens::{Token, tokens};

/// The body of a module, in a file or between braces.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) modules: Vec<Declared>,
    /// Imported paths, by local name.
    pub(crate) imports: BTreeMap<String, Vec<String>>,
    /// Paths imported with `*`.
    pub(crate) globs: Vec<Vec<String>>,
    /// Paths of two or more segments, imports included.
    pub(crate) paths: BTreeSet<Vec<String>>,
    /// Names of items, including macros.
    pub(crate) items: BTreeSet<String>,
    pub(crate) macros: BTreeSet<String>,
}

/// A declaration of a module.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) name: String,
    /// The file of a `#[path]` attribute.
    pub(crate) path: Option<String>,
    /// The body, if it is inline.
    pub(crate) body: Option<Body>,
}

/// Reads a file. `None` if all of it is under `#![cfg(test)]`.
pub(crate) fn read(source: &str) -> Option<Body> {
    let tokens = tokens(source);
    let mut reader = Reader { tokens: &tokens, at: 0 };
    reader.body()
}

const ITEMS: [&str; 9] =
    ["const", "enum", "fn", "macro_rules", "static", "struct", "trait", "type", "union"];

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
}

impl Reader<'_> {
    /// Reads to the end, or past the brace that closes the module.
    fn body(&mut self) -> Option<Body> {
        let mut body = Body::default();
        let mut depth = 0_usize;
        let mut path = None;
        while let Some(token) = self.tokens.get(self.at) {
            match token {
                Token::Mark('#') => {
                    let inner = self.is_mark(1, '!');
                    match self.attribute() {
                        Attribute::Test if inner => return None,
                        Attribute::Test => self.skip_item(),
                        Attribute::Path(file) => path = Some(file),
                        Attribute::Other => {}
                    }
                    continue;
                }
                Token::Mark('{') => depth += 1,
                Token::Mark('}') if depth == 0 => {
                    self.at += 1;
                    return Some(body);
                }
                Token::Mark('}') => depth -= 1,
                // `impl Trait + use<'a>` imports nothing.
                Token::Word(word) if word == "use" && !self.is_mark(1, '<') => {
                    self.at += 1;
                    self.tree(&mut Vec::new(), &mut body);
                    continue;
                }
                Token::Word(word) if word == "mod" => {
                    if let Some(name) = self.word(1) {
                        self.at += 2;
                        let inline = self.is_mark(0, '{');
                        self.at += 1;
                        let inner = if inline { self.body() } else { None };
                        if inline == inner.is_some() {
                            body.modules.push(Declared { name, path: path.take(), body: inner });
                        }
                        continue;
                    }
                }
                // `pub(in crate::x)` imports nothing.
                Token::Word(word) if word == "pub" && self.is_word(2, "in") => {
                    while !self.is_mark(0, ')') && self.at < self.tokens.len() {
                        self.at += 1;
                    }
                }
                Token::Word(word) if ITEMS.contains(&word.as_str()) && depth == 0 => {
                    let is_macro = word == "macro_rules";
                    let name = self.word(if is_macro { 2 } else { 1 });
                    body.macros.extend(name.clone().filter(|_| is_macro));
                    // Of `const fn f`, the word `fn` finds the name.
                    body.items.extend(name.filter(|name| !ITEMS.contains(&name.as_str())));
                }
                Token::Word(_) if self.begins_path() => {
                    let path = self.path();
                    body.paths.insert(path);
                    continue;
                }
                Token::Word(_)
                | Token::PathSep
                | Token::Mark(_)
                | Token::Text(_)
                | Token::Other => {}
            }
            self.at += 1;
        }
        Some(body)
    }

    fn get(&self, offset: usize) -> Option<&Token> {
        self.tokens.get(self.at + offset)
    }

    fn is_mark(&self, offset: usize, mark: char) -> bool {
        self.get(offset) == Some(&Token::Mark(mark))
    }

    fn is_word(&self, offset: usize, word: &str) -> bool {
        self.get(offset).is_some_and(|token| token.is_word(word))
    }

    fn word(&self, offset: usize) -> Option<String> {
        self.get(offset)?.word().map(str::to_owned)
    }

    /// Whether a path of two or more segments starts here. `$crate` starts one, other variables of
    /// a macro do not.
    fn begins_path(&self) -> bool {
        let before = self.at.checked_sub(1).map(|before| &self.tokens[before]);
        let inside = match before {
            Some(Token::PathSep | Token::Mark('.')) => true,
            Some(Token::Mark('$')) => !self.is_word(0, "crate"),
            Some(_) | None => false,
        };
        !inside && self.get(1) == Some(&Token::PathSep) && self.word(2).is_some()
    }

    fn path(&mut self) -> Vec<String> {
        let mut path = Vec::new();
        while let Some(word) = self.word(0) {
            path.push(word);
            self.at += 1;
            if self.get(0) != Some(&Token::PathSep) || self.word(1).is_none() {
                break;
            }
            self.at += 1;
        }
        path
    }

    /// Reads one branch of a `use`, up to the mark that ends it.
    fn tree(&mut self, prefix: &mut Vec<String>, body: &mut Body) {
        let depth = prefix.len();
        if depth == 0 && self.get(0) == Some(&Token::PathSep) {
            // `::name` is another crate: the empty segment matches no module.
            prefix.push(String::new());
            self.at += 1;
        }
        while let Some(token) = self.tokens.get(self.at) {
            self.at += 1;
            match token {
                Token::Word(word) => {
                    if word != "self" || prefix.is_empty() {
                        prefix.push(word.clone());
                    }
                    if self.get(0) == Some(&Token::PathSep) {
                        self.at += 1;
                        continue;
                    }
                    let mut name = prefix.last().cloned();
                    if self.is_word(0, "as") {
                        name = self.word(1);
                        self.at += 2;
                    }
                    body.import(name.unwrap_or_default(), prefix.clone());
                }
                Token::Mark('*') => {
                    body.globs.push(prefix.clone());
                    body.paths.insert(prefix.clone());
                }
                Token::Mark('{') => {
                    while !self.is_mark(0, '}') && self.at < self.tokens.len() {
                        self.tree(prefix, body);
                        self.at += usize::from(self.is_mark(0, ','));
                    }
                    self.at += 1;
                }
                Token::PathSep | Token::Mark(_) | Token::Text(_) | Token::Other => {}
            }
            break;
        }
        prefix.truncate(depth);
    }

    /// Reads an attribute.
    fn attribute(&mut self) -> Attribute {
        self.at += 1;
        self.at += usize::from(self.is_mark(0, '!'));
        let begin = self.at;
        self.skip_group();
        match &self.tokens[begin..self.at] {
            [_, name, Token::Mark('='), Token::Text(path), _] if name.is_word("path") => {
                Attribute::Path(path.clone())
            }
            [_, name, _, test, _, _] if name.is_word("cfg") && test.is_word("test") => {
                Attribute::Test
            }
            _ => Attribute::Other,
        }
    }

    /// Skips the next item, field or statement, with its attributes.
    fn skip_item(&mut self) {
        while self.is_mark(0, '#') {
            self.attribute();
        }
        let is_use = [0, 1, 4].into_iter().any(|offset| self.is_word(offset, "use"));
        let mut angles = 0_i32;
        while let Some(token) = self.get(0) {
            match token {
                Token::Mark(';') => break,
                Token::Mark(',') if angles <= 0 => break,
                Token::Mark('}') => return,
                Token::Mark('{') if !is_use => return self.skip_group(),
                Token::Mark('(' | '[' | '{') => {
                    self.skip_group();
                    continue;
                }
                Token::Mark('<') => angles += 1,
                Token::Mark('>') => angles -= 1,
                // The `>` of `->` and `=>` is no bracket.
                Token::Mark('-' | '=') => self.at += usize::from(self.is_mark(1, '>')),
                Token::Word(_)
                | Token::PathSep
                | Token::Mark(_)
                | Token::Text(_)
                | Token::Other => {}
            }
            self.at += 1;
        }
        self.at += 1;
    }

    /// Skips from an opening bracket to behind the closing one.
    fn skip_group(&mut self) {
        let mut depth = 0;
        while let Some(token) = self.get(0) {
            match token {
                Token::Mark('(' | '[' | '{') => depth += 1,
                Token::Mark(')' | ']' | '}') => depth -= 1,
                Token::Word(_)
                | Token::PathSep
                | Token::Mark(_)
                | Token::Text(_)
                | Token::Other => {}
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }
}

impl Body {
    fn import(&mut self, name: String, path: Vec<String>) {
        self.paths.insert(path.clone());
        self.imports.insert(name, path);
    }
}

enum Attribute {
    /// `cfg(test)`.
    Test,
    /// `path = "FILE"`.
    Path(String),
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split("::").map(str::to_owned).collect()
    }

    #[test]
    fn use_tree_gives_one_import_per_name() {
        let body =
            read("use a::{self, b::{C, D as E}, f::*}; pub(crate) use super::g; use ::h::I;");
        let body = body.unwrap();
        let expected =
            [("a", "a"), ("C", "a::b::C"), ("E", "a::b::D"), ("g", "super::g"), ("I", "::h::I")];
        let expected = expected.map(|(name, of)| (name.to_owned(), path(of)));
        assert_eq!(body.imports, BTreeMap::from(expected));
        assert_eq!(body.globs, [path("a::f")]);
    }

    #[test]
    fn nested_braces_end_where_they_end() {
        let body = read("use a::{b::{C}, d::{E}, F}; fn g() { x::y(); }").unwrap();
        let names: Vec<_> = body.imports.keys().cloned().collect();
        assert_eq!(names, ["C", "E", "F"]);
        assert!(body.paths.contains(&path("x::y")));
        assert!(body.items.contains("g"));
    }

    #[test]
    fn paths_are_found_in_code_and_macros() {
        let body = read("fn f() { crate::a::b(); c!(d::e); $crate::g; h.i::<j>(); }").unwrap();
        assert_eq!(body.paths, BTreeSet::from(["crate::a::b", "crate::g", "d::e"].map(path)));
    }

    #[test]
    fn visibility_is_no_import() {
        assert_eq!(read("pub(in crate::a::b) fn f() {}").unwrap().paths.len(), 0);
    }

    #[test]
    fn test_code_is_left_out() {
        let source = "#[cfg(test)] use a::{b, c}; #[cfg(test)] mod tests { use d::e; } \
                      #[cfg(test)] mod more; #[cfg(test)] fn f() { g::h(); } struct I { \
                      #[cfg(test)] j: k::L, m: n::O }";
        let body = read(source).unwrap();
        assert_eq!(body.paths, BTreeSet::from([path("n::O")]));
        assert!(body.modules.is_empty());
        assert_eq!(read("#![cfg(test)] use a::b;"), None);
    }

    #[test]
    fn modules_are_declared_inline_or_in_a_file() {
        let body = read("mod a; #[path = \"x/y.rs\"] mod b; mod c { use super::d; } use e::f;");
        let body = body.unwrap();
        let names: Vec<_> = body.modules.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(body.modules[1].path.as_deref(), Some("x/y.rs"));
        let inner = body.modules[2].body.as_ref().unwrap();
        assert_eq!(inner.paths, BTreeSet::from([path("super::d")]));
        assert_eq!(body.paths, BTreeSet::from([path("e::f")]));
    }
}
