//! Breaks what a worker's process does, and demands that the test that is named for each mutant notices
//! it. All mutants are built once, each behind a switch. Never changes what the workspace itself has
//! built. It shares the compiled dependencies of the workspace, because building the runtime again takes
//! minutes.

use super::{copy_file, sources};
use anyhow::{Context, Result, bail, ensure};
use muster_sim::mutant::process::{JUDGES, Judge};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// The timeout of a test. A mutant may leave a guest that nothing stops, and then its test never ends.
const WITHIN: Duration = Duration::from_secs(20);

/// The timeout of a test of a whole fleet. Such a test ends by itself after half a minute at most, and
/// only then has it ended all its processes.
const FLEET_WITHIN: Duration = Duration::from_secs(60);

/// How often a running test is checked for its end.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The packages that are copied with all their sources.
const ROOMS: [&str; 4] = ["protocol", "module", "wire", "worker"];

/// The packages that have no code in the copy. Their dependencies still decide how the dependencies of
/// the others are built.
const BARE: [&str; 7] =
    ["master", "guest-sdk", "guest-sdk/macros", "cli", "tests", "tests/sim", "benches"];

/// Other files that the sources and the tests of the worker read.
const READ: [&str; 5] = [
    "Cargo.lock",
    "guest-sdk/wit/world.wit",
    "setup/policy.toml",
    "tests/hostile/frame/command.wat",
    "tests/hostile/frame/task.wat",
];

/// The switch, added to the copy of `wire`.
const SWITCH: &str = "
/// Whether the mutant of this number is switched on.
pub fn mutant(number: u32) -> bool {
    static ON: std::sync::OnceLock<Option<u32>> = std::sync::OnceLock::new();
    let read = || std::env::var(\"MUTANT\").ok().and_then(|text| text.parse().ok());
    *ON.get_or_init(read) == Some(number)
}
";

/// The built programs that contain the tests, and the broken worker.
struct Built {
    copy: PathBuf,
    worker: PathBuf,
    unit: PathBuf,
    run: PathBuf,
    fleet: PathBuf,
}

/// Tries each mutant, or only the mutant `only`. Returns how many were noticed, and how many were tried.
pub(super) fn try_all(root: &Path, folder: &Path, only: Option<&str>) -> Result<(usize, usize)> {
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    let mutants: Vec<_> = JUDGES.iter().enumerate().filter(|(_, (name, _))| wanted(name)).collect();
    if mutants.is_empty() {
        return Ok((0, 0));
    }
    let built = build(root, &folder.join("process"), &folder.join("process.target"))?;
    let of = mutants.len();
    // Tests of fleets wait most of the time, so they run beside the others.
    let (fleets, others): (Vec<_>, Vec<_>) =
        mutants.into_iter().partition(|(_, (_, judge))| matches!(judge, Judge::Fleet(_)));
    let caught = std::thread::scope(|scope| {
        let fleets = scope.spawn(|| built.try_each(&fleets));
        let others = built.try_each(&others)?;
        Ok::<_, anyhow::Error>(others + fleets.join().expect("it does not panic")?)
    })?;
    Ok((caught, of))
}

/// Copies the needed sources with every mutant applied and none switched on. The copy has a version of
/// its own, so that its build results have names of their own.
fn copy_all(root: &Path, copy: &Path) -> Result<()> {
    let all = |text| Ok(text);
    for file in READ {
        copy_file(root, copy, file.into(), all)?;
    }
    copy_file(root, copy, "Cargo.toml".into(), |text| {
        let version = text.lines().find(|line| line.starts_with("version = "));
        let version = version.context("the workspace has no version")?;
        let text = text.replacen(version, "version = \"0.0.0-mutants\"", 1);
        // Only for the packages of the workspace. The levels of the dependencies stay, or cargo would
        // build them again.
        let mut text = text.replace("opt-level = 3\n", "opt-level = 0\n");
        for package in ["module", "wire", "worker"] {
            text += &format!("[profile.dev.package.muster-{package}]\nopt-level = 0\n");
        }
        Ok(text)
    })?;
    for room in ROOMS {
        copy_file(root, copy, format!("{room}/Cargo.toml").into(), |text| Ok(manifest(&text)))?;
        for file in sources(root, &Path::new(room).join("src"))? {
            let name = file.to_string_lossy().into_owned();
            copy_file(root, copy, file, |text| mutate(&name, text))?;
        }
    }
    copy_file(root, copy, "worker/tests/run.rs".into(), all)?;
    for file in sources(root, Path::new("worker/tests/run"))? {
        copy_file(root, copy, file, all)?;
    }
    for room in BARE {
        copy_file(root, copy, format!("{room}/Cargo.toml").into(), |text| Ok(manifest(&text)))?;
        let lib = copy.join(room).join("src/lib.rs");
        if !lib.exists() {
            fs::create_dir_all(copy.join(room).join("src"))?;
            fs::write(lib, "")?;
        }
    }
    let guests = copy.join(".muster");
    if !guests.exists() {
        symlink(root.join(".muster"), guests)?;
    }
    Ok(())
}

/// The manifest of a package in the copy: without programs except the worker's, and without tests except
/// the worker's.
fn manifest(text: &str) -> String {
    let is_worker = text.contains("name = \"muster-worker\"");
    let mut kept = true;
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            kept = is_worker || !(line.starts_with("[[") || line == "[lib]");
        }
        if kept {
            lines.push(line);
        }
    }
    let lib = match (is_worker, text.contains("proc-macro = true")) {
        (true, _) => "",
        (false, true) => "[lib]\nproc-macro = true\ntest = false\n",
        (false, false) => "[lib]\ntest = false\n",
    };
    let program = "path = \"src/main.rs\"\n";
    let text = lines.join("\n") + "\n" + lib;
    text.replacen(program, &format!("{program}test = false\n"), 1)
}

