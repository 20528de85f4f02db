//! Tests that the engine and the crate that inspects modules agree. Never tests how a guest behaves.

use super::*;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};

fn runtime() -> wasmtime::Engine {
    wasmtime::Engine::new(&config(1)).expect("an engine")
}

fn binary(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("Wasm text")
}

#[test]
fn engine_and_inspection_enable_the_same_proposals() {
    let runtime = runtime();
    for item in [
        "(func (result v128) v128.const i64x2 0 0)",
        "(func (result i32 i32) i32.const 1 i32.const 2)",
        "(func (param f32) (result i32) local.get 0 i32.trunc_sat_f32_s)",
        "(func (param i32) (result i32) local.get 0 i32.extend8_s)",
        "(memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 9)))",
        "(global (mut i32) (i32.add (i32.const 1) (i32.const 2)))",
        "(table 1 funcref) (table 1 funcref)",
        "(memory 1) (memory 1)",
        "(memory i64 1)",
        "(memory 1 1 shared)",
        "(memory 1 (pagesize 1))",
        "(func $f return_call $f)",
        "(tag)",
        "(type (struct))",
        "(func (param externref))",
        "(func (param (ref func)))",
        "(func (param v128 v128) local.get 0 local.get 1 i8x16.relaxed_swizzle drop)",
        "(func (param i64 i64) local.get 0 local.get 1 i64.mul_wide_s drop drop)",
    ] {
        let wasm = binary(&format!(r#"(module {item} (func (export "_start")))"#));
        let inspected = muster_module::inspect(&wasm);
        let validated = Module::validate(&runtime, &wasm);
        assert_eq!(inspected.is_ok(), validated.is_ok(), "{item}: {inspected:?}, {validated:?}");
    }
}

#[test]
fn every_function_of_preview1_that_inspection_knows_is_linked() {
    let runtime = runtime();
    let linker = core_linker(&runtime).expect("a linker");
    // None of these functions has the type `func ()`, so a linked one yields an error about its type.
    let error = |function: &str| {
        let import = format!(r#"(module (import "wasi_snapshot_preview1" "{function}" (func)))"#);
        let module = Module::new(&runtime, binary(&import)).expect("a module");
        format!("{:#}", linker.instantiate_pre(&module).err().expect("cannot be linked"))
    };
    for function in muster_module::PREVIEW1_FUNCTIONS {
        let error = error(function);
        assert!(error.contains("incompatible import type"), "{function}: {error}");
    }
    assert!(error("fd_frob").contains("unknown import"));
}

#[test]
fn programs_that_use_all_of_preview1_run_as_components_too() {
    let imports: String = [
        ("fd_read", "(param i32 i32 i32 i32) (result i32)"),
        ("fd_write", "(param i32 i32 i32 i32) (result i32)"),
        ("environ_get", "(param i32 i32) (result i32)"),
        ("args_get", "(param i32 i32) (result i32)"),
        ("clock_time_get", "(param i32 i64 i32) (result i32)"),
        ("random_get", "(param i32 i32) (result i32)"),
        ("poll_oneoff", "(param i32 i32 i32 i32) (result i32)"),
        ("path_open", "(param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)"),
        ("proc_exit", "(param i32)"),
    ]
    .iter()
    .map(|(name, ty)| format!(r#"(import "wasi_snapshot_preview1" "{name}" (func {ty}))"#))
    .collect();
    let core = binary(&format!(
        r#"(module {imports} (memory (export "memory") 1) (func (export "_start")))"#
    ));
    let component = wit_component::ComponentEncoder::default()
        .module(&core)
        .and_then(|encoder| {
            encoder.adapter(
                WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
                WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
            )
        })
        .and_then(|mut encoder| encoder.encode())
        .expect("a component");
    let info = muster_module::inspect(&component).expect("a program");
    assert!(info.imports.len() > 10, "{:?}", info.imports);
    let program = Engine::new(1).expect("an engine").compile(&component).expect("links");
    assert!(matches!(program.entry(), Entry::Program(_)));
    assert!(program.code_size() > 0 && program.digest() == info.digest);
}

#[test]
fn interfaces_that_no_adapter_imports_are_linked() {
    let engine = Engine::new(1).expect("an engine");
    let links = |name: &str, export: &str| {
        let text = format!(r#"(component (import "{name}" (instance (export {export}))))"#);
        let component = Component::new(engine.wasm(), binary(&text)).expect("a component");
        engine.0.components.instantiate_pre(&component).is_ok()
    };
    let random = r#""get-insecure-random-u64" (func (result u64))"#;
    assert!(links("wasi:random/insecure@0.2.0", random));
    assert!(links("wasi:random/insecure@0.2.9", random), "any version of the track");
    assert!(!links("wasi:random/unheard@0.2.0", random), "the test can fail");
    let seed = r#""insecure-seed" (func (result (tuple u64 u64)))"#;
    assert!(links("wasi:random/insecure-seed@0.2.0", seed));
    for (interface, resource) in [
        ("wasi:sockets/network", "network"),
        ("wasi:sockets/ip-name-lookup", "resolve-address-stream"),
        ("wasi:sockets/tcp", "tcp-socket"),
        ("wasi:sockets/udp", "udp-socket"),
    ] {
        let resource = format!(r#""{resource}" (type (sub resource))"#);
        assert!(links(&format!("{interface}@0.2.0"), &resource), "{interface}");
    }
    let progress = r#""progress" (func (param "done" u64) (param "total" u64))"#;
    assert!(links("muster:task/host@0.1.0", progress));
}

#[test]
fn what_cannot_be_run_is_refused_with_a_sentence() {
    let engine = Engine::new(1).expect("an engine");
    let refused = |wasm: &[u8]| engine.compile(wasm).err().expect("refused");
    assert!(refused(b"\x7fELF").contains("never accepted"));
    let import = binary(r#"(module (import "env" "system" (func)) (func (export "_start")))"#);
    assert!(refused(&import).contains("unknown import `env.system`"));
    let wrong = r#"(module (import "wasi_snapshot_preview1" "fd_read" (func))
        (func (export "_start")))"#;
    assert!(refused(&binary(wrong)).contains("incompatible import type"));
    let memories = "(core instance (instantiate $memory))".repeat(MEMORIES_MAX as usize + 1);
    let many = binary(&format!(
        r#"(component (core module $memory (memory 1)) {memories}
            (core module $program (func (export "run") (result i32) i32.const 0))
            (core instance $instance (instantiate $program))
            (func $run (result (result)) (canon lift (core func $instance "run")))
            (instance $exports (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $exports)))"#
    ));
    assert!(refused(&many).contains("memories"), "{}", refused(&many));
}

#[test]
fn a_worker_has_a_number_of_slots_that_fits_its_addresses() {
    for slots in [0, SLOTS_MAX + 1] {
        assert!(matches!(Engine::new(slots), Err(EngineError::Slots(_))));
    }
    assert!(Engine::new(SLOTS_MAX).is_ok());
}

#[test]
fn what_was_compiled_once_is_made_ready_again() {
    let state = std::env::temp_dir().join(format!("muster-revive-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&state);
    let engine = Engine::new(1).expect("an engine");
    let cache =
        crate::code::CodeCache::open(&state, engine.compatibility(), 1 << 20, Default::default());
    let cache = cache.expect("a cache");
    let program =
        engine.compile(&binary(r#"(module (func (export "_start")))"#)).expect("compiles");
    let (digest, code) = (program.digest(), program.code().expect("serializes"));
    let kept = |code: &[u8]| {
        cache.store(digest, code);
        cache.load(digest).expect("it was stored")
    };
    let later = Engine::new(2).expect("an engine");
    assert_eq!(later.compatibility(), engine.compatibility(), "slots do not matter to code");
    let revived = later.revive(digest, &kept(&code)).expect("it fits");
    assert!(matches!(revived.entry(), Entry::Command(_)));
    assert_eq!(revived.digest(), digest);
    // Code under a wrong kind is refused, even if this worker wrote it.
    for kind in [PROGRAM, TASK, 9] {
        let mut wrong = code.clone();
        wrong[0] = kind;
        assert!(later.revive(digest, &kept(&wrong)).is_err(), "{kind}");
    }
    assert!(later.revive(digest, &kept(b"")).is_err());
    assert!(later.revive(digest, &kept(&[COMMAND, 1, 2])).is_err());
    std::fs::remove_dir_all(&state).expect("it is ours");
}

/// Addresses of a process in KiB that are too few for a pool, and enough for a run.
const ADDRESSES_KIB: u64 = 16 << 20;

#[test]
#[ignore = "in a process with few addresses"]
fn runs_without_a_pool() {
    assert!(wasmtime::Engine::new(&config(2)).is_err(), "the pool does not fit");
    let engine = Engine::new(2).expect("an engine");
    let hash = |engine: &wasmtime::Engine| {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    };
    let bare = wasmtime::Engine::new(&code_config()).expect("an engine");
    assert_eq!(hash(engine.wasm()), hash(&bare), "code that a child compiles fits");
    let module = binary(r#"(module (memory (export "memory") 1) (func (export "_start")))"#);
    let program = engine.compile(&module).expect("a program");
    let Entry::Command(pre) = program.entry() else { panic!("a core module") };
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    for _ in 0..3 {
        let mut store = wasmtime::Store::new(engine.wasm(), ());
        store.set_epoch_deadline(1_000);
        let linker = Linker::new(engine.wasm());
        let instance = linker.instantiate_async(&mut store, pre.module());
        let instance = runtime.block_on(instance).expect("it finds addresses");
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start").expect("a function");
        runtime.block_on(start.call_async(&mut store, ())).expect("it runs");
    }
}

#[test]
fn an_engine_without_addresses_for_a_pool_still_runs_guests() {
    let test = std::env::current_exe().expect("a test is a file");
    let script = format!("ulimit -v {ADDRESSES_KIB}; exec \"$0\" \"$@\"");
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .arg(test)
        .args(["engine::tests::runs_without_a_pool", "--exact", "--ignored", "--nocapture"])
        .output()
        .expect("it starts");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{output:?}");
}
