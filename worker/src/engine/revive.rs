//! Makes a program from machine code that was compiled before. This is the only place where bytes
//! become code without being compiled; it never takes any bytes but [`OwnCode`].
//!
//! The runtime trusts such bytes blindly, so whoever can choose them controls the process. The bytes
//! are this worker's own, since there are only two ways to get [`OwnCode`].
//!
//! The first is the code cache. It checked a MAC over the code, the module's digest and the engine's
//! compatibility hash. The key is only in the state directory, and only this user can read it. An
//! attacker who can read that key can replace the worker's executable as well.
//!
//! The second is a child of this process. It ran this same executable, inspected and compiled the
//! module, ended in good order, and wrote to a pipe that no other process had. Its output deserves the
//! same trust as the output of the compiler in this process, which would run that code as well.
//!
//! The bytes are checked and used in the memory of this process, so nobody can exchange them in
//! between, as would be possible with a mapped file.
#![allow(unsafe_code)]

use crate::code::OwnCode;
use wasmtime::{Engine, Module, Result, component::Component};

/// Makes a core module from `code` without its first byte, which the caller has read.
pub(super) fn module(engine: &Engine, code: &OwnCode) -> Result<Module> {
    // SAFETY: see the module's documentation; the runtime also checks its own version and settings.
    unsafe { Module::deserialize(engine, code.bytes().get(1..).unwrap_or_default()) }
}

/// The same for a component.
pub(super) fn component(engine: &Engine, code: &OwnCode) -> Result<Component> {
    // SAFETY: see the module's documentation.
    unsafe { Component::deserialize(engine, code.bytes().get(1..).unwrap_or_default()) }
}
