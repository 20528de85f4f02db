//! The result of a check as a monitoring plugin prints it: one line of text and figures, then the details. Follows the
//! Monitoring Plugins Development Guidelines. Never decides what is unwell.

use super::{Figure, Finding, Health};
use crate::output;

/// Prints the findings.
pub fn print(findings: &[Finding]) -> anyhow::Result<()> {
    for line in lines(findings) {
        output::line(&line)?;
    }
    Ok(())
}

fn lines(findings: &[Finding]) -> Vec<String> {
    let worst = findings.iter().map(|finding| finding.health).max().unwrap_or(Health::Fail);
    let told = |finding: &&Finding| finding.health == worst && worst != Health::Ok;
    let mut told: Vec<String> = findings.iter().filter(told).map(about).collect();
    if told.is_empty() {
        told.push(format!("{} checks passed", findings.len()));
    }
    let figures = findings
        .iter()
        .flat_map(|finding| finding.figures.iter().map(|figure| perfdata(&finding.about, figure)));
    let figures: Vec<String> = figures.collect();
    let bar = if figures.is_empty() { "" } else { " | " };
    let first = format!("MUSTER {} - {}{bar}{}", word(worst), told.join("; "), figures.join(" "));
    let others = findings.iter().map(|finding| {
        format!(
            "{}: {}",
            finding.health.word(),
            plain(&format!("{}: {}", finding.about, finding.text()))
        )
    });
    std::iter::once(first).chain(others).collect()
}

fn word(health: Health) -> &'static str {
    match health {
        Health::Ok => "OK",
        Health::Warn => "WARNING",
        Health::Fail => "CRITICAL",
    }
}

fn about(finding: &Finding) -> String {
    plain(&format!("{}: {}", finding.about, finding.detail))
}

/// A text without the bar that begins the figures.
fn plain(text: &str) -> String {
    text.replace('|', "/")
}

/// A figure as `'label'=value[unit];warn;critical;least`. A bound on what may be too small has a colon.
fn perfdata(about: &str, figure: &Figure) -> String {
    let bound = |bound: Option<u64>| {
        let colon = if figure.is_bad_below { ":" } else { "" };
        bound.map_or(String::new(), |bound| format!("{bound}{colon}"))
    };
    let Figure { name, value, unit, warn, fail, .. } = figure;
    let label = format!("{about} {name}").replace(['\'', '='], "_");
    format!("'{}'={value}{unit};{};{};0", plain(&label), bound(*warn), bound(*fail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::thresholds::Threshold;

    #[test]
    fn the_first_line_has_the_worst_news_and_the_figures() {
        let live = Threshold { warn: 2, fail: Some(1) };
        let waited = Threshold { warn: 60, fail: None };
        let findings = [
            Finding::ok("nats", "it | runs"),
            Finding::warn("group shops", "1 live").figure(Figure::new("live", 1).bad_below(&live)),
            Finding::ok("queue shops", "2 wait")
                .figure(Figure::new("waited", 5).seconds().bad_above(&waited)),
        ];
        let first = "MUSTER WARNING - group shops: 1 live | \
                     'group shops live'=1;2:;1:;0 'queue shops waited'=5s;60;;0";
        let expected =
            [first, "ok: nats: it / runs", "warn: group shops: 1 live", "ok: queue shops: 2 wait"];
        assert_eq!(lines(&findings), expected);
        assert_eq!(lines(&findings[..1])[0], "MUSTER OK - 1 checks passed");
        assert_eq!(lines(&[])[0], "MUSTER CRITICAL - 0 checks passed");
    }
}
