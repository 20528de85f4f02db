//! Reads the inputs of a run line by line. Never holds more than one line and a buffer, and never
//! returns an empty line or one above the limits as an input.

use crate::{exit::Failure, quantity};
use anyhow::Context as _;
use bytes::Bytes;
use muster_protocol::limit;
use serde::de::IgnoredAny;
use std::path::Path;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader};

/// Lines of a file or of standard input.
pub struct Lines {
    from: Box<dyn AsyncBufRead + Send + Unpin>,
    /// What was read of the current line.
    line: Vec<u8>,
    /// Whether the current line is too long, so that its rest is dropped.
    is_over: bool,
    /// Whether every line has to be JSON.
    is_json: bool,
}

/// A line as an input, or why it cannot be one.
pub type InputLine = Result<Bytes, String>;

impl Lines {
    /// Opens a file, or standard input for `-`.
    pub async fn open(file: &Path, is_json: bool) -> anyhow::Result<Self> {
        if file == Path::new("-") {
            return Ok(Lines::of(BufReader::new(tokio::io::stdin()), is_json));
        }
        let is_json = is_json || file.extension().is_some_and(|ending| ending == "jsonl");
        let opened = tokio::fs::File::open(file).await;
        let opened = opened
            .map_err(|error| Failure::user(format!("cannot read {}: {error}", file.display())))?;
        Ok(Lines::of(BufReader::new(opened), is_json))
    }

    fn of(from: impl AsyncBufRead + Send + Unpin + 'static, is_json: bool) -> Self {
        Lines { from: Box::new(from), line: Vec::new(), is_over: false, is_json }
    }

    /// The next line without its end; `None` after the last. May be dropped and called again.
    pub async fn next(&mut self) -> anyhow::Result<Option<InputLine>> {
        loop {
            let buffer = self.from.fill_buf().await.context("cannot read the inputs")?;
            if buffer.is_empty() {
                // A last line without a newline counts. An empty rest after the last newline does not.
                let is_more = !self.line.is_empty() || self.is_over;
                return Ok(is_more.then(|| self.cut()));
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(buffer.len(), |end| end + 1);
            if !self.is_over {
                self.line.extend_from_slice(&buffer[..end.unwrap_or(used)]);
            }
            self.from.consume(used);
            if self.line.len() as u64 > limit::PAYLOAD_SIZE_MAX {
                (self.line, self.is_over) = (Vec::new(), true);
            }
            if end.is_some() {
                return Ok(Some(self.cut()));
            }
        }
    }

    fn cut(&mut self) -> InputLine {
        if std::mem::take(&mut self.is_over) {
            let max = quantity::show_size(limit::PAYLOAD_SIZE_MAX);
            return Err(format!("it is longer than the {max} that an input may have"));
        }
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if line.trim_ascii().is_empty() {
            return Err("it is blank".into());
        }
        if self.is_json
            && let Err(error) = serde_json::from_slice::<IgnoredAny>(&line)
        {
            return Err(format!("it is not JSON: {error}"));
        }
        Ok(line.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &'static str, is_json: bool) -> Vec<InputLine> {
        // A buffer of three bytes splits lines at every possible place.
        let mut lines = Lines::of(BufReader::with_capacity(3, text.as_bytes()), is_json);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.expect("readable") {
            all.push(line);
        }
        all
    }

    #[tokio::test]
    async fn every_line_is_an_input() {
        let (good, blank) = (|text: &'static str| Ok(text.into()), || Err("it is blank".into()));
        assert_eq!(lines("", false).await, Vec::<InputLine>::new());
        assert_eq!(lines("one\ntwo\n", false).await, [good("one"), good("two")]);
        assert_eq!(lines("one\n\ntwo", false).await, [good("one"), blank(), good("two")]);
        assert_eq!(lines("dos\r\nlines\r\n", false).await, [good("dos"), good("lines")]);
        assert_eq!(lines(" \r\n", false).await, [blank()]);
    }

    #[tokio::test]
    async fn what_is_not_json_is_told_where_it_is_wanted() {
        let read = lines("{\"a\":1}\n{\n7", true).await;
        assert_eq!(read[0], Ok("{\"a\":1}".into()));
        assert!(read[1].as_ref().is_err_and(|why| why.starts_with("it is not JSON: ")), "{read:?}");
        assert_eq!(read[2], Ok("7".into()));
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_dropped_and_the_next_one_is_whole() {
        let long = vec![b'x'; limit::PAYLOAD_SIZE_MAX as usize + 1];
        let text: &'static [u8] = [&long[..], b"\nnext\n"].concat().leak();
        let mut lines = Lines::of(BufReader::new(text), false);
        let first = lines.next().await.expect("readable").expect("a line");
        assert!(first.is_err_and(|why| why.contains("64 MiB")));
        assert_eq!(lines.next().await.expect("readable"), Some(Ok("next".into())));
        assert_eq!(lines.next().await.expect("readable"), None);
    }
}
