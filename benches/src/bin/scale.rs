//! The rows of [`muster_benches::scale`] alone, as lines. Never needs a fleet.

fn main() -> anyhow::Result<()> {
    for row in muster_benches::scale::run()? {
        let grown = row.ratio.map(|ratio| format!("{:>6.2} of the fewest", ratio.value));
        println!(
            "{:<64} {:>9.0} {:<3} {}",
            row.name,
            row.value,
            row.unit,
            grown.unwrap_or_default()
        );
    }
    Ok(())
}
