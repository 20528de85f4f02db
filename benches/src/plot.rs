//! The table as a picture: how close each value is to its target, or how far beyond it. The SVG is
//! written directly, because it consists only of bars and words. Never a bar for a value without a
//! target.

use crate::{
    measure::Measure,
    table::{number, wanted},
};
use std::fmt::Write as _;

const WIDTH: f64 = 900.0;
const ROW: f64 = 26.0;
/// Where the bars begin and end: at a tenth of the target and at ten times the target.
const LEFT: f64 = 400.0;
const RIGHT: f64 = 760.0;

/// A picture of all values that have a target.
pub fn svg(found: &[Measure]) -> String {
    let aimed: Vec<(&Measure, f64)> =
        found.iter().filter_map(|measure| Some((measure, measure.progress()?))).collect();
    let height = ROW * (aimed.len() as f64 + 2.5);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for (mark, place) in [("÷ 10", 0.1), ("target", 1.0), ("× 10", 10.0)] {
        let (x, bottom) = (at(place), height - ROW);
        let _ = writeln!(
            out,
            "<line x1=\"{x}\" y1=\"{ROW}\" x2=\"{x}\" y2=\"{bottom}\" stroke=\"#bbb\"/>\
             <text x=\"{x}\" y=\"16\" text-anchor=\"middle\" fill=\"#555\">{mark}</text>"
        );
    }
    for (row, (measure, progress)) in aimed.iter().enumerate() {
        bar(&mut out, ROW * (row as f64 + 1.25), measure, *progress);
    }
    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"{}\" fill=\"#555\">further right is better; each step is a factor</text>",
        height - 8.0
    );
    out + "</svg>\n"
}

fn bar(out: &mut String, top: f64, measure: &Measure, progress: f64) {
    let (end, target) = (at(progress), at(1.0));
    let (from, length) = (end.min(target), (end - target).abs().max(1.0));
    let colour = if measure.met == Some(true) { "#2a7" } else { "#c43" };
    let aimed = measure.target.map(|target| wanted(target, &measure.unit)).unwrap_or_default();
    let value = escape(&format!("{} {} ({aimed})", number(measure.value), measure.unit));
    let name = escape(&measure.name);
    let (base, height) = (top + 15.0, ROW - 8.0);
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{name}</text>\
         <rect x=\"{from:.1}\" y=\"{top}\" width=\"{length:.1}\" height=\"{height}\" fill=\"{colour}\"/>\
         <text x=\"{}\" y=\"{base}\" font-size=\"10\" fill=\"#555\">{value}</text>",
        LEFT - 10.0,
        RIGHT + 8.0,
    );
}

/// The place of a share of the target, on a logarithmic scale.
fn at(progress: f64) -> f64 {
    let place = (progress.max(1e-9).log10().clamp(-1.0, 1.0) + 1.0) / 2.0;
    LEFT + (RIGHT - LEFT) * place
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Target;

    #[test]
    fn only_what_has_a_target_is_drawn() {
        let aimed = Measure::new("a<b", 20.0, "ms").aims(Target::AtMost(10.0));
        let other = Measure::new("no target", 1.0, "ms");
        let text = svg(&[aimed, other]);
        assert!(text.contains("a&lt;b") && !text.contains("no target"), "{text}");
        assert_eq!(text.matches("#c43").count(), 1);
        assert!(at(0.5) < at(1.0) && at(1.0) < at(1.5) && at(1e9) == RIGHT);
    }
}
