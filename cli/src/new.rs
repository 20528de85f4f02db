//! `muster new`: creates a project for a task, from templates inside this command. Never writes into a
//! directory that is not empty.

use crate::{
    build::WIT,
    exit::Failure,
    language::Language,
    output::{self, Format},
};
use clap::Args;
use muster_protocol::id;
use serde_json::json;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What to make.
#[derive(Args)]
#[command(after_help = "Examples:
  muster new resize
  muster new resize --lang python")]
pub struct New {
    /// The folder of the project, which is created; its last part is the name of the task
    #[arg(value_name = "NAME")]
    dir: PathBuf,
    /// The language
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    lang: Language,
}

/// A file of a project: where it goes, and its text, in which `{{name}}` and `{{version}}` are
/// replaced.
type Part = (&'static str, &'static str);

const IGNORED: Part = (".gitignore", include_str!("../templates/gitignore.in"));
const WORLD: Part = ("wit/world.wit", WIT);

const RUST: &[Part] = &[
    ("Cargo.toml", include_str!("../templates/rust/Cargo.toml.in")),
    ("src/lib.rs", include_str!("../templates/rust/lib.rs")),
    ("muster/Cargo.toml", include_str!("../templates/rust/muster.toml.in")),
    ("muster/wit/world.wit", WIT),
    ("muster/macros/Cargo.toml", include_str!("../templates/rust/macros.toml.in")),
];

/// The SDK's sources: a project has its own copy, and builds where nothing else of Muster is.
const SDK: &[Part] = &[
    ("macros/src/lib.rs", include_str!("../../guest-sdk/macros/src/lib.rs")),
    ("src/call.rs", include_str!("../../guest-sdk/src/call.rs")),
    ("src/checkpoint.rs", include_str!("../../guest-sdk/src/checkpoint.rs")),
    ("src/data.rs", include_str!("../../guest-sdk/src/data.rs")),
    ("src/host.rs", include_str!("../../guest-sdk/src/host.rs")),
    ("src/lib.rs", include_str!("../../guest-sdk/src/lib.rs")),
    ("src/logging.rs", include_str!("../../guest-sdk/src/logging.rs")),
    ("src/logging/events.rs", include_str!("../../guest-sdk/src/logging/events.rs")),
    ("src/logging/filter.rs", include_str!("../../guest-sdk/src/logging/filter.rs")),
    ("src/logging/records.rs", include_str!("../../guest-sdk/src/logging/records.rs")),
    ("src/testing.rs", include_str!("../../guest-sdk/src/testing.rs")),
];

const C: &[Part] = &[("main.c", include_str!("../templates/c/main.c"))];

const GO: &[Part] = &[
    ("go.mod", include_str!("../templates/go/go.mod.in")),
    ("main.go", include_str!("../templates/go/main.go")),
];

const JS: &[Part] = &[
    ("package.json", include_str!("../templates/js/package.json.in")),
    ("task.js", include_str!("../templates/js/task.js")),
    WORLD,
];

const PYTHON: &[Part] = &[("app.py", include_str!("../templates/python/app.py")), WORLD];

/// The files of a project, and their text.
fn parts(language: Language, name: &str) -> Vec<(PathBuf, String)> {
    let (template, sdk): (_, &[Part]) = match language {
        Language::Rust => (RUST, SDK),
        Language::C => (C, &[]),
        Language::Go => (GO, &[]),
        Language::Js => (JS, &[]),
        Language::Python => (PYTHON, &[]),
    };
    let fill = |text: &str| {
        text.replace("{{name}}", name).replace("{{version}}", env!("CARGO_PKG_VERSION"))
    };
    let filled = template.iter().chain([&IGNORED]).map(|(path, text)| (path.into(), fill(text)));
    // The SDK's sources are copied unchanged.
    let sdk = sdk.iter().map(|(path, text)| (Path::new("muster").join(path), (*text).into()));
    filled.chain(sdk).collect()
}

