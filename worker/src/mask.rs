//! Replaces the values of secrets in what a run writes for people: its log, its output, its messages. A best
//! effort: it finds a value where its bytes stand together unchanged, and nowhere else.

use crate::policy::Secrets;
use bytes::Bytes;
use muster_protocol::task::{Data, Outcome, Verdict};
use std::sync::Arc;

/// The shortest value that is replaced, in bytes: shorter ones, such as `true` or `8080`, are likely to stand
/// elsewhere for something else.
pub const MASKED_FROM: usize = 8;

/// What stands in the place of a value.
const MASK: &[u8] = b"***";

/// Bytes that are looked at before what is known to be no value is passed on.
const PIECE: usize = 64 * 1024;

/// A value to find, with the table of Knuth, Morris and Pratt: for each number of bytes that match, how many
/// still match when the next byte does not.
#[derive(Debug)]
struct Value {
    bytes: Box<[u8]>,
    fallback: Box<[usize]>,
}

impl Value {
    fn new(bytes: &[u8]) -> Self {
        let mut value = Value { bytes: bytes.into(), fallback: vec![0; bytes.len() + 1].into() };
        for (end, byte) in bytes.iter().enumerate().skip(1) {
            value.fallback[end + 1] = value.step(value.fallback[end], *byte);
        }
        value
    }

    /// How many bytes of the value match after another byte, if `matched` did before; fewer than all.
    fn step(&self, mut matched: usize, byte: u8) -> usize {
        while matched > 0 && self.bytes.get(matched) != Some(&byte) {
            matched = self.fallback[matched];
        }
        matched + usize::from(self.bytes.get(matched) == Some(&byte))
    }
}

/// The values of a run's secrets; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Masks(Arc<[Value]>);

impl Masks {
    pub(crate) fn of(secrets: &Secrets) -> Self {
        let long = secrets.0.values().filter(|value| value.len() >= MASKED_FROM);
        Masks(long.map(|value| Value::new(value.as_bytes())).collect())
    }

    /// The same bytes with `***` for each value.
    pub(crate) fn hide(&self, bytes: Bytes) -> Bytes {
        if self.0.is_empty() {
            return bytes;
        }
        let (mut masker, mut out) = (Masker::new(self), Vec::new());
        masker.push(&bytes, &mut out);
        masker.finish(&mut out);
        out.into()
    }

    fn hide_text(&self, text: &mut String) {
        if !self.0.is_empty() {
            let hidden = self.hide(std::mem::take(text).into());
            *text = String::from_utf8_lossy(&hidden).into_owned();
        }
    }

    /// The same outcome, with `***` for each value in its output and its message.
    pub(crate) async fn hide_in(self, mut outcome: Outcome) -> Outcome {
        if self.0.is_empty() {
            return outcome;
        }
        match &mut outcome.verdict {
            Verdict::Failed { message: text, .. }
            | Verdict::Trapped { message: text }
            | Verdict::Rejected { message: text }
            | Verdict::Returned { reason: text } => self.hide_text(text),
            _ => {}
        }
        if let Data::Inline(bytes) = &mut outcome.output {
            let output = std::mem::take(bytes);
            *bytes = match output.len() {
                ..PIECE => self.hide(output),
                // On a blocking thread: other guests need this one.
                _ => {
                    tokio::task::spawn_blocking(move || self.hide(output)).await.unwrap_or_default()
                }
            };
        }
        outcome
    }
}

/// Hides values in bytes that come in pieces. It keeps back the bytes that may be the beginning of a value: fewer
/// than the longest value has.
#[derive(Debug)]
pub(crate) struct Masker {
    masks: Masks,
    /// How many bytes of each value match at the end of what came so far.
    matched: Vec<usize>,
    kept: Vec<u8>,
    /// The parts of `kept` that belong to values, in order, none of which overlaps another.
    hits: Vec<(usize, usize)>,
    /// Whether the first hit continues one for which the mask is written already.
    continues: bool,
}

impl Masker {
    pub(crate) fn new(masks: &Masks) -> Self {
        Masker {
            masks: masks.clone(),
            matched: vec![0; masks.0.len()],
            kept: Vec::new(),
            hits: Vec::new(),
            continues: false,
        }
    }

    /// Whether there is nothing to hide.
    pub(crate) fn is_idle(&self) -> bool {
        self.matched.is_empty()
    }

