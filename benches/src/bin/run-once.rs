//! Does what `wasmtime run` does with a command, and nothing else: an engine with default settings, the
//! module compiled, WASI with the process's own streams, one run, exit. Never a second module.

use wasmtime::{Engine, Linker, Module, Store};
use wasmtime_wasi::{
    I32Exit, WasiCtx,
    p1::{self, WasiP1Ctx},
};

fn main() -> wasmtime::Result<()> {
    let path = std::env::args_os().nth(1).ok_or_else(|| wasmtime::Error::msg("which module?"))?;
    let engine = Engine::default();
    let module = Module::from_file(&engine, path)?;
    let mut linker = Linker::new(&engine);
    p1::add_to_linker_sync(&mut linker, |wasi: &mut WasiP1Ctx| wasi)?;
    let wasi = WasiCtx::builder().inherit_stdio().inherit_args().build_p1();
    let mut store = Store::new(&engine, wasi);
    let instance = linker.instantiate(&mut store, &module)?;
    let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
    match start.call(&mut store, ()) {
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(code)) => std::process::exit(*code),
            None => Err(error),
        },
        Ok(()) => Ok(()),
    }
}
