//! Finds and runs a language's own build tool. Never hides the tool's messages.

use crate::{exit::Failure, terminal};
use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The beginning of a command line.
#[derive(Debug)]
pub struct Tool(Vec<OsString>);

impl Tool {
    /// The program of that name on the path, otherwise what `otherwise` runs.
    pub fn find(name: &str, otherwise: &[&str], hint: &str) -> anyhow::Result<Self> {
        if let Some(path) = on_path(name) {
            return Ok(Tool::at(path));
        }
        let is_there = |(program, args): (&&str, &[&str])| {
            output_of(Command::new(program).args(args).arg("version")).is_some()
        };
        if otherwise.split_first().is_some_and(is_there) {
            return Ok(Tool(otherwise.iter().map(Into::into).collect()));
        }
        Err(Failure::user(format!("{name} is not on the path")).hint(hint).into())
    }

    /// The program at this path.
    pub fn at(path: PathBuf) -> Self {
        Tool(vec![path.into()])
    }

    /// A command that runs the tool.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.0[0]);
        command.args(&self.0[1..]);
        command
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(name)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

/// The output of a command, if it succeeds.
pub fn output_of(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a tool to its end with its errors on standard error; returns its output.
pub fn finish(mut command: Command, name: &str) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| Failure::user(format!("{name} does not run: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    // Some tools report errors on standard output.
    if !output.stdout.starts_with(b"{") {
        terminal::note_bytes(&output.stdout);
    }
    let text = format!("{name} could not build it: {}", output.status);
    Err(Failure::user(text).hint("its messages above say what is wrong").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_named_with_how_to_get_it() {
        let missing = Tool::find("no-such-tool", &["no-such-python", "-m", "x"], "get it");
        let error = missing.expect_err("there is none");
        assert_eq!(error.to_string(), "no-such-tool is not on the path");
        assert!(error.downcast_ref::<Failure>().is_some());
    }

    #[test]
    fn another_way_is_taken_where_it_works() {
        let found = Tool::find("no-such-tool", &["true"], "").expect("true takes any argument");
        assert!(finish(found.command(), "true").is_ok());
        let bad = Tool::find("false", &[], "").expect("every system has it");
        let error = finish(bad.command(), "false").expect_err("it fails").to_string();
        assert!(error.starts_with("false could not build it: "), "{error}");
    }
}
