//! Counts the primes of a range: JSON in, JSON out, with as much computation as the range demands. It
//! must never depend on a clock or on chance: the same range gives the same answer everywhere.

use serde::{Deserialize, Serialize};

/// The greatest end of a range. The sieve needs as many bytes of memory as its square root.
const TO_MAX: u64 = 100_000_000_000_000;

/// Numbers sieved at once. Half as many bytes: they fit in a core's second-level cache.
const SEGMENT: u64 = 512 * 1024;

/// Segments from one checkpoint to the next: about a second of work. A checkpoint takes milliseconds, so
/// it costs little, and the loss of a worker costs no more than that second. The tests use fewer
/// segments, to be fast.
const CHECKPOINT_EVERY: u64 = if cfg!(test) { 2 } else { 1_000 };

/// The range, both ends included: `{"from":1,"to":100}`. Each field may be left out, and so may the
/// whole input.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Range {
    from: u64,
    to: u64,
}

impl Default for Range {
    fn default() -> Self {
        // About a second of one core.
        Self { from: 1, to: 500_000_000 }
    }
}

/// The result: `{"from":1,"to":100,"count":25,"largest":97}`; without a prime in the range, `largest` is
/// `null`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    from: u64,
    to: u64,
    count: u64,
    largest: Option<u64>,
}

/// The checkpoint for the next attempt.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// The next number to check; all primes below it are counted. An odd number, or 0 at the very
    /// beginning.
    start: u64,
    count: u64,
    largest: Option<u64>,
}

/// Counts the primes of a range, and reports each percent of it. An attempt after the first continues
/// from the last checkpoint.
///
/// # Errors
///
/// When the range ends before it starts, or beyond 10^14.
#[muster::task]
pub fn primes(range: Option<Range>) -> Result<Found, String> {
    let Range { from, to } = range.unwrap_or_default();
    if from > to {
        return Err(format!("the range ends before it starts: from {from} to {to}"));
    }
    if to > TO_MAX {
        return Err(format!("the range goes beyond {TO_MAX}: to {to}"));
    }
    let mut state: State = muster::resume().unwrap_or_default();
    if state.start == 0 {
        muster::info!("counting the primes from {from} to {to}");
        state.start = from.max(3) | 1;
        if from <= 2 && 2 <= to {
            // 2 is the only even prime; the sieve handles only odd numbers.
            (state.count, state.largest) = (1, Some(2));
        }
    } else {
        muster::info!("going on from {}: {} primes were found below", state.start, state.count);
        muster::progress(state.start - from, to - from + 1);
    }

    let odd_primes = odd_primes_to(to.isqrt());
    let total = to - from + 1;
    let mut reported = 0;
    let mut composite = Vec::new();
    for segment in 1_u64.. {
        if state.start > to {
            break;
        }
        let end = to.min(state.start + (SEGMENT - 2));
        sieve(state.start, end, &odd_primes, &mut composite);
        state.count += composite.iter().filter(|composite| !**composite).count() as u64;
        if let Some(index) = composite.iter().rposition(|composite| !*composite) {
            state.largest = Some(state.start + 2 * index as u64);
        }
        state.start += SEGMENT;

        let done = end - from + 1;
        let percent = done * 100 / total;
        if percent > reported {
            reported = percent;
            muster::progress(done, total);
        }
        if segment.is_multiple_of(CHECKPOINT_EVERY) && state.start <= to {
            muster::checkpoint(&state);
        }
    }
    if reported < 100 {
        muster::progress(total, total);
    }
    Ok(Found { from, to, count: state.count, largest: state.largest })
}

/// Marks the composites among the odd numbers from `start`, which is odd, to `end`: `composite[i]`
/// stands for `start + 2 * i`. `odd_primes` contains at least the odd primes whose square is not greater
/// than `end`.
fn sieve(start: u64, end: u64, odd_primes: &[u32], composite: &mut Vec<bool>) {
    composite.clear();
    composite.resize(((end - start) / 2 + 1) as usize, false);
    for prime in odd_primes.iter().map(|prime| u64::from(*prime)) {
        let square = prime * prime;
        if square > end {
            break;
        }
        // The first odd multiple that is neither before the segment nor the prime itself. If the
        // multiple found first is even, the next one is odd.
        let multiple = start.next_multiple_of(prime);
        let first =
            square.max(if multiple.is_multiple_of(2) { multiple + prime } else { multiple });
        if first > end {
            continue;
        }
        let index = ((first - start) / 2) as usize;
        for place in composite[index..].iter_mut().step_by(prime as usize) {
            *place = true;
        }
    }
}