    /// Takes in bytes, and appends to `out` what can be passed on.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for piece in bytes.chunks(PIECE) {
            piece.iter().for_each(|&byte| self.take(byte));
            let open = self.matched.iter().copied().max().unwrap_or(0);
            self.pass(self.kept.len() - open, out);
        }
    }

    /// Appends what is left.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        self.pass(self.kept.len(), out);
        self.matched.fill(0);
        self.continues = false;
    }

    fn take(&mut self, byte: u8) {
        self.kept.push(byte);
        let end = self.kept.len();
        for (value, matched) in self.masks.0.iter().zip(&mut self.matched) {
            *matched = value.step(*matched, byte);
            if *matched < value.bytes.len() {
                continue;
            }
            *matched = value.fallback[*matched];
            // The beginning of a value is never passed on before its end has come.
            let mut start = end.saturating_sub(value.bytes.len());
            while let Some(&(earlier, last)) = self.hits.last()
                && last > start
            {
                start = start.min(earlier);
                self.hits.pop();
            }
            self.hits.push((start, end));
        }
    }

    /// Passes on the first bytes of `kept`.
    fn pass(&mut self, count: usize, out: &mut Vec<u8>) {
        if count == 0 {
            return;
        }
        let (mut at, mut left) = (0, Vec::new());
        let continued = std::mem::take(&mut self.continues);
        for (number, (start, end)) in std::mem::take(&mut self.hits).into_iter().enumerate() {
            if start >= count {
                left.push((start - count, end - count));
                continue;
            }
            out.extend_from_slice(&self.kept[at..start]);
            if !(continued && number == 0) {
                out.extend_from_slice(MASK);
            }
            at = end.min(count);
            if end > count {
                left.push((0, end - count));
                self.continues = true;
            }
        }
        out.extend_from_slice(&self.kept[at..count]);
        self.kept.drain(..count);
        self.hits = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks(values: &[&str]) -> Masks {
        let named = |(number, value): (usize, &&str)| (number.to_string(), value.to_string());
        Masks::of(&Secrets(values.iter().enumerate().map(named).collect()))
    }

    /// What becomes of a text that comes in pieces of this size.
    fn pieces(masks: &Masks, text: &str, size: usize) -> String {
        let (mut masker, mut out) = (Masker::new(masks), Vec::new());
        for piece in text.as_bytes().chunks(size) {
            masker.push(piece, &mut out);
            let longest = masks.0.iter().map(|value| value.bytes.len()).max().unwrap_or(0);
            assert!(masker.kept.len() < longest.max(1), "{text:?}: it keeps back too much");
        }
        masker.finish(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn values_are_hidden_wherever_the_pieces_end() {
        let masks = masks(&["hush-hush-1", "hush-hush-12345", "abababab", "short"]);
        for (text, want) in [
            ("", ""),
            ("nothing here", "nothing here"),
            ("a hush-hush-1 b", "a *** b"),
            ("a hush-hush-12345 b", "a *** b"),
            ("a hush-hush-12 b", "a ***2 b"),
            ("hush-hush-1hush-hush-1", "******"),
            ("hush-hush-hush-hush-1", "hush-hush-***"),
            ("hush-hush-", "hush-hush-"),
            ("xababababababx hush-hush-2", "x***x hush-hush-2"),
            ("short", "short"),
        ] {
            for size in 1..=text.len().max(1) {
                assert_eq!(pieces(&masks, text, size), want, "{text:?} by {size}");
            }
        }
    }

    #[test]
    fn an_outcome_has_no_value_of_a_secret() {
        let masks = masks(&["correct horse"]);
        let verdict = Verdict::Failed { code: 1, message: "no correct horse".into() };
        let large = "x".repeat(PIECE) + "correct horse";
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        for output in ["a correct horse", &large] {
            let output = Data::Inline(output.to_string().into());
            let outcome = Outcome { output, ..Outcome::bare(verdict.clone()) };
            let hidden = runtime.block_on(masks.clone().hide_in(outcome));
            let Data::Inline(output) = &hidden.output else { panic!("{hidden:?}") };
            assert!(output.ends_with(b"***"), "{output:?}");
            let message = "no ***".into();
            assert_eq!(hidden.verdict, Verdict::Failed { code: 1, message });
        }
    }
}
