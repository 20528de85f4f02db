//! Guests that exist only for measurements: `benches/guests/NAME.wat`, core modules as text.
//! Measurements of ordinary programs use the guests of `examples/`. Never a guest that a fleet would
//! refuse.

use anyhow::Context as _;
use muster_tests::{Fleet, fleet::text, hostile, place};
use std::path::PathBuf;

/// A core module that a worker runs as a WASI command.
///
/// # Errors
///
/// The file is missing, or it is not Wasm.
pub fn command(name: &str) -> anyhow::Result<Vec<u8>> {
    let path = place::root().join(format!("benches/guests/{name}.wat"));
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(wat::parse_str(text)?)
}

/// The same as a component of the SDK's world.
///
/// # Errors
///
/// The file is missing, or it does not fit that world.
pub fn task(name: &str) -> anyhow::Result<Vec<u8>> {
    hostile::for_the_world(command(name)?)
}

/// A guest of `examples/`, in the form that a worker runs.
///
/// # Errors
///
/// The guest is not built, or it does not fit the SDK's world.
pub fn example(name: &str) -> anyhow::Result<Vec<u8>> {
    let bytes = std::fs::read(place::guest(name))?;
    let info = muster_module::inspect(&bytes)?;
    Ok(if info.kind.needs_component() { muster_module::to_component(&bytes)? } else { bytes })
}

/// Uploads a module under a name. Returns the path of its file.
///
/// # Errors
///
/// The file cannot be written.
pub fn push(fleet: &Fleet, name: &str, module: &[u8]) -> anyhow::Result<PathBuf> {
    let path = fleet.path(&format!("{name}.wasm"));
    std::fs::write(&path, module)?;
    fleet.run(&["module", "push", text(&path), "--name", name]).ok();
    Ok(path)
}
