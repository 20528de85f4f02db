//! Guests that exist for measuring alone: `benches/guests/NAME.wat`, core modules in text. What is
//! measured with an ordinary program takes one of `examples/`. Never a guest that a fleet would refuse.

use anyhow::Context as _;
use muster_tests::{Fleet, fleet::text, hostile, place};
use std::path::PathBuf;

/// A core module, as a worker runs it: a WASI command.
///
/// # Errors
///
/// There is no such file, or it is not Wasm.
pub fn command(name: &str) -> anyhow::Result<Vec<u8>> {
    let path = place::root().join(format!("benches/guests/{name}.wat"));
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(wat::parse_str(text)?)
}

/// The same as a component of the SDK's world.
///
/// # Errors
///
/// There is no such file, or it does not fit to that world.
pub fn task(name: &str) -> anyhow::Result<Vec<u8>> {
    hostile::for_the_world(command(name)?)
}

/// A guest of `examples/`, as a worker runs it.
///
/// # Errors
///
/// It is not built, or it does not fit to the SDK's world.
pub fn example(name: &str) -> anyhow::Result<Vec<u8>> {
    let bytes = std::fs::read(place::guest(name))?;
    let info = muster_module::inspect(&bytes)?;
    Ok(if info.kind.needs_component() { muster_module::to_component(&bytes)? } else { bytes })
}

/// Uploads a module under a name; where its file is.
///
/// # Errors
///
/// It cannot be written down.
pub fn push(fleet: &Fleet, name: &str, module: &[u8]) -> anyhow::Result<PathBuf> {
    let path = fleet.path(&format!("{name}.wasm"));
    std::fs::write(&path, module)?;
    fleet.run(&["module", "push", text(&path), "--name", name]).ok();
    Ok(path)
}
