//! Parses and formats durations and sizes for people. Never has a default of its own.

use std::time::Duration;

/// Parses `250ms`, `10s`, `5m`, `2h`, `7d`, or several of them together (`1h30m`); also `1us`, `1ns`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration: write 250ms, 10s, 5m, 2h or 1h30m");
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let (number, unit, after) = part(rest).ok_or_else(wrong)?;
        let seconds = match unit {
            "ns" => 1e-9,
            "us" => 1e-6,
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return Err(wrong()),
        };
        let piece = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        total = total.checked_add(piece).ok_or_else(wrong)?;
        rest = after;
    }
    Ok(total)
}

/// Parses `4096`, `64KiB`, `64MiB`, `1GiB`, and the decimal `kB`, `MB`, `GB`.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size: write 4096, 512KiB, 64MiB or 1GiB");
    let (number, unit, after) = part(text.trim()).ok_or_else(wrong)?;
    if !after.is_empty() {
        return Err(wrong());
    }
    let bytes = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kib" | "k" => 1024.0,
        "mib" | "m" => 1024.0 * 1024.0,
        "gib" | "g" => 1024.0 * 1024.0 * 1024.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        _ => return Err(wrong()),
    };
    let total = number * bytes;
    // Above 2^53 a float is not exact. No size here may come near that.
    if total.fract() != 0.0 || total > 9e15 {
        return Err(wrong());
    }
    Ok(total as u64)
}

/// Splits a number, the letters after it, and the rest.
fn part(text: &str) -> Option<(f64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, after) = rest.split_at(letters);
    number.parse().ok().map(|number| (number, unit, after))
}

/// `1.5 MiB`.
pub fn show_size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if value.fract() == 0.0 { format!("{value} {unit}") } else { format!("{value:.1} {unit}") }
}

/// Only the largest unit: `340ms`, `12s`, `5m`, `3h`, `2d`.
pub fn show_duration(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{}ms", duration.as_millis()),
        seconds @ 1..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// The resolution of a clock: `1ns`, `2.5us`, `1ms`.
pub fn show_clock(nanos: u64) -> String {
    match nanos {
        0..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}us", nanos as f64 / 1e3),
        _ => format!("{}ms", nanos as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("250ms", 250),
            ("10s", 10_000),
            ("1.5s", 1_500),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
            (" 1s ", 1_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text:?}");
        }
        for text in ["", "10", "s", "10 s", "-1s", "1w", "1s1", "1e400s", "9999999999999999999999d"]
        {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn short_durations() {
        for (text, nanos) in [("1ns", 1), ("1us", 1_000), ("2.5us", 2_500), ("1ms", 1_000_000)] {
            assert_eq!(duration(text), Ok(Duration::from_nanos(nanos)), "{text:?}");
            assert_eq!(show_clock(nanos), text);
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64MiB", 64 << 20),
            ("64mib", 64 << 20),
            ("1GiB", 1 << 30),
            ("1.5KiB", 1536),
            ("2MB", 2_000_000),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text:?}");
        }
        for text in ["", "MiB", "-1", "0.3", "1TiBB", "64 MiB extra", "99999999GiB"] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn quantities_are_shown_short() {
        assert_eq!(show_size(17), "17 B");
        assert_eq!(show_size(64 << 20), "64 MiB");
        assert_eq!(show_size(1_500_000), "1.4 MiB");
        assert_eq!(show_duration(Duration::from_millis(340)), "340ms");
        assert_eq!(show_duration(Duration::from_secs(90)), "90s");
        assert_eq!(show_duration(Duration::from_secs(3 * 86_400)), "3d");
    }
}
