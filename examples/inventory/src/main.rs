//! Says, a line for each, what it finds around itself: arguments, variables, the grain of its clock, a
//! random number, and what became of a file. It must never fail because something was not granted.

use std::{
    env, fs,
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// Steps of the clock that are looked at: the smallest of some is its grain.
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

/// The smallest step that the clock was seen to make.
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

/// What a file holds once it was written, or why it was not.
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
