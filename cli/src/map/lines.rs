//! The inputs of a run, a line at a time; never more of them than one line and a buffer.

use crate::{blob, exit::Failure};
use anyhow::Context as _;
use bytes::Bytes;
use muster_protocol::limit;
use std::path::Path;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader};

/// Lines of a file or of standard input.
pub struct Lines {
    from: Box<dyn AsyncBufRead + Send + Unpin>,
    /// What was read of the present line.
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    /// Opens a file, or standard input for `-`.
    pub async fn open(file: &Path) -> anyhow::Result<Self> {
        if file == Path::new("-") {
            return Ok(Lines::of(BufReader::new(tokio::io::stdin())));
        }
        let opened = tokio::fs::File::open(file).await;
        let opened = opened
            .map_err(|error| Failure::user(format!("cannot read {}: {error}", file.display())))?;
        Ok(Lines::of(BufReader::new(opened)))
    }

    fn of(from: impl AsyncBufRead + Send + Unpin + 'static) -> Self {
        Lines { from: Box::new(from), line: Vec::new(), number: 0 }
    }

    /// The next line without its end; none after the last. May be dropped and called again.
    pub async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            let buffer = self.from.fill_buf().await.context("cannot read the inputs")?;
            if buffer.is_empty() {
                // A last line without a newline counts; nothing after a last newline does not.
                return if self.line.is_empty() { Ok(None) } else { self.cut().map(Some) };
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(buffer.len(), |end| end + 1);
            self.line.extend_from_slice(&buffer[..end.unwrap_or(used)]);
            self.from.consume(used);
            if end.is_some() || self.line.len() as u64 > limit::PAYLOAD_SIZE_MAX {
                return self.cut().map(Some);
            }
        }
    }

    fn cut(&mut self) -> anyhow::Result<Bytes> {
        self.number += 1;
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        blob::check_size(line.len() as u64).with_context(|| format!("line {}", self.number))?;
        Ok(line.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &'static str) -> Vec<Bytes> {
        // A buffer of three bytes cuts lines at every place.
        let mut lines = Lines::of(BufReader::with_capacity(3, text.as_bytes()));
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.expect("readable") {
            all.push(line);
        }
        all
    }

    #[tokio::test]
    async fn every_line_is_an_input() {
        assert_eq!(lines("").await, Vec::<Bytes>::new());
        assert_eq!(lines("one\ntwo\n").await, ["one", "two"]);
        assert_eq!(lines("one\n\ntwo").await, ["one", "", "two"]);
        assert_eq!(lines("dos\r\nlines\r\n").await, ["dos", "lines"]);
        assert_eq!(lines("\n").await, [""]);
    }
}
