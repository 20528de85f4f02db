//! Counts the words of a text: bytes in, JSON out. It must never fail: any bytes have a count, even no
//! bytes at all or bytes that are not text.

use std::cmp::Reverse;
use std::collections::HashMap;

use serde::Serialize;

/// The number of the most frequent words in the result.
const TOP: usize = 10;

/// The result: `{"lines":2,"words":3,"bytes":14,"top":[["two",2],["one",1]]}`.
#[derive(Debug, Serialize)]
pub struct Count {
    /// Lines; the last line counts even without a newline at its end.
    lines: u64,
    /// Words, each counted as often as it occurs.
    words: u64,
    /// Bytes of the input.
    bytes: u64,
    /// The most frequent words with their numbers, the most frequent first. Words that are equally
    /// frequent are in alphabetical order.
    top: Vec<(String, u64)>,
}

/// Counts the words of `text`, where a word is a run of ASCII letters and digits, in lower case.
#[muster::task]
pub fn wordcount(text: Vec<u8>) -> Count {
    let mut seen: HashMap<Vec<u8>, u64> = HashMap::new();
    for word in text.split(|byte| !byte.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        let word = word.to_ascii_lowercase();
        *seen.entry(word).or_default() += 1;
    }
    let words = seen.values().sum();

    let mut top: Vec<(Vec<u8>, u64)> = seen.into_iter().collect();
    top.sort_unstable_by(|(a, a_times), (b, b_times)| {
        (Reverse(a_times), a).cmp(&(Reverse(b_times), b))
    });
    top.truncate(TOP);

    let newlines = text.iter().filter(|byte| **byte == b'\n').count();
    let open_line = text.last().is_some_and(|byte| *byte != b'\n');
    Count {
        lines: newlines as u64 + u64::from(open_line),
        words,
        bytes: text.len() as u64,
        top: top
            .into_iter()
            .map(|(word, times)| (String::from_utf8_lossy(&word).into_owned(), times))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::wordcount;

    fn check(text: &[u8], expected: &str) {
        let output = muster::testing::run!(wordcount, text).expect("it never fails");
        assert_eq!(String::from_utf8(output).expect("JSON is text"), expected);
    }

    #[test]
    fn counts() {
        check(b"", r#"{"lines":0,"words":0,"bytes":0,"top":[]}"#);
        check(b"\n\n", r#"{"lines":2,"words":0,"bytes":2,"top":[]}"#);
        check(b"\xff\xfe", r#"{"lines":1,"words":0,"bytes":2,"top":[]}"#);
        check(
            b"Two, two\nONE-42",
            r#"{"lines":2,"words":4,"bytes":15,"top":[["two",2],["42",1],["one",1]]}"#,
        );
    }

    #[test]
    fn only_the_most_frequent_are_told() {
        check(
            b"l k j i h g f e d c b a l\n",
            concat!(
                r#"{"lines":1,"words":13,"bytes":26,"top":[["l",2],["a",1],["b",1],["c",1],"#,
                r#"["d",1],["e",1],["f",1],["g",1],["h",1],["i",1]]}"#
            ),
        );
    }
}
