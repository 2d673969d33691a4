//! Circles in a directed graph: its strongly connected components of two or more nodes.

use std::collections::{BTreeMap, BTreeSet};

/// Arrows between nodes.
pub(crate) type Arrows<N> = BTreeSet<(N, N)>;

/// The circles, largest first.
pub(crate) fn circles<N: Ord + Clone>(arrows: &Arrows<N>) -> Vec<BTreeSet<N>> {
    let mut reached: BTreeMap<&N, BTreeSet<&N>> = BTreeMap::new();
    for (from, _) in arrows {
        if !reached.contains_key(from) {
            reached.insert(from, reachable(arrows, from));
        }
    }
    let mut circles: BTreeSet<BTreeSet<N>> = BTreeSet::new();
    for (from, there) in &reached {
        let back = |node: &&&N| reached.get(**node).is_some_and(|nodes| nodes.contains(*from));
        let circle: BTreeSet<N> = there.iter().filter(back).map(|node| (*node).clone()).collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    let mut circles: Vec<_> = circles.into_iter().collect();
    circles.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
    circles
}

fn reachable<'a, N: Ord>(arrows: &'a Arrows<N>, from: &N) -> BTreeSet<&'a N> {
    let mut next: BTreeMap<&N, Vec<&N>> = BTreeMap::new();
    for (from, to) in arrows {
        next.entry(from).or_default().push(to);
    }
    let mut found = BTreeSet::new();
    let mut open = vec![from];
    while let Some(node) = open.pop() {
        for to in next.get(node).into_iter().flatten() {
            if found.insert(*to) {
                open.push(to);
            }
        }
    }
    found
}

/// A small set of arrows whose removal opens a circle, by the heuristic of Eades, Lin and Smyth
/// (1993): order nodes by outgoing less incoming arrows, and return the arrows that run backwards.
pub(crate) fn cuts<N: Ord + Clone>(arrows: &Arrows<N>, circle: &BTreeSet<N>) -> Vec<(N, N)> {
    let inside = |(from, to): &&(N, N)| circle.contains(from) && circle.contains(to) && from != to;
    let all: Vec<&(N, N)> = arrows.iter().filter(inside).collect();
    let mut left: BTreeSet<&N> = circle.iter().collect();
    let (mut first, mut last) = (Vec::new(), Vec::new());
    while !left.is_empty() {
        let degree = |node: &N| {
            let of =
                |(from, to): &&&(N, N)| left.contains(from) && left.contains(to) && from == node;
            let to = |(from, to): &&&(N, N)| left.contains(from) && left.contains(to) && to == node;
            (all.iter().filter(of).count(), all.iter().filter(to).count())
        };
        let excess = |node: &&&N| {
            let (out, into) = degree(node);
            i64::try_from(out).unwrap_or(0) - i64::try_from(into).unwrap_or(0)
        };
        let sink = left.iter().find(|node| degree(node).0 == 0).copied();
        let source = left.iter().find(|node| degree(node).1 == 0).copied();
        let largest = left.iter().max_by_key(excess).copied();
        match (sink, source.or(largest)) {
            (Some(node), _) => {
                left.remove(node);
                last.push(node);
            }
            (None, Some(node)) => {
                left.remove(node);
                first.push(node);
            }
            (None, None) => break,
        }
    }
    let order: Vec<&N> = first.into_iter().chain(last.into_iter().rev()).collect();
    let place = |node: &N| order.iter().position(|other| *other == node);
    all.into_iter().filter(|(from, to)| place(from) > place(to)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrows(text: &str) -> Arrows<char> {
        text.split(' ')
            .map(|pair| (pair.chars().next().unwrap(), pair.chars().last().unwrap()))
            .collect()
    }

    #[test]
    fn circles_are_found_apart() {
        let found = circles(&arrows("a>b b>c c>a c>d d>e e>d e>f"));
        assert_eq!(found, [BTreeSet::from(['a', 'b', 'c']), BTreeSet::from(['d', 'e'])]);
    }

    #[test]
    fn chain_has_no_circle() {
        assert!(circles(&arrows("a>b b>c a>c")).is_empty());
    }

    #[test]
    fn cuts_open_the_circle() {
        let all = arrows("a>b b>c a>c c>a c>d a>d");
        let found = circles(&all);
        let cuts = cuts(&all, &found[0]);
        assert_eq!(cuts, [('c', 'a')]);
        let open: Arrows<char> = all.into_iter().filter(|arrow| !cuts.contains(arrow)).collect();
        assert!(circles(&open).is_empty());
    }
}
