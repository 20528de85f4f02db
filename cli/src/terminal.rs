//! All text of the command for people goes through here. Never lets a terminal obey control characters
//! in text from outside (guests' output, names, labels, reasons): it shows them escaped.
//!
//! The reader may close the output. On standard error the text is then lost; on standard output the
//! command ends in good order.

mod screen;

pub use screen::Screen;

use anstyle::Style;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
};

/// A text with one style. Only styles may send control characters to a terminal.
pub type Piece<'a> = (Style, &'a str);

/// A text without a style.
pub fn plain(text: &str) -> Piece<'_> {
    (Style::new(), text)
}

/// Prints a line, without colours where standard output may not be coloured.
pub fn line(pieces: &[Piece<'_>]) -> io::Result<()> {
    writeln!(anstream::stdout(), "{}", rendered(pieces))
}

/// Writes a line on standard error.
pub fn note(pieces: &[Piece<'_>]) {
    let _ = writeln!(anstream::stderr(), "{}", rendered(pieces));
}

/// Prints bytes unchanged, unless standard output is a terminal: then control characters are escaped.
pub fn bytes(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.is_terminal() {
        true => out.write_all(harmless(bytes).as_bytes())?,
        false => out.write_all(bytes)?,
    }
    out.flush()
}

/// The same on standard error.
pub fn note_bytes(bytes: &[u8]) {
    let mut out = io::stderr().lock();
    let _ = match out.is_terminal() {
        true => out.write_all(harmless(bytes).as_bytes()),
        false => out.write_all(bytes),
    };
}

/// A progress bar on standard error, with this text after the bar. Hidden if that is no terminal. `length` is absent
/// where nobody knows it yet.
pub fn progress_bar(length: Option<u64>, text: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(&format!("{{bar:40}} {text}"))
        .expect("the callers' templates are constants and well-formed");
    length.map_or_else(ProgressBar::no_length, ProgressBar::new).with_style(style)
}

/// The same JSON with control characters escaped. `serde_json` escapes most of them; the rest can only
/// be in strings.
pub fn json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' => shown.push(char),
            char if is_obeyed(char) => _ = write!(shown, "\\u{:04x}", u32::from(char)),
            char => shown.push(char),
        }
    }
    shown
}

/// A text as one line without control characters.
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    text.chars().for_each(|char| push(&mut shown, char));
    shown
}

fn rendered(pieces: &[Piece<'_>]) -> String {
    pieces.iter().map(|(style, text)| format!("{style}{}{style:#}", escaped(text))).collect()
}

/// Bytes as text of many lines without other control characters.
fn harmless(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let mut chars = chunk.valid().chars().peekable();
        while let Some(char) = chars.next() {
            match char {
                '\n' | '\t' => shown.push(char),
                '\r' if chars.peek() == Some(&'\n') => {}
                char => push(&mut shown, char),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

fn push(shown: &mut String, char: char) {
    match char {
        '\n' => shown.push_str("\\n"),
        '\r' => shown.push_str("\\r"),
        '\t' => shown.push_str("\\t"),
        char if char.is_control() => _ = write!(shown, "\\x{:02x}", u32::from(char)),
        char if is_obeyed(char) => _ = write!(shown, "\\u{{{:x}}}", u32::from(char)),
        char => shown.push(char),
    }
}

/// Whether a terminal would interpret the character instead of showing it: control characters, and
/// those that change the direction of text or end a line.
fn is_obeyed(char: char) -> bool {
    let turns = matches!(
        char,
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    char.is_control() || turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_and_obeys_only_its_styles() {
        for (text, shown) in [
            ("grün\u{20ac}", "grün\u{20ac}"),
            ("\u{1b}]0;title\u{7}", "\\x1b]0;title\\x07"),
            ("\u{9b}2J", "\\x9b2J"),
            ("a\nb\tc\r\u{7f}", "a\\nb\\tc\\r\\x7f"),
            ("\u{202e}cba", "\\u{202e}cba"),
        ] {
            assert_eq!(escaped(text), shown);
        }
        let bold = Style::new().bold();
        assert_eq!(
            rendered(&[(bold, "\u{1b}[2J"), plain("x")]),
            format!("{bold}\\x1b[2J{bold:#}x")
        );
    }

    #[test]
    fn json_stays_the_same_and_is_not_obeyed() {
        let value = serde_json::json!({ "text": "a\u{1b}[2J\n\u{9b}2J\u{7f}\u{202e}cba" });
        let text = serde_json::to_string_pretty(&value).expect("JSON");
        let shown = json(&text);
        assert!(shown.chars().all(|char| char == '\n' || !is_obeyed(char)), "{shown:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"), value);
    }

    #[test]
    fn bytes_keep_their_lines() {
        assert_eq!(
            harmless(b"one\r\n\ttwo\xff\x1b[2J\rthree\n"),
            "one\n\ttwo\\xff\\x1b[2J\\rthree\n"
        );
    }
}
