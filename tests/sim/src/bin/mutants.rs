//! Breaks one rule of the protocol, or of what a worker's process does, at a time. Demands that a script
//! of a former failure, the simulation, or a test notices each mutant. Never changes the sources
//! themselves: it works on copies under target/.

#[path = "mutants/process.rs"]
mod process;

use anyhow::{Context, Result, bail};
use muster_sim::{
    former::FORMER,
    mutant::{ROWS, names, process::JUDGES},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// The number of seeds that are run against a mutant, unless one notices it earlier. Most need a few.
const SEEDS: &str = "3000";

/// The number that switches no mutant on.
const UNCHANGED: usize = 0;

/// The switch, added to the copy of the protocol.
const SWITCH: &str = "
/// Which mutant is switched on.
pub static MUTANT: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);

#[cfg(test)]
extern crate std;

/// Which one the rows of the protocol's own tests are run with.
#[cfg(test)]
static ROW: std::sync::LazyLock<u32> = std::sync::LazyLock::new(|| {
    std::env::var(\"MUTANT\").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
});

/// Whether this one is.
pub fn mutant(number: u32) -> bool {
    #[cfg(test)]
    MUTANT.store(*ROW, core::sync::atomic::Ordering::Relaxed);
    MUTANT.load(core::sync::atomic::Ordering::Relaxed) == number
}
";

/// Sets the switch, in the copy of `sim`.
const SET: &str = "fn main() -> ExitCode {
    if let Some(number) = std::env::var(\"MUTANT\").ok().and_then(|text| text.parse().ok()) {
        muster_protocol::MUTANT.store(number, std::sync::atomic::Ordering::Relaxed);
    }
";

fn main() -> Result<ExitCode> {
    let only = std::env::args().nth(1);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let folder = root.join("target/mutants");
    let only = only.as_deref();
    let (of_protocol, of_processes) =
        (try_protocol(&root, &folder, only)?, process::try_all(&root, &folder, only)?);
    let (caught, of) = (of_protocol.0 + of_processes.0, of_protocol.1 + of_processes.1);
    if of == 0 {
        let processes = JUDGES.iter().map(|(name, _)| *name);
        let all: Vec<&str> = names().into_iter().chain(processes).collect();
        bail!("there is no such mutant; there are: {}", all.join(", "));
    }
    println!("mutants: caught={caught} of={of}");
    Ok(if caught == of { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tries each mutant of the protocol, or only the mutant `only`. Returns how many were noticed, and how
/// many were tried.
fn try_protocol(root: &Path, folder: &Path, only: Option<&str>) -> Result<(usize, usize)> {
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    let mutants: Vec<_> =
        names().into_iter().enumerate().filter(|(_, name)| wanted(name)).collect();
    if mutants.is_empty() {
        return Ok((0, 0));
    }
    copy_all(root, &folder.join("copy"))?;
    let sim = build(folder)?;
    // Otherwise a row that always fails would seem to notice every mutant.
    if let Some(row) = rows(folder, UNCHANGED)? {
        bail!("{row} fails without a mutant");
    }
    let (mut caught, of) = (0, mutants.len());
    for (at, name) in mutants {
        let mut noticed = former(&sim, name, at + 1)?;
        if noticed.is_none() && !ROWS.contains(&name) {
            noticed = play(&sim, at + 1)?;
        }
        // Table tests notice the mutants for which these seeds do not have faults that are rare enough.
        if noticed.is_none() {
            noticed = rows(folder, at + 1)?;
        }
        caught += usize::from(noticed.is_some());
        let noticed = noticed.unwrap_or_else(|| "NOBODY NOTICED".into());
        println!("{name:<48} {noticed}");
    }
    Ok((caught, of))
}

/// Copies the needed sources with every mutant applied and none switched on. Leaves unchanged files
/// alone, so that cargo builds only the changed ones again.
fn copy_all(root: &Path, copy: &Path) -> Result<()> {
    for room in ["protocol", "tests/sim"] {
        copy_file(root, copy, Path::new(room).join("Cargo.toml"), Ok)?;
        for file in sources(root, &Path::new(room).join("src"))? {
            let name = file.to_string_lossy().into_owned();
            copy_file(root, copy, file, |text| mutate(&name, text))?;
        }
    }
    copy_file(root, copy, "Cargo.lock".into(), Ok)?;
    copy_file(root, copy, "Cargo.toml".into(), |text| {
        let members = text.lines().find(|line| line.starts_with("members = "));
        let members = members.context("the workspace names no members")?;
        Ok(text.replacen(members, "members = [\"protocol\", \"tests/sim\"]", 1))
    })
}

fn sources(root: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            found.extend(sources(root, &path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

fn copy_file(
    root: &Path,
    copy: &Path,
    file: PathBuf,
    change: impl FnOnce(String) -> Result<String>,
) -> Result<()> {
    let from = root.join(&file);
    let text = fs::read_to_string(&from).with_context(|| from.display().to_string())?;
    let text = change(text)?;
    let to = copy.join(&file);
    if fs::read_to_string(&to).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
    fs::write(&to, text).with_context(|| to.display().to_string())
}

fn mutate(name: &str, text: String) -> Result<String> {
    let mut text = muster_sim::mutant::mutate(name, text).map_err(anyhow::Error::msg)?;
    match name {
        "protocol/src/lib.rs" => text.push_str(SWITCH),
        "tests/sim/src/bin/sim.rs" => text = text.replacen("fn main() -> ExitCode {\n", SET, 1),
        _ => {}
    }
    Ok(text)
}

fn build(folder: &Path) -> Result<PathBuf> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let target = folder.join("target");
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--offline", "--bin", "sim", "--target-dir"])
        .arg(&target)
        .current_dir(folder.join("copy"))
        .status()?;
    if !status.success() {
        bail!("the mutants do not compile");
    }
    Ok(target.join("debug/sim"))
}

/// Runs the table tests of the protocol against a mutant. Returns the first test that failed, if any.
/// The tests are built once.
fn rows(folder: &Path, number: usize) -> Result<Option<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["test", "--quiet", "--offline", "-p", "muster-protocol", "--lib", "--target-dir"])
        .arg(folder.join("target"))
        .env("MUTANT", number.to_string())
        .current_dir(folder.join("copy"))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !text.contains("test result:") {
        bail!("the rows do not compile: {}", String::from_utf8_lossy(&output.stderr));
    }
    let failed = text.lines().find_map(|line| line.trim().strip_prefix("---- "));
    Ok(failed.map(|line| format!("row {}", line.trim_end_matches(" stdout ----"))))
}

/// Runs the scripts that name a mutant. Returns the first of them, if any. Each of them has to notice the mutant:
/// otherwise it does not test what it claims.
fn former(sim: &Path, mutant: &str, number: usize) -> Result<Option<String>> {
    let mut noticed = None;
    for former in FORMER.iter().filter(|former| former.mutants.contains(&mutant)) {
        let output = Command::new(sim)
            .args(["--former", former.name])
            .env("MUTANT", number.to_string())
            .output()?;
        if output.status.success() {
            bail!("the script {} does not notice the mutant {mutant}", former.name);
        }
        noticed.get_or_insert(format!("script {}", former.name));
    }
    Ok(noticed)
}

/// Runs seeds against a mutant. Returns the violated invariant and the seed, if there was a violation.
fn play(sim: &Path, number: usize) -> Result<Option<String>> {
    let output = Command::new(sim)
        .args(["--seeds", SEEDS, "--stop"])
        .env("MUTANT", number.to_string())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let broken = text.lines().find_map(|line| {
        let (seed, invariant) = line.strip_prefix("seed ")?.split_once(" breaks ")?;
        Some(format!("{invariant:<56} seed {seed}"))
    });
    Ok(broken)
}
