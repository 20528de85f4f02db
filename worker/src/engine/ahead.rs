//! Compiles in a process that has no other purpose. Never runs or links the code, and reserves no
//! addresses for runs, since the process may use only few.

use super::{Shape, code_config, inspect, not_here};
use crate::shortage;
use rustix::io::Errno;

/// Why there is no code.
pub(crate) enum Unmade {
    /// The module cannot be run; the text is a sentence that says why.
    Rejected(String),
    /// The compiler ran out of memory.
    Memory,
    /// One allocation of the compiler failed although some memory was left: it was larger than the rest
    /// of the limit, or the host has no more memory.
    MemoryOrHost(String),
    /// Nothing is known about the module: the host lacks something, or no engine could be made.
    Host(String),
}

/// The compiled form of a module, in the form of [`super::Program::code`].
pub(crate) fn compile_ahead(wasm: &[u8]) -> Result<Vec<u8>, Unmade> {
    let failed = |error: wasmtime::Error| match error.is::<wasmtime::OutOfMemory>() {
        true => Unmade::Memory,
        false => match shortage::behind(&error) {
            Some((Errno::NOMEM, why)) => Unmade::MemoryOrHost(why),
            Some((_, why)) => Unmade::Host(why),
            None => Unmade::Rejected(not_here(&error)),
        },
    };
    let (_, shape) = inspect(wasm).map_err(Unmade::Rejected)?;
    let engine = wasmtime::Engine::new(&code_config()).map_err(|error| match failed(error) {
        Unmade::Rejected(why) => Unmade::Host(why),
        other => other,
    })?;
    let code = match shape {
        Shape::Core => engine.precompile_module(wasm),
        Shape::Component(_) => engine.precompile_component(wasm),
    };
    let mut code = code.map_err(failed)?;
    code.insert(0, shape.first_byte());
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::super::*;

    #[test]
    fn what_is_made_here_fits_the_engine_that_runs_it() {
        let hash = |config: &Config| {
            let mut hasher = DefaultHasher::new();
            let engine = wasmtime::Engine::new(config).expect("an engine");
            engine.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        assert_eq!(hash(&code_config()), hash(&config(1)));
        let mut other = code_config();
        other.epoch_interruption(false);
        assert_ne!(hash(&other), hash(&config(1)), "the test can fail");
    }

    #[test]
    fn it_is_what_the_engine_itself_would_make() {
        let wasm = wat::parse_str(r#"(module (func (export "_start")))"#).expect("Wasm text");
        let Ok(ahead) = compile_ahead(&wasm) else { panic!("it compiles") };
        let program = Engine::new(1).expect("an engine").compile(&wasm).expect("it compiles");
        assert!(ahead == program.code().expect("it serializes"));
        let refused = compile_ahead(b"\x7fELF").err();
        assert!(matches!(refused, Some(Unmade::Rejected(why)) if why.contains("never accepted")));
    }
}
