//! The table for readers. Never a value that was not measured, and no judgement except the target's.

use crate::measure::{Measure, Target};
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

/// The width in characters if no terminal reports its width.
const WIDTH: u16 = 120;

/// All values as one table, limits last.
pub fn table(found: &[Measure]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_none() {
        table.set_width(WIDTH);
    }
    table.set_header(["measure", "seen", "beside it, in the same run", "target", "met"]);
    let (limits, own): (Vec<_>, Vec<_>) = found.iter().partition(|measure| measure.is_limit);
    for measure in own.iter().chain(&limits) {
        table.add_row([
            Cell::new(&measure.name),
            Cell::new(seen(measure)).set_alignment(CellAlignment::Right),
            Cell::new(beside(measure)),
            Cell::new(
                measure.target.map(|target| wanted(target, &measure.unit)).unwrap_or_default(),
            ),
            Cell::new(match measure.met {
                Some(true) => "met",
                Some(false) => "missed",
                None => "",
            }),
        ]);
    }
    table
}

fn seen(measure: &Measure) -> String {
    let value = format!("{} {}", number(measure.value), measure.unit);
    match measure.spread {
        Some((least, most)) if least < most => {
            format!("{value}\n({} to {})", number(least), number(most))
        }
        _ => value,
    }
}

fn beside(measure: &Measure) -> String {
    let ratio =
        measure.ratio.as_ref().map(|ratio| format!("{} of {}", share(ratio.value), ratio.to));
    let note = Some(measure.note.clone()).filter(|note| !note.is_empty());
    ratio.into_iter().chain(note).collect::<Vec<_>>().join("\n")
}

/// The target in words.
pub fn wanted(target: Target, unit: &str) -> String {
    match target {
        Target::AtMost(most) => format!("≤ {} {unit}", number(most)),
        Target::AtLeast(least) => format!("≥ {} {unit}", number(least)),
        Target::RatioAtMost(most) => format!("≤ {}", share(most)),
        Target::RatioAtLeast(least) => format!("≥ {}", share(least)),
    }
}

/// A ratio: in percent up to twice the limit, and as a factor above that.
fn share(ratio: f64) -> String {
    if ratio < 2.0 { format!("{:.0} %", ratio * 100.0) } else { format!("{ratio:.1} ×") }
}

/// Three significant digits, or all digits of a large number with commas between thousands.
pub fn number(value: f64) -> String {
    if value.abs() < 0.995 {
        return format!("{value:.2}");
    }
    if value.abs() < 99.95 {
        return format!("{value:.1}").trim_end_matches(".0").into();
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0.00"),
            (0.5, "0.50"),
            (3.0, "3"),
            (3.25, "3.2"),
            (99.0, "99"),
            (150.4, "150"),
            (15_000.0, "15,000"),
            (1_234_567.0, "1,234,567"),
            (-150.0, "-150"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_row_says_what_was_missed() {
        let limit = Measure::limit("raw", 100.0, "/s");
        let seen = Measure::new("tasks", 30.0, "/s").to(&limit).aims(Target::RatioAtLeast(0.4));
        let text = table(&[seen, limit]).to_string();
        for word in ["tasks", "30 /s", "30 % of raw", "≥ 40 %", "missed"] {
            assert!(text.contains(word), "{word} is missing:\n{text}");
        }
    }
}
