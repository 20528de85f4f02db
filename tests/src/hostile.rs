//! The hostile guests of `tests/hostile/`. Each is a file with a description, the way in which it must
//! end, and its text. Never a guest whose end is not stated.
//!
//! A file begins with a sentence on what the guest does, and lines of the form `;; name: value`:
//!
//! - `in`: the kind of its text. `command` and `task` are put into a frame of `tests/hostile/frame`.
//!   `world` is a whole module for the SDK's world. `module` is any whole module or component. `bytes`
//!   are in hexadecimal. `{each N: TEXT}` is TEXT, N times.
//! - `ends`: the name of the verdict, and words that its message must contain.
//! - `limits`, `grants`: JSON that is added to the defaults of all guests here.
//! - `dropped: log`: a part of the guest's log must have been dropped.

mod fleet;

pub use fleet::HostileFleet;

use anyhow::{Context as _, bail};
use muster_protocol::{grant::Grants, limit, task::Limits};
use std::{collections::BTreeMap, path::Path};

/// The default limits of guests: low, so that the corpus runs quickly.
fn limits() -> Limits {
    Limits {
        timeout_ms: 300,
        memory_bytes: 16 << 20,
        output_bytes: 64 << 10,
        log_bytes: limit::LOG_BYTES_DEFAULT,
        ..Limits::default()
    }
}

/// One hostile guest.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The name of its file, without the ending.
    pub name: String,
    /// Its bytes, as they are uploaded.
    pub bytes: Vec<u8>,
    /// The name of the verdict.
    pub ends: String,
    /// Words that the verdict's message must contain.
    pub says: String,
    /// The limits of its task.
    pub limits: Limits,
    /// The grants of its task.
    pub grants: Grants,
    /// Whether a part of its log must have been dropped.
    pub drops_log: bool,
}

/// All guests of a directory, by name, or only those whose names contain `only`.
///
/// # Errors
///
/// The file that cannot be read, and the reason.
pub fn corpus(dir: &Path, only: &str) -> anyhow::Result<Vec<Guest>> {
    let mut guests = Vec::new();
    for entry in
        std::fs::read_dir(dir).with_context(|| format!("no corpus in {}", dir.display()))?
    {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        if path.extension().is_some_and(|ending| ending == "wat") && name.contains(only) {
            let text = std::fs::read_to_string(&path)?;
            guests.push(guest(dir, name, &text).with_context(|| path.display().to_string())?);
        }
    }
    guests.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(guests)
}

fn guest(dir: &Path, name: &str, text: &str) -> anyhow::Result<Guest> {
    let head = text.lines().take_while(|line| line.starts_with(";;"));
    let said: BTreeMap<&str, &str> =
        head.filter_map(|line| line.trim_start_matches(";;").trim().split_once(": ")).collect();
    let ends = said.get("ends").context("it does not say how it ends")?;
    let (ends, says) = ends.split_once(' ').unwrap_or((ends, ""));
    let json = |name: &str| *said.get(name).unwrap_or(&"{}");
    let mut limits = serde_json::to_value(limits())?;
    let given: BTreeMap<String, serde_json::Value> = serde_json::from_str(json("limits"))?;
    for (limit, value) in given {
        limits[limit] = value;
    }
    let body: String =
        text.lines().skip_while(|line| line.starts_with(";;")).collect::<Vec<_>>().join("\n");
    let kind = said.get("in").context("it does not say what it is")?;
    Ok(Guest {
        name: name.into(),
        bytes: bytes(dir, kind, &expand(&body)?)?,
        ends: ends.into(),
        says: says.into(),
        limits: serde_json::from_value(limits)?,
        grants: serde_json::from_str(json("grants"))?,
        drops_log: said.get("dropped") == Some(&"log"),
    })
}

fn bytes(dir: &Path, kind: &str, body: &str) -> anyhow::Result<Vec<u8>> {
    let framed = || -> anyhow::Result<String> {
        let frame = std::fs::read_to_string(dir.join(format!("frame/{kind}.wat")))?;
        Ok(frame.replace("{body}", body))
    };
    Ok(match kind {
        "command" => wat::parse_str(framed()?)?,
        "task" => for_the_world(wat::parse_str(framed()?)?)?,
        "world" => for_the_world(wat::parse_str(body)?)?,
        "module" => wat::parse_str(body)?,
        "bytes" => body
            .split_whitespace()
            .map(|byte| Ok(u8::from_str_radix(byte, 16)?))
            .collect::<anyhow::Result<_>>()?,
        other => bail!("there is no kind {other}"),
    })
}

/// Makes a component of the SDK's world from a core module.
///
/// # Errors
///
/// When the module does not fit that world.
pub fn for_the_world(mut core: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_path(crate::place::root().join("guest-sdk/wit"))?;
    let world = resolve.select_world(&[package], Some("task"))?;
    let encoding = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut core, &resolve, world, encoding)?;
    Ok(muster_module::to_component(&core)?)
}

/// Expands every `{each N: TEXT}` in a text, the innermost first.
fn expand(text: &str) -> anyhow::Result<String> {
    let mut text = text.to_string();
    while let Some(at) = text.rfind("{each ") {
        let (before, inner) = text.split_at(at);
        let inner = inner.trim_start_matches("{each ");
        let (count, inner) = inner.split_once(": ").context("{each N: TEXT}")?;
        let (each, after) = inner.split_once('}').context("{each N: TEXT}")?;
        let all = format!("{each} ").repeat(count.parse()?);
        text = format!("{before}{all}{after}");
    }
    Ok(text)
}
