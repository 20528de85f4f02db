//! The verdict on a guest that ended by itself. Never decides for a run that was stopped from outside:
//! that cause takes precedence over anything the guest did.

use crate::{
    engine::WASM_STACK_MAX,
    sandbox::{CORE_INSTANCES_MAX, HANDLES_MAX, HOSTCALL_FUEL, MEMORIES_MAX, TABLES_MAX},
};
use muster_protocol::{
    limit,
    task::{LimitName, Limits, Verdict, clip},
};
use wasmtime::{Trap, WasmBacktrace, component::ResourceTableError};
use wasmtime_wasi::I32Exit;

/// How a guest ended by itself.
pub(super) enum Returned {
    /// It succeeded and returned nothing.
    Done,
    /// It failed and gave no message.
    Failed,
    /// It succeeded and returned its output.
    Output(Vec<u8>),
    /// It failed with a message.
    Message(String),
}

/// Functions named in the message of a trap: the one that trapped, then its callers.
const FRAMES_SHOWN: usize = 4;

/// The longest name of a function in a message, in bytes; names of generic functions can have
/// thousands.
const NAME_SHOWN: usize = 80;

/// The verdict on a guest that was not stopped. `refused`: the limit at which the guest was ever
/// refused more, with its maximum; `stderr`: the end of the guest's standard error.
pub(super) fn judge(
    result: &wasmtime::Result<Returned>,
    limits: &Limits,
    refused: Option<(LimitName, u64)>,
    stderr: &str,
) -> Verdict {
    // A message from the guest itself counts as its own failure. A guest that dies after it was refused
    // memory died of that, whether it trapped (C, Rust) or exited (Go, Python).
    let failed = |code: u8| match refused {
        Some((limit, max)) => over(limit, max),
        None => Verdict::Failed { code, message: last_line(stderr) },
    };
    match result {
        Ok(Returned::Output(output)) if output.len() as u64 > limits.output_bytes => {
            over(LimitName::OutputBytes, limits.output_bytes)
        }
        Ok(Returned::Done | Returned::Output(_)) => Verdict::Completed,
        Ok(Returned::Failed) => failed(1),
        Ok(Returned::Message(message)) => {
            Verdict::Failed { code: 1, message: clip(message, limit::MESSAGE_SIZE_MAX).into() }
        }
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(0)) => Verdict::Completed,
            Some(I32Exit(code)) => failed(exit_code(*code)),
            None => match refused.or_else(|| limit_of(error)) {
                Some((limit, max)) => over(limit, max),
                None => Verdict::Trapped { message: describe(error) },
            },
        },
    }
}

/// The verdict on a guest that asked for more of something than its limit allows.
pub(super) fn over(limit: LimitName, max: u64) -> Verdict {
    Verdict::OverLimit { limit: limit.into(), max }
}

/// Limits for which the runtime's error has no type: a part of its text, the limit's name and its
/// maximum.
const SAID: &[(&str, LimitName, u64)] = &[
    ("fuel allocated for hostcalls", LimitName::HostCopyBytes, HOSTCALL_FUEL),
    ("instance count too high", LimitName::CoreInstances, CORE_INSTANCES_MAX as u64),
    ("table count too high", LimitName::Tables, TABLES_MAX as u64),
    ("memory count too high", LimitName::Memories, MEMORIES_MAX as u64),
];

/// The limit that an error of the runtime is about; `None` where it is about no limit.
fn limit_of(error: &wasmtime::Error) -> Option<(LimitName, u64)> {
    if error.downcast_ref::<Trap>() == Some(&Trap::StackOverflow) {
        return Some((LimitName::StackBytes, WASM_STACK_MAX as u64));
    }
    let full = |error: &ResourceTableError| matches!(error, ResourceTableError::Full);
    if error.downcast_ref::<ResourceTableError>().is_some_and(full) {
        return Some((LimitName::Handles, HANDLES_MAX as u64));
    }
    let text = error.root_cause().to_string();
    let said = SAID.iter().find(|(part, ..)| text.contains(part));
    said.map(|&(_, limit, max)| (limit, max))
}

/// The exit code as a Unix parent sees it: the lowest byte, but 1 where that byte is 0.
fn exit_code(code: i32) -> u8 {
    match code.to_le_bytes()[0] {
        0 => 1,
        code => code,
    }
}

fn last_line(stderr: &str) -> String {
    let line = stderr.lines().rev().map(str::trim).find(|line| !line.is_empty());
    line.map_or(String::new(), |line| clip(line, limit::MESSAGE_SIZE_MAX).into())
}

/// The trap and the functions in which it happened: `out of bounds memory access in parse < main`.
fn describe(error: &wasmtime::Error) -> String {
    let what = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    let what = what.strip_prefix("wasm trap: ").unwrap_or(&what);
    let frames = error.downcast_ref::<WasmBacktrace>().map_or(&[][..], WasmBacktrace::frames);
    let names: Vec<&str> =
        frames.iter().filter_map(|frame| frame.func_name()).take(FRAMES_SHOWN).map(short).collect();
    let message = match names.is_empty() {
        true => what.to_string(),
        false => format!("{what} in {}", names.join(" < ")),
    };
    clip(&message, limit::MESSAGE_SIZE_MAX).into()
}

/// A Rust name without its hash; any name is cut to [`NAME_SHOWN`].
fn short(name: &str) -> &str {
    let plain = match name.rsplit_once("::h") {
        Some((plain, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            plain
        }
        _ => name,
    };
    clip(plain, NAME_SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_bytes_and_failure_stays_failure() {
        for (code, expected) in [(1, 1), (255, 255), (-1, 255), (256, 1), (258, 2)] {
            assert_eq!(exit_code(code), expected);
        }
    }

    #[test]
    fn names_are_short() {
        assert_eq!(short("app::main::h0123456789abcdef"), "app::main");
        assert_eq!(short("app::hello"), "app::hello");
        assert_eq!(short(&"x".repeat(500)).len(), NAME_SHOWN);
    }

    #[test]
    fn the_last_line_is_the_last_that_says_something() {
        assert_eq!(last_line("one\ntwo \n\n"), "two");
        assert_eq!(last_line("\n"), "");
    }
}
