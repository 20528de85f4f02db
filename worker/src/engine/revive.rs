//! Machine code that was compiled before, made a program again. The only place where bytes become
//! code without being compiled: never any but [`OwnCode`].
//!
//! The runtime trusts such bytes blindly, so that whoever may choose them owns the process. They
//! are this worker's own: [`OwnCode`] can only be had in two ways. From the code cache, which checked
//! a MAC over the code, the module's digest and the engine's compatibility hash, under a key that is
//! in the state directory alone, readable by this user alone. Who can read that key can as well
//! replace the worker's executable. Or from a child of this process that ran this same executable,
//! inspected and compiled the module, ended in good order, and wrote to a pipe that it alone had: its
//! word is worth what the compiler's would be in this process, which would run its code as well. The
//! bytes are in this process' own memory, checked and used there: nobody can exchange them in
//! between, as one could those of a file that is mapped.
#![allow(unsafe_code)]

use crate::code::OwnCode;
use wasmtime::{Engine, Module, Result, component::Component};

/// `code` without its first byte, which the caller has read.
pub(super) fn module(engine: &Engine, code: &OwnCode) -> Result<Module> {
    // SAFETY: see above; the runtime checks its own version and settings besides.
    unsafe { Module::deserialize(engine, code.bytes().get(1..).unwrap_or_default()) }
}

/// The same for a component.
pub(super) fn component(engine: &Engine, code: &OwnCode) -> Result<Component> {
    // SAFETY: see above.
    unsafe { Component::deserialize(engine, code.bytes().get(1..).unwrap_or_default()) }
}
