//! The languages that a project may have, and how to recognise a project's language. Never runs
//! anything.

use crate::exit::Failure;
use std::{fmt, fs, path::Path};

/// A language with a template and a toolchain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// A function for the SDK, with progress and checkpoints
    Rust,
    /// A WASI program, compiled with Zig
    C,
    /// A WASI program
    Go,
    /// A function, built with componentize-js
    Js,
    /// A function, built with componentize-py
    Python,
}

/// Files that a project of a language has, in the order in which they are looked for: a Rust project
/// may well have a `package.json` for something else.
const MARKS: [(&str, Language); 4] = [
    ("Cargo.toml", Language::Rust),
    ("go.mod", Language::Go),
    ("package.json", Language::Js),
    ("app.py", Language::Python),
];

impl Language {
    /// The language of the project in `dir`.
    pub fn of(dir: &Path) -> anyhow::Result<Self> {
        if !dir.is_dir() {
            return Err(Failure::user(format!("{} is not a folder", dir.display())).into());
        }
        if let Some((_, language)) = MARKS.iter().find(|(mark, _)| dir.join(mark).is_file()) {
            return Ok(*language);
        }
        if !sources_in(dir, "c").is_empty() {
            return Ok(Language::C);
        }
        let text = format!("there is nothing to build in {}", dir.display());
        let marks = MARKS.map(|(mark, _)| mark).join(", ");
        let hint = format!(
            "a project has {marks} or a file that ends in .c; make one with: muster new NAME"
        );
        Err(Failure::user(text).hint(hint).into())
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Language::Rust => "Rust",
            Language::C => "C",
            Language::Go => "Go",
            Language::Js => "JavaScript",
            Language::Python => "Python",
        })
    }
}

/// The names of the files in `dir` that end so, in order.
pub fn sources_in(dir: &Path, ending: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|found| found == ending))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_known_by_its_files() {
        for (files, expected) in [
            (&["Cargo.toml", "package.json"][..], Some(Language::Rust)),
            (&["go.mod", "cgo.c"], Some(Language::Go)),
            (&["package.json"], Some(Language::Js)),
            (&["app.py"], Some(Language::Python)),
            (&["main.c"], Some(Language::C)),
            (&["README.md"], None),
        ] {
            let dir = tempfile::tempdir().expect("a folder");
            for file in files {
                fs::write(dir.path().join(file), "").expect("a file");
            }
            let found = Language::of(dir.path());
            match (&found, expected) {
                (Ok(found), Some(expected)) => assert_eq!(*found, expected, "{files:?}"),
                (Err(_), None) => {}
                _ => panic!("{files:?}: {found:?}"),
            }
        }
        let missing = Language::of(Path::new("/nowhere/at/all")).expect_err("no folder");
        assert_eq!(missing.to_string(), "/nowhere/at/all is not a folder");
    }
}