/// The odd primes up to `to`, in order.
fn odd_primes_to(to: u64) -> Vec<u32> {
    // The sieve for these primes needs the primes up to their own root, and so on. Roots shrink so fast
    // that the function calls itself five times at most.
    if to < 3 {
        return Vec::new();
    }
    let mut composite = Vec::new();
    sieve(3, to, &odd_primes_to(to.isqrt()), &mut composite);
    let odd = (3..).step_by(2);
    odd.zip(&composite).filter(|(_, composite)| !**composite).map(|(number, _)| number).collect()
}

#[cfg(test)]
mod tests {
    use super::{SEGMENT, primes};
    use muster::testing;

    fn check(input: &str, expected: Result<&str, &str>) {
        let output = testing::run!(primes, input)
            .map(|output| String::from_utf8(output).expect("JSON is text"));
        assert_eq!(output.as_deref().map_err(String::as_str), expected, "{input}");
    }

    #[test]
    fn counts() {
        check(r#"{"to":100}"#, Ok(r#"{"from":1,"to":100,"count":25,"largest":97}"#));
        check(r#"{"from":0,"to":2}"#, Ok(r#"{"from":0,"to":2,"count":1,"largest":2}"#));
        check(r#"{"from":2,"to":3}"#, Ok(r#"{"from":2,"to":3,"count":2,"largest":3}"#));
        check(r#"{"from":0,"to":1}"#, Ok(r#"{"from":0,"to":1,"count":0,"largest":null}"#));
        check(r#"{"from":24,"to":28}"#, Ok(r#"{"from":24,"to":28,"count":0,"largest":null}"#));
        check(
            r#"{"to":10000000}"#,
            Ok(r#"{"from":1,"to":10000000,"count":664579,"largest":9999991}"#),
        );
        check(
            r#"{"from":999999999000,"to":1000000000000}"#,
            Ok(r#"{"from":999999999000,"to":1000000000000,"count":38,"largest":999999999989}"#),
        );
    }

    #[test]
    fn agrees_with_trial_division_wherever_the_range_lies() {
        let is_prime = |number: u64| number > 1 && (2..number).all(|by| !number.is_multiple_of(by));
        for from in 0..40 {
            for to in from..140 {
                let within = (from..=to).filter(|number| is_prime(*number));
                let largest = within.clone().next_back().map_or("null".into(), |n| n.to_string());
                let count = within.count();
                let expected =
                    format!(r#"{{"from":{from},"to":{to},"count":{count},"largest":{largest}}}"#);
                check(&format!(r#"{{"from":{from},"to":{to}}}"#), Ok(&expected));
            }
        }
    }

    #[test]
    fn refuses_what_is_no_range() {
        check(r#"{"from":3,"to":2}"#, Err("the range ends before it starts: from 3 to 2"));
        check(
            r#"{"to":100000000000001}"#,
            Err("the range goes beyond 100000000000000: to 100000000000001"),
        );
        let unknown = testing::run!(primes, r#"{"seconds":3}"#).expect_err("unknown");
        assert!(unknown.contains("unknown field `seconds`"), "{unknown}");
    }

    #[test]
    fn reports_each_percent_once_and_ends_at_the_total() {
        testing::run!(primes, r#"{"from":101,"to":60000100}"#).expect("a range");
        let told = testing::take_progress();
        assert_eq!(told.len(), 100);
        assert_eq!(told.last(), Some(&(60_000_000, 60_000_000)));
        assert!(told.is_sorted_by(|a, b| a.0 < b.0));

        testing::run!(primes, r#"{"from":0,"to":1}"#).expect("a range");
        assert_eq!(testing::take_progress(), [(2, 2)]);
    }

    #[test]
    fn a_killed_attempt_costs_no_more_than_what_came_after_its_last_checkpoint() {
        let range = r#"{"from":2,"to":10000000}"#;
        let whole = testing::run!(primes, range).expect("a range");
        let checkpoints = testing::take_checkpoints().len();
        assert_eq!(checkpoints, 9, "one each two of 20 segments, and none after the last");

        for last in 1..=checkpoints {
            testing::reset();
            let killed = testing::kill_at_checkpoint(last, || testing::run!(primes, range));
            assert_eq!(killed, None);
            let _ = (testing::take_progress(), testing::take_log());
            assert_eq!(testing::run!(primes, range).as_ref(), Ok(&whole));
            // It began where the first attempt was killed.
            let start = 3 + 2 * SEGMENT * last as u64;
            assert!(testing::take_log()[0].1.starts_with(&format!("going on from {start}: ")));
            assert_eq!(testing::take_progress()[0], (start - 2, 9_999_999));
        }
    }
}
