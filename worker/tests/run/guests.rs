//! The guests, as Wasm text.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};

/// A program with the functions of WASI that the tests need, and with `$say`, which writes a part of
/// the memory to a stream. Addresses below 64 are scratch. The hostile guests use the same frame.
pub fn command(body: &str) -> String {
    include_str!("../../../tests/hostile/frame/command.wat").replace("{body}", body)
}

/// Copies its input to its output.
pub fn echo() -> String {
    command(
        r#"(func (export "_start") (local $size i32)
            (loop $again
                (i32.store (i32.const 0) (i32.const 1024))
                (i32.store (i32.const 4) (i32.const 4096))
                (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
                (local.set $size (i32.load (i32.const 8)))
                (if (local.get $size) (then
                    (call $say (i32.const 1) (i32.const 1024) (local.get $size))
                    (br $again)))))"#,
    )
}

/// Does nothing.
pub const NOOP: &str = r#"(module (func (export "_start")))"#;

/// Computes for ever.
pub const LOOP: &str = r#"(module (func (export "_start") (loop $again (br $again))))"#;

/// Waits an hour in one host call.
pub fn sleep() -> String {
    command(
        r#"(func (export "_start")
            (i32.store (i32.const 80) (i32.const 1))
            (i64.store (i32.const 88) (i64.const 3600000000000))
            (drop (call $poll (i32.const 64) (i32.const 256) (i32.const 1) (i32.const 512))))"#,
    )
}

/// A guest that runs `body`, with `text` in its memory at address 1024 for `$say`.
pub fn with_text(text: &str, body: &str) -> String {
    command(&format!(r#"(data (i32.const 1024) "{text}") (func (export "_start") {body})"#))
}

/// A program as a component: the same guest through WASI 0.2.
pub fn component(command: &str) -> Vec<u8> {
    let core = wat::parse_str(command).unwrap();
    wit_component::ComponentEncoder::default()
        .module(&core)
        .unwrap()
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)
        .unwrap()
        .encode()
        .unwrap()
}

/// A guest of the SDK's world. `run` has the parameters `$at` and `$size`, and returns the address of a
/// result: a flag that is 1 for an error, then the address and the number of its bytes.
pub fn task(run: &str) -> Vec<u8> {
    let text = include_str!("../../../tests/hostile/frame/task.wat").replace("{body}", run);
    let mut core = wat::parse_str(&text).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../guest-sdk/wit");
    let (package, _) = resolve.push_path(wit).unwrap();
    let world = resolve.select_world(&[package], Some("task")).unwrap();
    let encoding = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut core, &resolve, world, encoding).unwrap();
    muster_module::to_component(&core).unwrap()
}
