//! Makes a component from a core module that was built for a WIT world. Never changes a module without a
//! world.

use crate::ModuleRefusal;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::ComponentEncoder;

/// The component form of a [`crate::Kind::SdkCore`] module: its WASI preview 1 imports go through the
/// adapter of the runtime's own release. The same bytes always give the same component, and so one
/// digest. Call [`crate::inspect`] on the result before storing it.
pub fn to_component(core: &[u8]) -> Result<Vec<u8>, ModuleRefusal> {
    ComponentEncoder::default()
        .module(core)
        .and_then(|encoder| {
            encoder.adapter(
                WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
                WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
            )
        })
        .and_then(|encoder| encoder.validate(true).encode())
        .map_err(|error| ModuleRefusal::NotConvertible { message: format!("{error:#}") })
}
