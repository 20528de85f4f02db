//! A task that does nothing, for measuring what the fleet itself costs. It must never import
//! anything, WASI included, nor link the standard library: then there is nothing to set up.

#![cfg_attr(target_family = "wasm", no_std)]

/// The entry of a WASI command, written by hand: the standard library's would set up arguments and
/// an exit code first.
#[cfg(target_family = "wasm")]
#[allow(unsafe_code)] // The name is the one a worker looks for, and nothing else here has it.
#[unsafe(no_mangle)]
pub extern "C" fn _start() {}

#[cfg(target_family = "wasm")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
