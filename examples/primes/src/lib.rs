//! Counts the primes of a range: JSON in, JSON out, and as long a computation as is asked for. It
//! must never depend on a clock or on chance: the same range gives the same answer everywhere.

use muster::Json;
use serde::{Deserialize, Serialize};

/// The greatest end of a range: its square root, in bytes, is the memory that the sieve needs.
const TO_MAX: u64 = 100_000_000_000_000;

/// Numbers sieved at once. Half as many bytes: they fit in a core's second-level cache.
const SEGMENT: u64 = 512 * 1024;

/// The range to look at, both ends included: `{"from":1,"to":100}`. Either may be left out, and no
/// input at all means both.
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

/// What is found: `{"from":1,"to":100,"count":25,"largest":97}`; without a prime in the range,
/// `largest` is `null`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    from: u64,
    to: u64,
    count: u64,
    largest: Option<u64>,
}

/// Counts the primes of a range, and reports each percent of it.
///
/// # Errors
///
/// When the range ends before it starts, or beyond 10^14.
#[muster::task]
pub fn primes(range: Option<Json<Range>>) -> Result<Json<Found>, String> {
    let Range { from, to } = range.map(|Json(range)| range).unwrap_or_default();
    if from > to {
        return Err(format!("the range ends before it starts: from {from} to {to}"));
    }
    if to > TO_MAX {
        return Err(format!("the range goes beyond {TO_MAX}: to {to}"));
    }
    muster::info!("counting the primes from {from} to {to}");

    let (mut count, mut largest) = (0, None);
    if from <= 2 && 2 <= to {
        // The only even one; the sieve knows odd numbers only.
        (count, largest) = (1, Some(2));
    }
    let odd_primes = odd_primes_to(to.isqrt());
    let total = to - from + 1;
    let mut reported = 0;
    let mut composite = Vec::new();
    let mut start = from.max(3) | 1;
    while start <= to {
        let end = to.min(start + (SEGMENT - 2));
        sieve(start, end, &odd_primes, &mut composite);
        count += composite.iter().filter(|composite| !**composite).count() as u64;
        if let Some(index) = composite.iter().rposition(|composite| !*composite) {
            largest = Some(start + 2 * index as u64);
        }
        start += SEGMENT;

        let done = end - from + 1;
        let percent = done * 100 / total;
        if percent > reported {
            reported = percent;
            muster::progress(done, total);
        }
    }
    if reported < 100 {
        muster::progress(total, total);
    }
    Ok(Json(Found { from, to, count, largest }))
}

/// Marks the composites among the odd numbers from `start`, which is odd, to `end`: `composite[i]`
/// is about `start + 2 * i`. `odd_primes` holds at least those whose square is not beyond `end`.
fn sieve(start: u64, end: u64, odd_primes: &[u32], composite: &mut Vec<bool>) {
    composite.clear();
    composite.resize(((end - start) / 2 + 1) as usize, false);
    for prime in odd_primes.iter().map(|prime| u64::from(*prime)) {
        let square = prime * prime;
        if square > end {
            break;
        }
        // The first odd multiple that is neither before the segment nor the prime itself: an even
        // one is skipped by one prime more.
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
    // The sieve for these needs the primes up to their own root, and so on down: roots shrink so
    // fast that this calls itself five times at most.
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
    use super::primes;

    fn check(input: &str, expected: Result<&str, &str>) {
        let output = muster::testing::run(primes, input)
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
        let unknown = muster::testing::run(primes, r#"{"seconds":3}"#).expect_err("unknown");
        assert!(unknown.contains("unknown field `seconds`"), "{unknown}");
    }

    #[test]
    fn reports_each_percent_once_and_ends_at_the_total() {
        muster::testing::run(primes, r#"{"from":101,"to":60000100}"#).expect("a range");
        let told = muster::testing::take_progress();
        assert_eq!(told.len(), 100);
        assert_eq!(told.last(), Some(&(60_000_000, 60_000_000)));
        assert!(told.is_sorted_by(|a, b| a.0 < b.0));

        muster::testing::run(primes, r#"{"from":0,"to":1}"#).expect("a range");
        assert_eq!(muster::testing::take_progress(), [(2, 2)]);
    }
}
