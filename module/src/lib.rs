//! Inspects Wasm files: bytes in, facts or a refusal out.
//!
//! Never compiles or runs a module, and never reads a file or a clock: client, master and worker ask the
//! same questions about the same bytes and must get the same answers.

mod convert;
mod entry;
mod known;
mod needs;
mod refusal;
mod scan;

pub use convert::to_component;
pub use known::{PREVIEW1_FUNCTIONS, PREVIEW1_MODULE, SDK_INTERFACES, WASI_INTERFACES};
pub use needs::Need;
pub use refusal::ModuleRefusal;
pub use scan::{FUNCTION_SIZE_MAX, FUNCTIONS_MAX, IMPORTS_MAX, TYPES_MAX};

use muster_protocol::{Digest, limit};
use sha2::Digest as _;
use wasmparser::WasmFeatures;

/// The Wasm proposals that guests may use: Wasm 2.0, extended constant expressions (LLVM emits
/// them for position-independent data, as Python's shared libraries have it) and components.
///
/// Every other proposal is compiler code that most guests do not need and that has had most of the
/// miscompilations. `GC_TYPES` is the validator's name for `externref`, which needs a collector. The
/// worker's engine enables exactly this set, so that it refuses no module that passes here.
pub fn features() -> WasmFeatures {
    let mut features = WasmFeatures::WASM2;
    features.insert(WasmFeatures::EXTENDED_CONST | WasmFeatures::COMPONENT_MODEL);
    features.remove(WasmFeatures::GC_TYPES);
    features
}

/// How a Wasm file is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A core module that exports `_start`, as `wasm32-wasip1` programs do. Standard input is the task's
    /// input, standard output its output, and the exit code decides the outcome.
    Command,
    /// A component.
    Component {
        /// What it exports.
        world: World,
    },
    /// A core module built against the SDK or another WIT world: it cannot run before
    /// [`to_component`] has made it a component.
    SdkCore,
}

impl Kind {
    /// Whether it cannot run before [`to_component`] has made it a component.
    pub fn needs_component(self) -> bool {
        self == Kind::SdkCore
    }
}

/// `module` or `component`, as listings show it.
impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Command | Kind::SdkCore => "module",
            Kind::Component { .. } => "component",
        })
    }
}

/// The entry point that a component exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// `wasi:cli/run`: a program, treated like [`Kind::Command`].
    CommandRun,
    /// `run: func(list<u8>) -> result<list<u8>, string>`, as in the SDK's world `muster:task`.
    Task,
}

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
