//! Tables of small modules with the expected result of each. Never uses a module that is built elsewhere.

use super::*;

const COMMAND: Kind = Kind::Command;
const PROGRAM: Kind = Kind::Component { world: World::CommandRun };
const TASK: Kind = Kind::Component { world: World::Task };

/// Inspects Wasm text and compares the result with a kind, or with a part of the refusal's sentence.
fn check(text: &str, expected: Result<Kind, &str>) {
    check_bytes(&wat::parse_str(text).expect("Wasm text"), expected);
}

fn check_bytes(bytes: &[u8], expected: Result<Kind, &str>) {
    let found = inspect(bytes);
    match (&found, expected) {
        (Ok(info), Ok(kind)) => assert_eq!(info.kind, kind),
        (Err(refusal), Err(part)) => {
            let sentence = refusal.to_string();
            assert!(sentence.contains(part), "{sentence:?} does not contain {part:?}");
        }
        _ => panic!("{found:?}, expected {expected:?}"),
    }
}

/// A core module with the custom section of the SDK's world.
fn sdk_core(text: &str) -> Vec<u8> {
    let wit = "package muster:task@0.1.0;
        interface host { progress: func(done: u64, total: u64); }
        world task { import host; export run: func(input: list<u8>) -> result<list<u8>, string>; }";
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_str("task.wit", wit).expect("WIT");
    let world = resolve.select_world(&[package], Some("task")).expect("the world");
    let mut core = wat::parse_str(text).expect("Wasm text");
    let encoding = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut core, &resolve, world, encoding).expect("embeds");
    core
}

const SDK_GUEST: &str = r#"(module
    (import "muster:task/host@0.1.0" "progress" (func (param i64 i64)))
    (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
    (memory (export "memory") 1)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
    (func (export "run") (param i32 i32) (result i32) i32.const 0))"#;

#[test]
fn what_is_not_wasm_is_named() {
    check_bytes(b"", Err("it is empty"));
    check_bytes(b"#!/bin/sh\n", Err("begins with \"#!/bin/s\"; compile the task"));
    check_bytes(b"\x7fELF\x02", Err("never accepted"));
    check_bytes(b"\n  (module)", Err("Wasm text"));
    check_bytes(b"\0asm\x01\0\0", Err("not valid Wasm"));
    check_bytes(b"\0asm\x09\0\0\0", Err("not valid Wasm"));
    check_bytes(&vec![0; limit::MODULE_SIZE_MAX as usize + 1], Err("the limit is 67108864"));
}