impl New {
    /// Runs the command.
    pub fn run(self, format: Format) -> anyhow::Result<()> {
        let name = self.dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !id::is_name(name) {
            let text = format!("{name:?} cannot be a task's name");
            return Err(Failure::user(text).hint(format!("a name is {}", id::NAME_FORM)).into());
        }
        // Cargo and Go also use the name as an identifier.
        if name.starts_with(|first: char| first.is_ascii_digit())
            || (self.lang == Language::Rust
                && ["muster", "serde", "test", "core", "std"].contains(&name))
        {
            let text = format!("{name:?} cannot be the name of a project in {}", self.lang);
            return Err(Failure::user(text).hint("take another, such as my-task").into());
        }
        let cannot = |path: &Path, error: io::Error| {
            Failure::user(format!("cannot write {}: {error}", path.display()))
        };
        if fs::symlink_metadata(&self.dir).is_ok() {
            let mut inside = fs::read_dir(&self.dir).map_err(|error| cannot(&self.dir, error))?;
            if inside.next().is_some() {
                let text = format!("{} exists already, and is not empty", self.dir.display());
                return Err(Failure::user(text).hint("take another name, or remove it").into());
            }
        }
        let parts = parts(self.lang, name);
        for (path, text) in &parts {
            let path = self.dir.join(path);
            let folder = path.parent().unwrap_or(&self.dir);
            fs::create_dir_all(folder).map_err(|error| cannot(folder, error))?;
            fs::write(&path, text).map_err(|error| cannot(&path, error))?;
        }
        match format {
            Format::Json => output::json(&json!({
                "dir": self.dir,
                "language": self.lang.to_string(),
                "files": parts.iter().map(|(path, _)| path).collect::<Vec<_>>(),
            })),
            Format::Table => {
                let (dir, language) = (self.dir.display(), self.lang);
                output::line(&format!("made {dir}, a task in {language}; next:"))?;
                output::line("")?;
                let fetch = if self.lang == Language::Js { " && npm install" } else { "" };
                output::line(&format!("  cd {}{fetch}", self.dir.display()))?;
                output::line("  muster build")?;
                output::line(&format!("  muster task run ./{name}.wasm --input world --wait"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;
    use std::collections::BTreeSet;

    fn new(dir: &Path, lang: Language) -> anyhow::Result<()> {
        New { dir: dir.into(), lang }.run(Format::Json)
    }

    #[test]
    fn a_project_is_known_as_what_it_is() {
        for lang in Language::value_variants() {
            let dir = tempfile::tempdir().expect("a folder");
            let dir = dir.path().join("greet-2");
            new(&dir, *lang).expect("it is made");
            assert_eq!(Language::of(&dir).expect("a project"), *lang);
            for (path, text) in parts(*lang, "greet-2") {
                let is_sdk =
                    path.starts_with("muster/src") || path.starts_with("muster/macros/src");
                assert!(is_sdk || !text.contains("{{"), "{} is not filled in", path.display());
            }
        }
    }

    #[test]
    fn nothing_is_written_over() {
        let dir = tempfile::tempdir().expect("a folder");
        let project = dir.path().join("greet");
        fs::create_dir(&project).expect("a folder");
        new(&project, Language::C).expect("an empty folder will do");
        fs::write(project.join("main.c"), "mine").expect("a file");
        let error = new(&project, Language::Go).expect_err("it is not empty").to_string();
        assert!(error.ends_with("exists already, and is not empty"), "{error}");
        assert_eq!(fs::read_to_string(project.join("main.c")).expect("a file"), "mine");
        assert!(!project.join("go.mod").exists());
        fs::write(dir.path().join("file"), "").expect("a file");
        assert!(new(&dir.path().join("file"), Language::C).is_err());
    }

    #[test]
    fn names_that_no_module_may_have_are_refused() {
        for name in ["Greet", "a_b", "..", "-a", "9lives", "größe"] {
            let error = new(Path::new(name), Language::Go).expect_err(name).to_string();
            assert!(error.contains("cannot be"), "{error}");
        }
        assert!(new(Path::new("muster"), Language::Rust).is_err());
    }

    #[test]
    fn the_sdk_is_all_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("in the work tree");
        let sdk = root.join("guest-sdk");
        let mut found = BTreeSet::new();
        let mut folders = vec![sdk.join("src"), sdk.join("macros/src")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder").flatten() {
                match entry.path() {
                    path if path.is_dir() => folders.push(path),
                    path => {
                        found.insert(path.strip_prefix(&sdk).expect("below").to_owned());
                    }
                }
            }
        }
        assert_eq!(found, SDK.iter().map(|(path, _)| PathBuf::from(path)).collect());
        // The templates also name every dependency and feature of the SDK.
        for (ours, theirs) in [("Cargo.toml", 2), ("macros/Cargo.toml", 4)] {
            let ours = fs::read_to_string(sdk.join(ours)).expect("a file");
            let (_, depends) = ours.split_once("\n[dependencies]").expect("it has some");
            for line in depends.lines().take_while(|line| !line.starts_with("[package")) {
                let Some((name, _)) = line.split_once([' ', '.']) else { continue };
                let named = format!("\n{name} = ");
                assert!(line.starts_with(['#', '[']) || RUST[theirs].1.contains(&named), "{line}");
            }
        }
    }
}
