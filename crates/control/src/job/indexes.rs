//! Sets of completion indexes as Jobs write them: `0,2-5,7`.

use std::collections::BTreeSet;

/// Disjoint intervals in ascending order that don't touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes(Vec<(i32, i32)>);

impl Indexes {
    /// Reads the indexes below `completions`; what is no index is left out.
    pub fn parse(text: &str, completions: i32) -> Self {
        let mut found = Self::default();
        for part in text.split(',').filter(|p| !p.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) else { continue };
            let last = last.min(completions - 1);
            if first >= 0 && first <= last {
                found.0.push((first, last));
            }
        }
        found.normalised()
    }

    fn normalised(mut self) -> Self {
        self.0.sort_unstable();
        let mut merged: Vec<(i32, i32)> = Vec::new();
        for (first, last) in self.0 {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    /// These and more.
    pub fn with(&self, more: impl IntoIterator<Item = i32>) -> Self {
        let all = self.0.iter().copied().chain(more.into_iter().map(|i| (i, i)));
        Self(all.collect()).normalised()
    }

    /// These and those.
    pub fn union(&self, other: &Self) -> Self {
        Self(self.0.iter().chain(&other.0).copied().collect()).normalised()
    }

    pub fn has(&self, index: i32) -> bool {
        let after = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(after).is_some_and(|(first, _)| *first <= index)
    }

    pub fn len(&self) -> i32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// How many are in both.
    pub fn overlap(&self, other: &Self) -> i32 {
        let (mut i, mut j, mut both) = (0, 0, 0);
        while let (Some(a), Some(b)) = (self.0.get(i), other.0.get(j)) {
            both += (a.1.min(b.1) - a.0.max(b.0) + 1).max(0);
            if a.1 <= b.1 {
                i += 1;
            }
            if b.1 <= a.1 {
                j += 1;
            }
        }
        both
    }

    /// The first `count` indexes below `completions` that are not among these.
    pub fn missing(&self, count: usize, completions: i32) -> Vec<i32> {
        let mut gaps = self.0.iter().copied().chain([(completions, completions)]);
        let mut next = 0;
        let mut found = Vec::new();
        while let Some((first, last)) = gaps.next().filter(|_| found.len() < count) {
            found.extend((next..first.min(completions)).take(count - found.len()));
            next = last.saturating_add(1);
        }
        found
    }
}

impl std::fmt::Display for Indexes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, (first, last)) in self.0.iter().enumerate() {
            let comma = if n > 0 { "," } else { "" };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl FromIterator<i32> for Indexes {
    fn from_iter<I: IntoIterator<Item = i32>>(all: I) -> Self {
        Self::default().with(all.into_iter().collect::<BTreeSet<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_read_written_and_combined() {
        let shown = |text: &str| Indexes::parse(text, 100).to_string();
        for (text, wanted) in [
            ("", ""),
            ("0,2-5,7", "0,2-5,7"),
            ("1,2", "1,2"),
            ("1-3,4", "1-4"),
            ("5,x,-2,3-1,98-200,300", "5,98,99"),
        ] {
            assert_eq!(shown(text), wanted, "{text}");
        }
        let some = Indexes::parse("0,2-5,7", 10);
        assert_eq!(some.len(), 6);
        assert!(some.has(0) && some.has(4) && !some.has(1) && !some.has(8));
        assert_eq!(some.with([1, 6]).to_string(), "0-7");
        assert_eq!(some.union(&Indexes::parse("8-9", 10)).to_string(), "0,2-5,7-9");
        assert_eq!(some.overlap(&Indexes::parse("1-3,5-8", 10)), 4);
        assert_eq!(some.missing(2, 10), [1, 6]);
        assert_eq!(some.missing(9, 10), [1, 6, 8, 9]);
        assert_eq!(Indexes::default().missing(2, 3), [0, 1]);
        assert_eq!(Indexes::parse("0-2", 3).missing(5, 3), Vec::<i32>::new());
    }
}
