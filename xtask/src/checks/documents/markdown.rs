//! The parts of Markdown that the checks need: fenced blocks, code spans, links and headings.

use std::collections::BTreeMap;

/// A line of a document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// Counted from 1.
    pub(crate) number: usize,
    pub(crate) text: &'a str,
    /// Whether it is inside a fenced block. The fences themselves are skipped.
    pub(crate) fenced: bool,
}

/// The lines of a document.
pub(crate) fn lines(text: &str) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    let mut fence = None;
    for (number, text) in text.lines().enumerate() {
        let mark = ["```", "~~~"].into_iter().find(|mark| text.trim_start().starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (_, _) => lines.push(Line { number: number + 1, text, fenced: fence.is_some() }),
        }
    }
    lines
}

/// The code spans of a line, and the line with spaces in their place.
pub(crate) fn code_spans(line: &str) -> (Vec<&str>, String) {
    let (mut spans, mut rest) = (Vec::new(), String::new());
    let mut at = line;
    while let Some(start) = at.find('`') {
        let ticks = at[start..].chars().take_while(|letter| *letter == '`').count();
        let (before, inside) = (&at[..start], &at[start + ticks..]);
        let Some(end) = inside.find(&"`".repeat(ticks)) else { break };
        spans.push(inside[..end].trim());
        rest.push_str(before);
        rest.push_str(&" ".repeat(inside[..end].chars().count() + 2 * ticks));
        at = &inside[end + ticks..];
    }
    rest.push_str(at);
    (spans, rest)
}

/// The targets of links in a line without code spans: `[text](target "title")` and
/// `[label]: target`.
pub(crate) fn links(line: &str) -> Vec<&str> {
    let mut links = Vec::new();
    for (start, _) in line.match_indices("](") {
        let inside = &line[start + 2..];
        if let Some(end) = inside.find([')', ' ']) {
            links.push(inside[..end].trim_matches(['<', '>']));
        }
    }
    if let Some((label, target)) = line.trim_start().split_once("]: ")
        && label.starts_with('[')
        && !label.starts_with("[^")
    {
        links.extend(target.split_whitespace().next());
    }
    links
}

/// The anchors of a document: those that GitHub derives from headings, and `<a id="anchor">`.
pub(crate) fn anchors(text: &str) -> Vec<String> {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let mut anchors = Vec::new();
    for line in lines(text).iter().filter(|line| !line.fenced) {
        for mark in ["id=\"", "name=\""] {
            let written = line.text.split(mark).skip(1).filter_map(|rest| rest.split('"').next());
            anchors.extend(written.map(str::to_owned));
        }
        let title = line.text.trim_start_matches('#');
        if title.len() == line.text.len() || !title.starts_with(' ') {
            continue;
        }
        let anchor = anchor(title.trim());
        let before = seen.entry(anchor.clone()).or_default();
        anchors.push(if *before == 0 { anchor } else { format!("{anchor}-{before}") });
        *before += 1;
    }
    anchors
}

fn anchor(title: &str) -> String {
    // Of a link, only the text counts.
    let mut text = String::new();
    let mut rest = title;
    while let Some((before, after)) = rest.split_once("](") {
        text.push_str(before);
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    text.push_str(rest);
    let kept = text.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.flat_map(char::to_lowercase).map(|l| if l == ' ' { '-' } else { l }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_are_no_lines() {
        let found: Vec<_> = lines("a\n```sh\nb\n~~~\n```\nc\n")
            .iter()
            .map(|line| (line.number, line.text.to_owned(), line.fenced))
            .collect();
        let line = |number, text: &str, fenced| (number, text.to_owned(), fenced);
        assert_eq!(
            found,
            [line(1, "a", false), line(3, "b", true), line(4, "~~~", true), line(6, "c", false)]
        );
    }

    #[test]
    fn code_spans_are_cut_out() {
        let (spans, rest) = code_spans("a `b` c ``d ` e`` f ` g");
        assert_eq!(spans, ["b", "d ` e"]);
        assert_eq!(rest, "a     c           f ` g");
    }

    #[test]
    fn links_are_found_in_both_forms() {
        assert_eq!(links("[a](b.md) ![c](d.svg \"e\") [f](<g.md>)"), ["b.md", "d.svg", "g.md"]);
        assert_eq!(links("[a]: b.md"), ["b.md"]);
        assert!(links("[^a]: a note").is_empty());
    }

    #[test]
    fn headings_have_githubs_anchors() {
        let text =
            "# A `b`: c's (d)\n## E\n```\n# f\n```\n### E\n<a id=\"g\"></a>\n# [H](i.md) j_k\n#no";
        assert_eq!(anchors(text), ["a-b-cs-d", "e", "e-1", "g", "h-j_k"]);
    }
}