#[test]
fn commands_are_core_modules_with_start() {
    check(r#"(module (func (export "_start")))"#, Ok(COMMAND));
    check(r#"(module (func (export "run")))"#, Err("this one exports run"));
    check(r#"(module (func (export "_initialize")))"#, Err("it is a library"));
    check(r#"(module (func (export "_start") (param i32)))"#, Err("`_start` must be"));
    check(r#"(module (memory (export "_start") 1))"#, Err("`_start` must be"));
    check("(module)", Err("exports nothing"));
}

#[test]
fn core_imports_are_known_or_named() {
    let import = |import: &str| format!(r#"(module {import} (func (export "_start")))"#);
    for function in PREVIEW1_FUNCTIONS {
        let text = import(&format!(r#"(import "{PREVIEW1_MODULE}" "{function}" (func))"#));
        check(&text, Ok(COMMAND));
    }
    for (text, part) in [
        (r#"(import "env" "system" (func))"#, "unknown import `env.system`: core modules may"),
        (r#"(import "wasi_snapshot_preview1" "fd_frob" (func))"#, "preview1.fd_frob`"),
        (r#"(import "wasi_unstable" "fd_read" (func))"#, "before 2020"),
        (r#"(import "wbg" "x" (func))"#, "browsers"),
        (r#"(import "env" "memory" (memory 1))"#, "`env.memory` is a memory"),
        (r#"(import "env" "sp" (global i32))"#, "`env.sp` is a global"),
        (r#"(import "env" "t" (table 1 funcref))"#, "`env.t` is a table"),
        (r#"(import "muster:task/host@0.1.0" "log" (func))"#, "unknown import"),
    ] {
        check(&import(text), Err(part));
    }
}

#[test]
fn only_the_chosen_proposals_are_valid() {
    let with = |item: &str| format!(r#"(module {item} (func (export "_start")))"#);
    for (item, expected) in [
        ("(func (result v128) v128.const i64x2 0 0)", Ok(COMMAND)),
        ("(func (result i32 i32) i32.const 1 i32.const 2)", Ok(COMMAND)),
        ("(global i32 (i32.add (i32.const 1) (i32.const 2)))", Ok(COMMAND)),
        ("(table 1 funcref) (table 1 funcref)", Ok(COMMAND)),
        ("(memory 1) (memory 1)", Err("multiple memories")),
        ("(memory i64 1)", Err("memory64")),
        ("(memory 1 1 shared)", Err("threads")),
        ("(func $f return_call $f)", Err("tail calls")),
        ("(tag)", Err("exceptions")),
        ("(type (struct))", Err("gc")),
        ("(func (param externref))", Err("gc")),
        (
            "(func (param v128 v128) (result v128) local.get 0 local.get 1 i8x16.relaxed_swizzle)",
            Err("relaxed SIMD"),
        ),
    ] {
        check(&with(item), expected);
    }
}

#[test]
fn more_than_any_honest_guest_has_is_refused() {
    let types = "(type (func))".repeat(TYPES_MAX as usize + 1);
    check(&format!("(module {types})"), Err("20001 types"));
    let imports = format!(r#"(import "{PREVIEW1_MODULE}" "fd_read" (func))"#);
    let imports = imports.repeat(IMPORTS_MAX as usize + 1);
    check(&format!("(module {imports})"), Err("20001 imports"));
    let functions = "(func)".repeat(FUNCTIONS_MAX as usize + 1);
    check(&format!("(module {functions})"), Err("200001 functions"));
    let body = "nop ".repeat(FUNCTION_SIZE_MAX as usize + 1);
    check(&format!("(module (func {body}))"), Err("in one function"));
    // The same number, in two modules inside a component.
    let half = format!("(core module {})", "(func)".repeat(FUNCTIONS_MAX as usize / 2 + 1));
    check(&format!("(component {half} {half})"), Err("200002 functions"));
}

#[test]
fn components_are_programs_or_tasks() {
    let program = r#"
        (core module $m (func (export "run") (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $run (export "run" (func $run)))"#;
    let export = |version| {
        format!(r#"(component {program} (export "wasi:cli/run@{version}" (instance $run)))"#)
    };
    check(&export("0.2.0"), Ok(PROGRAM));
    check(&export("0.2.12"), Ok(PROGRAM));
    check(&export("0.3.0"), Err("this one exports wasi:cli/run@0.3.0"));
    check(&format!(r#"(component {program} (export "run" (func $run)))"#), Err("`run` must be"));
    check("(component)", Err("this one exports nothing"));
}

#[test]
fn interfaces_are_known_or_named() {
    let import = |name: &str| format!(r#"(component (import "{name}" (instance)))"#);
    for path in WASI_INTERFACES {
        check(&import(&format!("{path}@0.2.3")), Err("nothing to run"));
    }
    check(&import("muster:task/host@0.1.0"), Err("nothing to run"));
    for name in [
        "wasi:cli/environment@0.3.0",
        "wasi:cli/environment@0.2.0-rc-2023-11-10",
        "wasi:cli/environment",
        "wasi:http/incoming-handler@0.2.0",
        "muster:task/host@0.2.0",
        "acme:bank/vault@1.0.0",
    ] {
        check(&import(name), Err(&format!("unknown import `{name}`")));
    }
    check(r#"(component (import "open" (func)))"#, Err("unknown import `open`"));
    let bare = r#"(component (import "wasi:cli/exit@0.2.0" (component)))"#;
    check(bare, Err("must be imported as an interface"));
}

#[test]
fn a_core_module_of_the_sdk_becomes_a_task() {
    let core = sdk_core(SDK_GUEST);
    check_bytes(&core, Ok(Kind::SdkCore));
    let component = to_component(&core).expect("converts");
    check_bytes(&component, Ok(TASK));
    let info = inspect(&component).expect("a task");
    assert!(info.imports.contains(&"muster:task/host@0.1.0".into()), "{:?}", info.imports);
    assert_eq!(component, to_component(&core).expect("converts"), "one digest for one source");
    check_bytes(
        &sdk_core(r#"(module (import "acme:bank/vault@1.0.0" "open" (func)))"#),
        Err("unknown import `acme:bank/vault@1.0.0`"),
    );
    let refusal = to_component(&sdk_core("(module)")).expect_err("exports no `run`");
    assert!(refusal.to_string().contains("run"), "{refusal}");
}

#[test]
fn facts_are_those_of_the_bytes() {
    let text = r#"(module (import "wasi_snapshot_preview1" "fd_read" (func))
        (memory (export "memory") 1) (func (export "_start")))"#;
    let bytes = wat::parse_str(text).expect("Wasm text");
    let info = inspect(&bytes).expect("a command");
    assert_eq!(info.imports, ["wasi_snapshot_preview1.fd_read"]);
    assert_eq!(info.exports, ["memory", "_start"]);
    assert_eq!((info.size, info.digest), (bytes.len() as u64, digest(&bytes)));
    assert_eq!(
        digest(b"abc").hex(),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

#[test]
fn grants_are_told_by_what_is_imported() {
    let check = |text: &str, expected: &[Option<&str>]| {
        let info = inspect(&wat::parse_str(text).expect("Wasm text")).expect("it can be run");
        let grants: Vec<_> = info.needs.iter().map(|need| need.grant).collect();
        assert_eq!(grants, expected, "{text}");
    };
    let core = |functions: &[&str]| {
        let import = |f: &&str| format!(r#"(import "{PREVIEW1_MODULE}" "{f}" (func))"#);
        let imports: String = functions.iter().map(import).collect();
        format!(r#"(module {imports} (func (export "_start")))"#)
    };
    check(&core(&["fd_read", "fd_prestat_get", "clock_time_get", "environ_get"]), &[]);
    check(&core(&["path_open", "path_rename"]), &[Some("--dir SIZE")]);
    check(&core(&["sock_accept", "random_get"]), &[Some("--random"), None]);

    let component = |import: &str| {
        format!(
            r#"(component {import}
            (core module $m (func (export "run") (result i32) i32.const 0))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $run (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $run)))"#
        )
    };
    let whole = |name: &str| component(&format!(r#"(import "{name}@0.2.9" (instance))"#));
    check(&whole("wasi:http/types"), &[]);
    check(&whole("wasi:http/outgoing-handler"), &[Some("--allow-http HOST")]);
    check(&whole("wasi:random/random"), &[Some("--random")]);
    check(&whole("wasi:clocks/monotonic-clock"), &[]);
    check(&whole("wasi:sockets/tcp-create-socket"), &[None]);
    // Standard streams import the interface as well, but open no file.
    check(&whole("wasi:filesystem/types"), &[]);
    let files = component(
        r#"(import "wasi:filesystem/types@0.2.9" (instance
            (export "descriptor" (type $descriptor (sub resource)))
            (export "[method]descriptor.open-at"
                (func (param "self" (borrow $descriptor))))))"#,
    );
    check(&files, &[Some("--dir SIZE")]);
}
