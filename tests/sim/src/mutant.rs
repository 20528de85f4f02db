//! The mutants: what could be wrong with the decisions of the code that ships, each behind a switch of
//! its own; none changes the simulation. Never more than text: `mutants` puts it into a copy of the sources.
//!
//! `ON[name]` in a replacement is true while the mutant of that name is switched on. A mutant that
//! nobody noticed would mean that the simulation is too tame, or that the guard it takes away is
//! not needed. These are not here because other guards make them needless: that a lapsed session is
//! not renewed (only the registry could, and then nobody has declared it lost), that only the known
//! home extends and counts (a worker asks only that, and it counts from the stamp of what was asked),
//! that a home extends nothing that it has declared, or may have (that has lapsed), and that an
//! answer to another session does not count (its revision is none that this one could build upon).

mod edits;
mod gate;
pub mod process;
mod tasks;
mod watch;

/// Every change.
fn edits() -> impl Iterator<Item = &'static Edit> {
    [edits::EDITS, tasks::EDITS, watch::EDITS, gate::EDITS].into_iter().flatten()
}

/// Mutants that the rows of the protocol's own tests have to notice: another rule stands behind each, or
/// it takes more faults at once than the simulation has in some thousand worlds.
pub const ROWS: &[&str] = edits::ROWS;

/// A change to the sources that does nothing until one of its mutants is switched on.
#[derive(Clone, Copy, Debug)]
struct Edit {
    /// Which file, from the root of the workspace.
    file: &'static str,
    /// What is in it, once.
    find: &'static str,
    /// What takes its place.
    replace: &'static str,
}

/// The names of all mutants, in the order in which they appear.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for edit in edits() {
        for part in edit.replace.split("ON[").skip(1) {
            let Some((name, _)) = part.split_once(']') else { continue };
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// The text of a file with a change made, or why it cannot be. Mutants are numbered from 1, in the order of
/// `names`; the crate of the folder `room` has the switch.
fn apply(edit: &Edit, text: &str, room: &str, names: &[&str]) -> Result<String, String> {
    if text.matches(edit.find).count() != 1 {
        return Err(format!("{} has not, or not once:\n{}", edit.file, edit.find));
    }
    let is_there = edit.file.strip_prefix(room).is_some_and(|rest| rest.starts_with('/'));
    let switch = if is_there { "crate".into() } else { format!("muster_{room}") };
    let mut replace = edit.replace.to_string();
    for (at, name) in names.iter().enumerate() {
        let on = format!("{switch}::mutant({})", at + 1);
        replace = replace.replace(&format!("ON[{name}]"), &on);
    }
    if replace.contains("ON[") {
        return Err(format!("a mutant of {} has no number:\n{}", edit.file, edit.replace));
    }
    Ok(text.replacen(edit.find, &replace, 1))
}

/// The text of the file `name` with every change to the protocol in it, or why that cannot be.
pub fn mutate(name: &str, text: String) -> Result<String, String> {
    let names = names();
    let mut changes = edits().filter(|edit| edit.file == name);
    changes.try_fold(text, |text, edit| apply(edit, &text, "protocol", &names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_finds_its_place_in_the_sources() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let (rules, process) = (names(), process::names());
        let all =
            edits().map(|edit| (edit, &rules)).chain(process::edits().map(|edit| (edit, &process)));
        let failed: Vec<String> = all
            .filter_map(|(edit, names)| {
                let text = std::fs::read_to_string(root.join(edit.file));
                let text = text.unwrap_or_else(|error| panic!("{}: {error}", edit.file));
                apply(edit, &text, "protocol", names).err()
            })
            .collect();
        assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    }
}
