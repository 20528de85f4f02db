//! The mutants: each breaks one rule in the decisions of the shipped code, behind its own switch. None
//! of them changes the simulation. Never more than text: the program `mutants` applies it to a copy of
//! the sources.
//!
//! `ON[name]` in a replacement is true while the mutant `name` is switched on. A mutant that nobody
//! notices means that the simulation is too weak, or that the rule it breaks is not needed.
//!
//! The following rules have no mutant, because another rule already prevents the damage:
//!
//! - A lapsed session is not renewed. Only the registry could renew it, and then no master has declared
//!   it lost.
//! - Only the known home extends, and only its extensions count. A worker asks nobody else, and it
//!   counts from the stamp of its question.
//! - A home extends nothing that it has declared lost, or may have declared lost. That lease has lapsed.
//! - An answer to another session does not count. The present session cannot build on its revision.

mod edits;
mod gate;
pub mod process;
mod rows;
mod tasks;
mod watch;

/// Every edit of the protocol.
fn edits() -> impl Iterator<Item = &'static Edit> {
    [edits::EDITS, tasks::EDITS, watch::EDITS, gate::EDITS].into_iter().flatten()
}

/// Mutants that the table tests of the protocol have to notice. Another rule covers each of them in the
/// simulation, or they need more faults at once than a few thousand worlds have.
pub const ROWS: &[&str] = rows::ROWS;

/// A change of the sources that has no effect until one of its mutants is switched on.
#[derive(Clone, Copy, Debug)]
struct Edit {
    /// The path of the file, from the root of the workspace.
    file: &'static str,
    /// The text to find; the file contains it exactly once.
    find: &'static str,
    /// The text that replaces it.
    replace: &'static str,
}

/// The names of all mutants, in the order in which they first appear.
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

/// Applies one edit to the text of a file. Mutants are numbered from 1, in the order of `names`; the
/// crate in the folder `room` contains the switch. Returns an error sentence if the edit does not apply.
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

/// Applies every edit of the protocol to the text of the file `name`. Returns an error sentence if an
/// edit does not apply.
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
