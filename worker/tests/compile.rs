//! Compiles modules that are made to harm a compiler, and ordinary ones after them, in the real child:
//! `muster-worker`, as it was built. Never compiles them in this process.
#![allow(clippy::unwrap_used)]

use muster_worker::{
    compile::{CompileError, Compiled, Compiler},
    policy::Rules,
};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

/// The nested loops of a bomb, and the locals that each keeps alive: this module of 29 KB did not
/// compile within 20 s.
const DEPTH: usize = 4_000;
const LOCALS: usize = 100;

const WORKER: &str = env!("CARGO_BIN_EXE_muster-worker");

fn rules(seconds: u64, mib: u64) -> Rules {
    let mut rules = Rules::default();
    rules.compile_within = Duration::from_secs(seconds);
    rules.compile_memory = mib << 20;
    rules
}

fn compile_with(program: &str, rules: &Rules, wasm: &[u8]) -> Result<Compiled, CompileError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(Compiler::of(program.into(), rules).compile(wasm.to_vec().into(), ()))
}

fn compile(rules: &Rules, wasm: &[u8]) -> Result<Compiled, CompileError> {
    compile_with(WORKER, rules, wasm)
}

fn ordinary() -> Vec<u8> {
    wat::parse_str(r#"(module (func (export "_start")))"#).unwrap()
}

/// A module of nested loops, each of which keeps all locals alive: the compiler's work grows with the
/// square of their number, the file does not.
fn bomb(depth: usize, locals: usize) -> Vec<u8> {
    let touch: String = (0..locals)
        .map(|n| {
            format!("(local.set {n} (i32.add (local.get {n}) (local.get {})))", (n + 1) % locals)
        })
        .collect();
    let locals = " i32".repeat(locals);
    let text = format!(
        r#"(module (func (export "_start") (local{locals}) {} {touch} {}))"#,
        "loop ".repeat(depth),
        "local.get 0 br_if 0 end ".repeat(depth),
    );
    wat::parse_str(text).unwrap()
}

fn reason(result: Result<Compiled, CompileError>) -> String {
    match result {
        Err(CompileError::Rejected(reason)) => reason,
        Err(error) => panic!("not rejected: {error}"),
        Ok(_) => panic!("it was compiled"),
    }
}

/// An ordinary module compiles within the limits, and at once.
fn next_one_compiles() {
    let began = Instant::now();
    assert!(compile(&rules(10, 512), &ordinary()).is_ok());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn what_takes_too_long_is_refused_and_the_next_one_is_compiled() {
    let wasm = bomb(DEPTH, LOCALS);
    muster_module::inspect(&wasm).expect("it is within the limits of a module");
    let began = Instant::now();
    assert_eq!(reason(compile(&rules(1, 2048), &wasm)), "took over 1 s to compile");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    next_one_compiles();
}

#[test]
fn what_takes_too_much_memory_is_refused_and_the_next_one_is_compiled() {
    let wasm = bomb(DEPTH, LOCALS);
    let refused = reason(compile(&rules(60, 64), &wasm));
    assert_eq!(refused, "took over 64 MiB of memory to compile");
    next_one_compiles();
}

/// Memory may run out while the child reads, starts threads, or compiles.
#[test]
fn any_lack_of_memory_is_called_by_its_name() {
    let wasm = bomb(200, 200);
    for mib in [0, 1, 2, 3, 4, 6, 8, 12] {
        let refused = reason(compile(&rules(60, mib), &wasm));
        assert_eq!(refused, format!("took over {mib} MiB of memory to compile"));
    }
}

#[test]
fn what_is_no_program_is_refused_with_its_sentence() {
    let refused = reason(compile(&rules(10, 512), b"\x7fELF"));
    assert!(refused.contains("never accepted"), "{refused}");
}

#[test]
fn where_no_child_can_be_started_nothing_is_said_of_the_module() {
    for program in ["/no/such/program", "/bin/false"] {
        let result = compile_with(program, &rules(10, 512), &ordinary()).err();
        assert!(matches!(result, Some(CompileError::NotTried(_))), "{program}: {result:?}");
    }
}

/// A program that starts the worker's child under limits of the host. If this process runs as root, the
/// child gets a user of its own, because the kernel does not apply these limits to root.
fn limited(dir: &Path, limits: &str) -> String {
    let user = 61_000 + std::process::id() % 4_000;
    let drop = match rustix::process::getuid().is_root() {
        true => format!("/usr/bin/setpriv --reuid {user} --regid {user} --clear-groups"),
        false => String::new(),
    };
    let path = dir.join("limited");
    let text = format!("#!/bin/sh\nexec /usr/bin/prlimit {limits} {drop} {WORKER} \"$@\"\n");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().into()
}

#[test]
fn what_the_host_does_not_give_is_not_held_against_the_module() {
    let dir = std::env::temp_dir().join(format!("muster-limited-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    assert!(compile_with(&limited(&dir, ""), &rules(10, 512), &ordinary()).is_ok(), "it works");
    for (limits, remedy) in [
        ("--nproc=1:1", "ulimit -u"),
        ("--nofile=3:3", ""),
        ("--nofile=4:4", ""),
        ("--nofile=5:5", ""),
        ("--data=67108864:67108864", ""),
    ] {
        let result = compile_with(&limited(&dir, limits), &rules(10, 512), &ordinary());
        match result.err() {
            Some(CompileError::NotTried(why)) => assert!(why.contains(remedy), "{limits}: {why}"),
            // So many files are enough for the child.
            None if limits.starts_with("--nofile") => {}
            error => panic!("{limits}: {error:?}"),
        }
    }
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_child_that_nobody_waits_for_ends() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (turn, mut ended) = tokio::sync::oneshot::channel::<()>();
    let compiler = Compiler::of(WORKER.into(), &rules(600, 2048));
    let wasm = bomb(DEPTH, LOCALS);
    runtime.block_on(async {
        let work = compiler.compile(wasm.into(), turn);
        let waited = tokio::time::timeout(Duration::from_millis(300), work).await;
        assert!(waited.is_err(), "it takes longer");
        let over = tokio::time::timeout(Duration::from_secs(5), &mut ended).await;
        assert!(matches!(over, Ok(Err(_))), "its turn is not over");
    });
}

#[test]
#[ignore = "a measurement"]
fn measure_compiling() {
    use muster_worker::engine::Engine;
    let engine = Engine::new(1).unwrap();
    for guest in ["noop", "wordcount", "primes"] {
        let path = format!("{}/../.muster/guests/{guest}.wasm", env!("CARGO_MANIFEST_DIR"));
        let wasm = std::fs::read(path).expect("run setup/guests");
        let wasm = muster_module::to_component(&wasm)
            .ok()
            .filter(|_| muster_module::inspect(&wasm).unwrap().kind.needs_component())
            .unwrap_or(wasm);
        let mut here: Vec<Duration> = Vec::new();
        let mut child: Vec<Duration> = Vec::new();
        let mut size = 0;
        for _ in 0..9 {
            let began = Instant::now();
            size = engine.compile(&wasm).unwrap().code().unwrap().len();
            here.push(began.elapsed());
            let began = Instant::now();
            assert!(compile(&Rules::default(), &wasm).is_ok());
            child.push(began.elapsed());
        }
        here.sort();
        child.sort();
        let wasm = wasm.len();
        println!("{guest}: {wasm} B to {size} B, here {:?}, by a child {:?}", here[4], child[4]);
    }
}

#[test]
#[ignore = "a measurement"]
fn measure_bombs() {
    for (depth, locals) in
        [(1_000, 10), (1_000, 100), (4_000, 100), (11_000, 1), (11_000, 100), (1_000, 1_000)]
    {
        let wasm = bomb(depth, locals);
        let began = Instant::now();
        let result = compile(&rules(20, 4096), &wasm).err();
        println!(
            "{depth} loops, {locals} locals: {} B, {:?}, {result:?}",
            wasm.len(),
            began.elapsed()
        );
    }
}
