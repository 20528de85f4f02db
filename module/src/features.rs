//! Which Wasm guests may be made of. Never more than the worker's engine enables.

use wasmparser::WasmFeatures;

/// The Wasm proposals that guests may use: Wasm 2.0, extended constant expressions (LLVM emits
/// them for position-independent data, as Python's shared libraries have it) and components.
///
/// Every other proposal is code in the compiler that most guests do not need and that has had
/// most of the miscompilations. `GC_TYPES` is what the validator calls `externref`, which needs
/// a collector. The worker's engine enables exactly this set, so that a module that passes here
/// is not refused there.
pub fn features() -> WasmFeatures {
    let mut features = WasmFeatures::WASM2;
    features.insert(WasmFeatures::EXTENDED_CONST | WasmFeatures::COMPONENT_MODEL);
    features.remove(WasmFeatures::GC_TYPES);
    features
}
