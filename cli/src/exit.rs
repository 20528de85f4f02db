//! Exit codes, and error messages that say what to do next. Never decides whether something is an error.

use crate::{output::Unread, terminal};
use muster_protocol::task::Verdict;
use std::{fmt, process::ExitCode};

/// A failure that the caller could not have foreseen.
pub const FAILED: u8 = 1;
/// The caller can fix it: bad input, an unknown name, no server. Also clap's own code.
pub const USER: u8 = 2;
/// With `--wait`: the task's workers were lost. Outside the range of codes that shells give a meaning.
pub const LOST: u8 = 121;
/// With `--wait`: killed at its time limit, as `timeout` does it.
pub const TIMED_OUT: u8 = 124;
/// With `--wait`: killed over another limit.
pub const OVER_LIMIT: u8 = 125;
/// With `--wait`: the module could not be made ready. Shells use it for "found but cannot be run".
pub const REJECTED: u8 = 126;
/// Interrupted, or with `--wait`: cancelled. 128 + SIGINT.
pub const CANCELLED: u8 = 130;
/// With `--wait`: the guest trapped. 128 + SIGABRT.
pub const TRAPPED: u8 = 134;

/// The table of codes, for `--help`.
pub const HELP: &str = "\
Exit codes:
  0    done (with --wait: the task completed)
  1    something went wrong
  2    bad input, unknown module or task, a limit exceeded, NATS not reachable, or a permission missing
With --wait or --local, the guest's own exit code, or:
  121  lost: its workers were lost, and it may not be tried again
  124  timed out: killed at its time limit
  125  over limit: ended over one of its limits, which the message names
  126  rejected: the module could not be made ready to run
  130  cancelled, or the wait was interrupted (the task goes on, unless it is --local)
  134  trapped";

/// The exit code for the end of a task.
pub fn of(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Completed => 0,
        // Never 0: a shell would take the task as completed.
        Verdict::Failed { code, .. } => (*code).max(1),
        Verdict::Trapped { .. } => TRAPPED,
        Verdict::TimedOut { .. } => TIMED_OUT,
        Verdict::OverLimit { .. } => OVER_LIMIT,
        Verdict::Rejected { .. } => REJECTED,
        // A returned attempt does not end a task. Treat it as an interruption.
        Verdict::Cancelled | Verdict::Returned { .. } => CANCELLED,
        Verdict::Lost { .. } => LOST,
    }
}

/// An error with an exit code and, if there is one, a hint at the next step.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    text: String,
    hint: Option<String>,
}

impl Failure {
    /// An error that exits with [`FAILED`].
    pub fn new(text: impl Into<String>) -> Self {
        Failure { code: FAILED, text: text.into(), hint: None }
    }

    /// An error that exits with [`USER`].
    pub fn user(text: impl Into<String>) -> Self {
        Failure { code: USER, text: text.into(), hint: None }
    }

    /// The end of a command that was interrupted: exits with [`CANCELLED`].
    pub fn interrupted(text: impl Into<String>) -> Self {
        Failure { code: CANCELLED, text: text.into(), hint: None }
    }

    /// Adds what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// Prints the error and returns the process's exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if error.chain().any(|cause| cause.is::<Unread>()) {
        return ExitCode::SUCCESS;
    }
    self::error(&format!("{error:#}"));
    let failure = error.downcast_ref::<Failure>();
    if let Some(hint) = failure.and_then(|failure| failure.hint.as_deref()) {
        tell("hint", anstyle::AnsiColor::Cyan, hint);
    }
    ExitCode::from(failure.map_or(FAILED, |failure| failure.code))
}

/// Prints an error on standard error without ending the command.
pub fn error(text: &str) {
    tell("error", anstyle::AnsiColor::Red, text);
}

/// Prints a warning on standard error.
pub fn warn(text: &str) {
    tell("warning", anstyle::AnsiColor::Yellow, text);
}

/// Prints a hint on standard error.
pub fn hint(text: &str) {
    tell("hint", anstyle::AnsiColor::Cyan, text);
}

fn tell(word: &str, colour: anstyle::AnsiColor, text: &str) {
    let mut lines = text.lines();
    let first = format!(": {}", lines.next().unwrap_or_default());
    terminal::note(&[(colour.on_default().bold(), word), terminal::plain(&first)]);
    // Indent the other lines, so that none looks like another message.
    lines.for_each(|line| terminal::note(&[terminal::plain("  "), terminal::plain(line)]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::task::LimitName;

    #[test]
    fn only_a_reader_that_left_ends_a_command_in_good_order() {
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let report = |error: anyhow::Error| report(&error.context("while it said so"));
        assert_eq!(report(Unread.into()), ExitCode::SUCCESS);
        assert_eq!(report(broken.into()), ExitCode::from(FAILED), "a connection may break, too");
    }

    #[test]
    fn every_code_of_a_verdict_is_documented() {
        let message = String::new;
        for (verdict, code) in [
            (Verdict::Trapped { message: message() }, TRAPPED),
            (Verdict::TimedOut { limit_ms: 1 }, TIMED_OUT),
            (Verdict::OverLimit { limit: LimitName::CpuMs.into(), max: 1 }, OVER_LIMIT),
            (Verdict::Rejected { message: message() }, REJECTED),
            (Verdict::Cancelled, CANCELLED),
            (Verdict::Lost { workers: 1 }, LOST),
        ] {
            assert_eq!(of(&verdict), code);
            assert!(HELP.contains(&format!("\n  {code}  ")), "{code} is not in the help");
        }
        assert_eq!(of(&Verdict::Completed), 0);
        assert_eq!(of(&Verdict::Failed { code: 7, message: message() }), 7);
        assert_eq!(of(&Verdict::Failed { code: 0, message: message() }), 1);
    }
}
