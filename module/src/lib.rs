//! Inspects Wasm files: bytes in, facts or a refusal out. Signs them, and verifies signatures.
//!
//! Never compiles or runs a module, and never reads a file or a clock: client, master and worker ask the
//! same questions about the same bytes and must get the same answers.

mod convert;
mod entry;
mod features;
mod kind;
mod known;
mod needs;
mod refusal;
mod scan;
pub mod signing;

pub use convert::to_component;
pub use features::features;
pub use kind::{Kind, World};
pub use known::{PREVIEW1_FUNCTIONS, PREVIEW1_MODULE, SDK_INTERFACES, WASI_INTERFACES};
pub use needs::Need;
pub use refusal::ModuleRefusal;
pub use scan::{FUNCTION_SIZE_MAX, FUNCTIONS_MAX, IMPORTS_MAX, TYPES_MAX};

use muster_protocol::{Digest, limit};
use sha2::Digest as _;

/// Facts about a Wasm file that can be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleInfo {
    /// How it is run.
    pub kind: Kind,
    /// Its imports, in the file's order: `module.field` for core modules, interface names with versions
    /// for components.
    pub imports: Vec<String>,
    /// The grants that a task with this module may need.
    pub needs: Vec<Need>,
    /// Its exports, in the file's order.
    pub exports: Vec<String>,
    /// Its length in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub digest: Digest,
}

/// Inspects `bytes`: the facts about them, or why they cannot be run here. Validates every function, so
/// that workers get only valid modules. That takes tens of milliseconds per megabyte.
pub fn inspect(bytes: &[u8]) -> Result<ModuleInfo, ModuleRefusal> {
    let size = bytes.len() as u64;
    if size > limit::MODULE_SIZE_MAX {
        let max = limit::MODULE_SIZE_MAX;
        return Err(ModuleRefusal::OverLimit { what: "bytes", count: size, max });
    }
    refusal::recognise(bytes)?;
    let scan = scan::scan(bytes)?;
    let kind = entry::kind(&scan)?;
    Ok(ModuleInfo {
        kind,
        needs: needs::needs(&scan),
        imports: scan.imports,
        exports: scan.exports,
        size,
        digest: digest(bytes),
    })
}

/// The SHA-256 of bytes, which names them everywhere in a fleet.
pub fn digest(bytes: &[u8]) -> Digest {
    Digest(sha2::Sha256::digest(bytes).into())
}

#[cfg(test)]
mod tests;
