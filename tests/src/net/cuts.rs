//! How many faults cut each path: two faults may cut the same one, and it is whole again when the last of
//! them is over.

use std::collections::BTreeMap;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Cuts(BTreeMap<(String, String), usize>);

impl Cuts {
    /// One more fault cuts these paths, or one fault less. Returns the paths that it changes.
    pub(super) fn change<'a>(
        &mut self,
        ways: &[(&'a str, &'a str)],
        lost: bool,
    ) -> Vec<(&'a str, &'a str)> {
        let changes = |&(from, to): &(&str, &str)| {
            let count = self.0.entry((from.into(), to.into())).or_default();
            let before = *count;
            *count = if lost { before + 1 } else { before.saturating_sub(1) };
            (before == 0) != (*count == 0)
        };
        ways.iter().copied().filter(changes).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_whole_when_its_last_cut_is_over() {
        let mut cuts = Cuts::default();
        assert_eq!(cuts.change(&[("a", "b"), ("b", "a")], true).len(), 2);
        assert_eq!(cuts.change(&[("a", "b"), ("a", "c")], true), [("a", "c")]);
        assert_eq!(cuts.change(&[("a", "b"), ("b", "a")], false), [("b", "a")]);
        assert_eq!(cuts.change(&[("a", "b")], false), [("a", "b")]);
        assert!(cuts.change(&[("a", "b")], false).is_empty(), "it was not cut");
    }
}