fn mutate(name: &str, text: String) -> Result<String> {
    let mut text = muster_sim::mutant::process::mutate(name, text).map_err(anyhow::Error::msg)?;
    if name == "wire/src/lib.rs" {
        text.push_str(SWITCH);
    }
    Ok(text)
}

/// Builds the mutants and the tests that judge them.
fn build(root: &Path, copy: &Path, target: &Path) -> Result<Built> {
    copy_all(root, copy)?;
    let cargo = || Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    let mut command = cargo();
    // All packages, because the set of packages decides how each dependency is built. Intermediate
    // results go to the build directory of the workspace, under other names; the programs go to
    // `target`.
    command.args(["test", "--workspace", "--no-run", "--offline", "--message-format", "json"]);
    command.arg("--target-dir").arg(target).env("CARGO_BUILD_BUILD_DIR", root.join("target"));
    let of_worker = programs(command.current_dir(copy))?;
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-run", "--offline", "--message-format", "json"]);
    let of_fleets = programs(command.args(["--test", "e2e"]).current_dir(root))?;
    let find = |all: &[PathBuf], name: &str| {
        let of_name = |path: &&PathBuf| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            file.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        all.iter().find(of_name).cloned().with_context(|| format!("{name} was not built"))
    };
    Ok(Built {
        copy: copy.into(),
        worker: find(&of_worker, "muster-worker")?,
        unit: find(&of_worker, "muster_worker")?,
        run: find(&of_worker, "run")?,
        fleet: find(&of_fleets, "e2e")?,
    })
}

/// The programs that a cargo build reports.
fn programs(command: &mut Command) -> Result<Vec<PathBuf>> {
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("the mutants of processes do not compile");
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let program = |line: &str| {
        let (_, rest) = line.split_once("\"executable\":\"")?;
        rest.split_once('"').map(|(path, _)| PathBuf::from(path))
    };
    Ok(text.lines().filter_map(program).collect())
}

impl Built {
    /// Tries these mutants, each with its number minus one. Returns how many were noticed.
    fn try_each(&self, mutants: &[(usize, &(&str, Judge))]) -> Result<usize> {
        let mut sound: Vec<Judge> = Vec::new();
        let mut caught = 0;
        for &(at, &(name, judge)) in mutants {
            if !sound.contains(&judge) {
                // A test that fails without a mutant proves nothing.
                let failed = self.judge(judge, None)?;
                ensure!(failed.is_none(), "without a mutant {}", failed.unwrap_or_default());
                sound.push(judge);
            }
            let noticed = self.judge(judge, Some(at + 1))?;
            caught += usize::from(noticed.is_some());
            println!("{name:<48} {}", noticed.unwrap_or_else(|| "NOBODY NOTICED".into()));
        }
        Ok(caught)
    }

    /// Runs a test with a mutant, or without one. Returns how the test failed; `None` if it passed.
    fn judge(&self, judge: Judge, mutant: Option<usize>) -> Result<Option<String>> {
        let (program, name, kind, within) = match judge {
            Judge::Unit(name) => (&self.unit, name, "row", WITHIN),
            Judge::Run(name) => (&self.run, name, "run", WITHIN),
            Judge::Fleet(name) => (&self.fleet, name, "fleet", FLEET_WITHIN),
        };
        let mut command = Command::new(program);
        command.args([name, "--exact"]).current_dir(self.copy.join("worker"));
        if judge == Judge::Fleet(name) {
            command.env("MUSTER_TEST_WORKER", &self.worker);
        }
        if let Some(mutant) = mutant {
            command.env("MUTANT", mutant.to_string());
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let began = Instant::now();
        let ended = loop {
            match child.try_wait()? {
                Some(status) => break Some(status),
                None if began.elapsed() < within => std::thread::sleep(LOOK_EVERY),
                None => break None,
            }
        };
        let Some(status) = ended else {
            child.kill()?;
            child.wait()?;
            return Ok(Some(format!("{kind} {name} does not end")));
        };
        let mut said = String::new();
        let stdout = child.stdout.take().context("it was piped")?;
        std::io::Read::read_to_string(&mut { stdout }, &mut said)?;
        ensure!(said.contains("running 1 test"), "there is no test {name}");
        Ok((!status.success()).then(|| format!("{kind} {name}")))
    }
}
