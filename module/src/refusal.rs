//! Why a file is not taken, in sentences that say what to do next. Never a reason to retry: the
//! same bytes are refused again.

/// Why some bytes cannot be run here. Nothing was stored or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModuleRefusal {
    /// Neither a Wasm module nor a component.
    #[error(
        "not a Wasm file: it begins with {begins}; compile the task to wasm32-wasip1 (or wasm32-wasip2) and push the resulting .wasm"
    )]
    NotWasm {
        /// Its first bytes, printable.
        begins: String,
    },
    /// The text form of Wasm.
    #[error("this is Wasm text; turn it into a binary with `wat2wasm` or `wasm-tools parse` first")]
    Text,
    /// Machine code, as `wasmtime compile` writes it or a native linker.
    #[error(
        "this is native machine code, not Wasm: precompiled modules are never accepted, because nothing could check them; push the .wasm it was made from"
    )]
    Precompiled,
    /// The validator's verdict.
    #[error(
        "not valid Wasm, or it needs a proposal that is not enabled: {message} (at offset {offset:#x}); compile for wasm32-wasip1 without extra target features"
    )]
    Invalid {
        /// What the validator says.
        message: String,
        /// Where, in bytes from the beginning.
        offset: usize,
    },
    /// More of something than any honest guest has been seen to need.
    #[error("the module has {count} {what}, the limit is {max}; strip it or split the task")]
    OverLimit {
        /// Of what, in the plural.
        what: &'static str,
        /// How many.
        count: u64,
        /// How many are allowed.
        max: u64,
    },
    /// It asks its host for a function or interface that no worker has.
    #[error("unknown import `{name}`: {hint}")]
    UnknownImport {
        /// `module.field`, or the name of the interface.
        name: String,
        /// What is known, or where such imports come from.
        hint: String,
    },
    /// A core module that wants to be given a memory, table, global or tag.
    #[error(
        "the import `{name}` is a {what}, and a worker gives a module functions only; link it without importing its {what} (clang and rustc do so by default)"
    )]
    ImportedState {
        /// `module.field`.
        name: String,
        /// `memory`, `table`, `global` or `tag`.
        what: &'static str,
    },
    /// Nothing that could be called to run it.
    #[error("nothing to run: {hint}")]
    NoEntry {
        /// What was looked for, and what it exports instead.
        hint: String,
    },
    /// The export that would be called has another type.
    #[error("the export `{name}` must be {expected}")]
    WrongEntry {
        /// The export.
        name: &'static str,
        /// The type it must have.
        expected: &'static str,
    },
    /// A core module built for a WIT world that could not be made a component.
    #[error(
        "the module could not be made a component: {message}; build it with the SDK's current version"
    )]
    NotConvertible {
        /// What the encoder says.
        message: String,
    },
}

impl From<wasmparser::Error> for ModuleRefusal {
    fn from(error: wasmparser::Error) -> Self {
        ModuleRefusal::Invalid { message: error.message().into(), offset: error.offset() }
    }
}

/// Refuses what is not even meant to be a Wasm binary, each by its name.
pub(crate) fn recognise(bytes: &[u8]) -> Result<(), ModuleRefusal> {
    if bytes.starts_with(b"\0asm") {
        return Ok(());
    }
    if bytes.starts_with(b"\x7fELF") {
        return Err(ModuleRefusal::Precompiled);
    }
    let text = bytes.trim_ascii_start();
    if [b"(module".as_slice(), b"(component", b";;", b"(;"].iter().any(|t| text.starts_with(t)) {
        return Err(ModuleRefusal::Text);
    }
    let begins = match bytes {
        [] => "nothing: it is empty".into(),
        _ => format!("\"{}\"", bytes[..bytes.len().min(8)].escape_ascii()),
    };
    Err(ModuleRefusal::NotWasm { begins })
}
