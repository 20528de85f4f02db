//! Turns the letters a–z of its input into A–Z: a plain WASI command, standard input to standard
//! output. It must never use the SDK, and never hold more than one chunk of the input.

use std::io::{self, Read, Write};
use std::process::ExitCode;

/// The exit code that says there was nothing to do, so that it can be told from a failed read.
const EMPTY: u8 = 3;

fn main() -> ExitCode {
    match upper(io::stdin().lock(), io::stdout().lock()) {
        Ok(0) => {
            eprintln!("upper: the input is empty: give it some text");
            ExitCode::from(EMPTY)
        }
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("upper: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Copies `input` to `output` in capitals and returns how many bytes there were. Bytes that are not
/// ASCII letters pass as they are, so UTF-8 stays UTF-8.
fn upper(mut input: impl Read, mut output: impl Write) -> io::Result<u64> {
    let mut chunk = vec![0; 64 * 1024];
    let mut bytes = 0;
    loop {
        let length = input.read(&mut chunk)?;
        if length == 0 {
            output.flush()?;
            return Ok(bytes);
        }
        chunk[..length].make_ascii_uppercase();
        output.write_all(&chunk[..length])?;
        bytes += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::upper;

    #[test]
    fn letters_change_and_the_rest_stays() {
        for (input, expected) in [("", ""), ("a-Z 9", "A-Z 9"), ("grün", "GRüN")] {
            let mut output = Vec::new();
            let bytes = upper(input.as_bytes(), &mut output).expect("memory does not fail");
            assert_eq!(output, expected.as_bytes());
            assert_eq!(bytes, input.len() as u64);
        }
    }
}
