//! Why a file is refused, in sentences that say what to do next. Never a reason to retry: the same bytes
//! are refused again.

/// Why bytes cannot be run here. Nothing was stored or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModuleRefusal {
    /// The bytes are neither a Wasm module nor a component.
    #[error(
        "not a Wasm file: it begins with {begins}; compile the task to wasm32-wasip1 (or wasm32-wasip2) and push the resulting .wasm"
    )]
    NotWasm {
        /// Its first bytes, printable.
        begins: String,
    },
    /// The bytes are the text form of Wasm.
    #[error("this is Wasm text; turn it into a binary with `wat2wasm` or `wasm-tools parse` first")]
    Text,
    /// The bytes are machine code, from `wasmtime compile` or a native linker.
    #[error(
        "this is native machine code, not Wasm: precompiled modules are never accepted, because nothing could check them; push the .wasm it was made from"
    )]
    Precompiled,
    /// The validator refused the bytes.
    #[error(
        "not valid Wasm, or it needs a proposal that is not enabled: {message} (at offset {offset:#x}); compile for wasm32-wasip1 without extra target features"
    )]
    Invalid {
        /// The validator's message.
        message: String,
        /// The byte offset of the error, from the beginning.
        offset: usize,
    },
    /// A count is above its limit, which is more than any honest guest has been seen to need.
    #[error("the module has {count} {what}, the limit is {max}; strip it or split the task")]
    OverLimit {
        /// What was counted, in the plural.
        what: &'static str,
        /// The count.
        count: u64,
        /// The limit.
        max: u64,
    },
    /// The module imports a function or interface that no worker provides.
    #[error("unknown import `{name}`: {hint}")]
    UnknownImport {
        /// `module.field`, or the name of the interface.
        name: String,
        /// The imports that are allowed, or the origin of this one.
        hint: String,
    },
    /// A core module imports a memory, table, global or tag.
    #[error(
        "the import `{name}` is a {what}, and a worker gives a module functions only; link it without importing its {what} (clang and rustc do so by default)"
    )]
    ImportedState {
        /// `module.field`.
        name: String,
        /// `memory`, `table`, `global` or `tag`.
        what: &'static str,
    },
    /// The file exports nothing that can be called to run it.
    #[error("nothing to run: {hint}")]
    NoEntry {
        /// The export that was expected, and those that were found.
        hint: String,
    },
    /// The entry point has the wrong type.
    #[error("the export `{name}` must be {expected}")]
    WrongEntry {
        /// The name of the export.
        name: &'static str,
        /// The type it must have.
        expected: &'static str,
    },
    /// A core module built for a WIT world could not be made a component.
    #[error(
        "the module could not be made a component: {message}; build it with the SDK's current version"
    )]
    NotConvertible {
        /// The encoder's error.
        message: String,
    },
}

impl From<wasmparser::Error> for ModuleRefusal {
    fn from(error: wasmparser::Error) -> Self {
        ModuleRefusal::Invalid { message: error.message().into(), offset: error.offset() }
    }
}

/// Refuses bytes that are not a Wasm binary at all, with the kind of file that they seem to be.
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
