//! Runs the real command on a fleet, as operators do. Never talks to the fleet in another way.

use super::{Fleet, text, wait_for};
use crate::place;
use serde_json::Value;
use std::{
    fmt,
    io::Write,
    process::{Command, Stdio},
};

/// The most of an output that a failed test shows, in bytes.
const SHOWN_MAX: usize = 4 * 1024;

/// The result of a command.
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub out: Vec<u8>,
    /// Its standard error.
    pub err: String,
}

impl fmt::Debug for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let out = String::from_utf8_lossy(&self.out[..self.out.len().min(SHOWN_MAX)]);
        write!(f, "exit code {}, output:\n{out}\nerrors:\n{}", self.code, self.err)
    }
}

impl Ran {
    /// Its standard output as text, without white space at both ends.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).trim().to_string()
    }

    /// Its standard output, as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Demands the exit code 0.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Demands that it was refused as an error of the user, in these words.
    pub fn refused(&self, words: &str) {
        assert!(self.code == 2 && self.err.contains(words), "{self:?}");
    }
}

/// The command, as [`Fleet::run_by`] names it.
pub const COMMAND: &str = "the command";

impl Fleet {
    /// The command line of this fleet, not yet started.
    pub fn muster(&self, args: &[&str]) -> Command {
        let program = self.programs.get(COMMAND).cloned();
        let mut command = Command::new(program.unwrap_or_else(|| place::program("muster")));
        command.args(args).env("MUSTER_NATS", self.nats_url()).env_remove("MUSTER_FLEET");
        command.envs(self.environment.iter().map(|(name, path)| (name, path)));
        command
    }

    /// Runs the command to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, b"")
    }

    /// Waits until there is an event with this name whose body has these words. Returns its body.
    pub fn until_published(&self, event: &str, words: &[&str]) -> Value {
        let kind = format!("io.muster.advisory.v1.{}", event.replace('.', "_"));
        wait_for(&format!("{event} {words:?}"), || {
            let shown = self.run(&["events", "--since", "1h", "--json"]);
            let bodies =
                shown.text().lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
            let is_it = |body: &Value| {
                body["type"] == kind.as_str()
                    && words.iter().all(|word| body.to_string().contains(word))
            };
            bodies.expect("JSON").into_iter().find(is_it)
        })
    }

    /// Runs the command to its end, with this standard input.
    pub fn run_with(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut command = self.muster(args);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("muster starts");
        let mut stdin = child.stdin.take().expect("it was piped");
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            // A command that does not read its input does not fail the test.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().expect("it runs");
        writer.join().expect("it does not panic");
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: output.stdout,
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Uploads a guest of `examples/` under its name.
    pub fn push(&self, guest: &str) {
        self.run(&["module", "push", text(&place::guest(guest))]).ok();
    }

    /// A task's record, as JSON.
    pub fn record(&self, task: &str) -> Value {
        self.run(&["-o", "json", "task", "get", task]).ok().json()["record"].clone()
    }

    /// Waits until the record of a task satisfies `wanted`, and returns the record.
    pub fn until(&self, what: &str, task: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, || Some(self.record(task)).filter(|record| wanted(record)))
    }
}
