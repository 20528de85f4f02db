//! Prints what the task was granted, one line each: arguments, variables, the resolution of its clock, a
//! random number, and the result of writing a file. It must never fail because something was not
//! granted.

use std::{
    env, fs,
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// The number of clock steps to look at: the smallest one is the resolution.
const STEPS: usize = 3;

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for argument in env::args().skip(1) {
        writeln!(out, "argument {argument}")?;
    }
    for (name, value) in env::vars() {
        writeln!(out, "variable {name}={value}")?;
    }
    writeln!(out, "clock {} ns", grain())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    writeln!(out, "time {} s", now.as_secs())?;
    writeln!(out, "random {:016x}", RandomState::new().hash_one(0))?;
    writeln!(out, "file {}", file("/kept", "so far"))
}

/// The smallest observed step of the clock.
fn grain() -> u128 {
    let step = || {
        let began = Instant::now();
        loop {
            let passed = began.elapsed();
            if !passed.is_zero() {
                return passed.as_nanos();
            }
        }
    };
    (0..STEPS).map(|_| step()).min().unwrap_or(0)
}

/// The content of a file after writing it, or the error.
fn file(path: &str, text: &str) -> String {
    let read = fs::write(path, text).and_then(|()| fs::read_to_string(path));
    read.unwrap_or_else(|error| format!("none: {error}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_file_is_kept_or_the_reason_said() {
        let path = std::env::temp_dir().join(format!("inventory-{}", std::process::id()));
        let path = path.to_str().expect("UTF-8");
        assert_eq!(super::file(path, "x"), "x");
        std::fs::remove_file(path).expect("it is ours");
        assert!(super::file("/no/such/folder/x", "x").starts_with("none: "));
        assert!(super::grain() > 0);
    }
}
