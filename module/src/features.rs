//! The Wasm proposals that guests may use. Never more than the worker's engine enables.

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
