//! Traces: the W3C trace context that a task gets from its caller, and the parts of a trace. Muster decides nothing by
//! them.

use alloc::{string::String, vec::Vec};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The variable in which a guest gets the context of its run, and a command that of its caller.
pub const TRACEPARENT: &str = "TRACEPARENT";

/// The size of a context as text: `00-TRACE-PARENT-FLAGS`, in hex.
const TEXT_SIZE: usize = 55;

/// A trace context as in the header `traceparent` of W3C's Trace Context 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never 0.
    pub trace: u128,
    /// The span that causes the next one; never 0.
    pub parent: u64,
    /// Whether spans of the trace are to be recorded.
    pub sampled: bool,
}

/// A text is no trace context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a trace context is written 00-TRACE-PARENT-FLAGS, with 32, 16 and 2 hex digits")]
pub struct NotATraceContext;

impl TraceContext {
    /// The same trace, below another span.
    pub fn below(self, span: u64) -> Self {
        TraceContext { parent: span, ..self }
    }
}

impl FromStr for TraceContext {
    type Err = NotATraceContext;

    fn from_str(text: &str) -> Result<Self, NotATraceContext> {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
        if text.len() != TEXT_SIZE || !text.bytes().all(is_hex) {
            return Err(NotATraceContext);
        }
        let mut parts = text.split('-');
        let mut next =
            |size| parts.next().filter(|part| part.len() == size).ok_or(NotATraceContext);
        let (version, trace, parent, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        let trace = u128::from_str_radix(trace, 16).map_err(|_| NotATraceContext)?;
        let parent = u64::from_str_radix(parent, 16).map_err(|_| NotATraceContext)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| NotATraceContext)?;
        if version != "00" || trace == 0 || parent == 0 {
            return Err(NotATraceContext);
        }
        Ok(TraceContext { trace, parent, sampled: flags & 1 == 1 })
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TraceContext { trace, parent, sampled } = self;
        write!(f, "00-{trace:032x}-{parent:016x}-{:02x}", u8::from(*sampled))
    }
}

impl Serialize for TraceContext {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceContext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A part of a trace that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The trace.
    pub trace: u128,
    /// Its id.
    pub id: u64,
    /// The span that caused it; none if it began the trace.
    pub parent: Option<u64>,
    /// What it is, in a few words that are the same for all tasks.
    pub name: &'static str,
    /// When it began and ended, in nanoseconds since 1970 on the wall clock of the process that says so.
    pub times_ns: (u64, u64),
    /// Why it failed, if it did.
    pub failed: Option<String>,
    /// More about it: names by the conventions of OpenTelemetry, and values.
    pub attributes: Vec<(&'static str, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_is_read_as_it_is_written() {
        let context: TraceContext = TEXT.parse().expect("a context");
        assert!(context.sampled && context.to_string() == TEXT);
        let not_sampled = TEXT.replace("-01", "-02").parse::<TraceContext>();
        assert!(not_sampled.is_ok_and(|context| !context.sampled));
        for text in [
            "",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-+0f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7-01",
        ] {
            assert_eq!(text.parse::<TraceContext>(), Err(NotATraceContext), "{text}");
        }
    }
}
