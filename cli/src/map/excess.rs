//! Decides whether the bytes after the known results in a file are what one interrupted write of this
//! run leaves. Never takes another program's bytes for this run's.

use muster_protocol::TaskId;
use std::io::{self, Read};

/// How many bytes are compared at once: a line may be as long as an output, and need not be held.
const CHUNK: usize = 64 * 1024;

/// Whether the bytes are the result of this line and task, whole or its beginning, and nothing more.
pub fn is_one_result(mut excess: impl Read, line: u64, task: TaskId) -> io::Result<bool> {
    let heads = [
        format!("{{\"line\":{line},\"task\":\"{task}\",\"verdict\":\""),
        // The result of an input for which no task was submitted.
        format!("{{\"line\":{line},\"verdict\":\"refused\",\"reason\":\""),
    ];
    let longest = heads.iter().map(String::len).max().unwrap_or(0);
    let mut begun = Vec::new();
    excess.by_ref().take(longest as u64).read_to_end(&mut begun)?;
    let is_own = heads.iter().any(|head| {
        let both = head.len().min(begun.len());
        head.as_bytes()[..both] == begun[..both]
    });
    if !is_own {
        return Ok(false);
    }
    let mut rest = (&begun[..]).chain(excess);
    let mut chunk = vec![0; CHUNK];
    let mut is_whole = false;
    loop {
        let read = match rest.read(&mut chunk) {
            Ok(0) => return Ok(true),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        // An interrupted write ends within its line. Bytes after the newline come from another writer.
        if is_whole {
            return Ok(false);
        }
        match chunk[..read].iter().position(|byte| *byte == b'\n') {
            Some(end) if end + 1 < read => return Ok(false),
            Some(_) => is_whole = true,
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str =
        r#"{"line":7,"task":"00000000000000000000000009","verdict":"completed","output":"x"}"#;
    const REFUSED: &str = r#"{"line":7,"verdict":"refused","reason":"it is blank"}"#;

    fn is_own(excess: &str) -> bool {
        is_one_result(excess.as_bytes(), 7, TaskId(9)).expect("it can be read")
    }

    #[test]
    fn a_line_of_this_run_is_its_own_wherever_it_was_cut() {
        for line in [format!("{OWN}\n"), format!("{REFUSED}\n")] {
            for end in 0..=line.len() {
                assert!(is_own(&line[..end]), "{:?}", &line[..end]);
            }
        }
        let long = OWN.replace('x', &"x".repeat(3 * CHUNK));
        assert!(is_own(&long) && is_own(&format!("{long}\n")));
    }

    #[test]
    fn what_another_run_or_program_wrote_is_not() {
        let long = OWN.replace('x', &"x".repeat(3 * CHUNK));
        for excess in [
            OWN.replace("9\"", "8\""),
            OWN.replace(":7,", ":8,"),
            OWN.replace(":7,", ":77,"),
            REFUSED.replace("refused", "completed"),
            "{\"line\":7,\"task\":\"1".into(),
            "\0\0\0\0".into(),
            "\n".into(),
            "a note\n".into(),
            format!("{OWN}\n{OWN}\n"),
            format!("{OWN}\n{{"),
            format!("{OWN}\n\n"),
            format!("{long}\n{{\"line\":1"),
        ] {
            assert!(!is_own(&excess), "{:?}", &excess[..excess.len().min(99)]);
        }
    }
}
