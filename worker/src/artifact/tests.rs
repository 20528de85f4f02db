//! Tests of the programs of a worker, compiled by a real child. Never uses a module from a fleet.

use super::*;
use crate::policy::Rules;
use std::{
    cell,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// Runs one worker process' lifetime in which a program is needed once. Returns whether it was fetched.
fn life(state: &Path, wasm: &[u8]) -> bool {
    // One thread does what blocks, in the order in which it was begun.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().max_blocking_threads(1).build().expect("threads");
    let engine = Engine::new(1).expect("an engine");
    let code = CodeCache::open(state, engine.compatibility(), 1 << 20, Default::default())
        .expect("a cache");
    let compiler = Compiler::for_tests(Rules::default());
    let artifacts = Artifacts::new(engine, compiler, Some(code));
    let fetched = cell::Cell::new(false);
    let digest = muster_module::digest(wasm);
    let program = runtime.block_on(artifacts.get(digest, || async {
        fetched.set(true);
        Ok(Bytes::copy_from_slice(wasm))
    }));
    assert_eq!(program.expect("it compiles").digest(), digest);
    // The code is stored in the background, before this. A runtime that is dropped does not begin it any more.
    runtime.block_on(runtime.spawn_blocking(|| ())).expect("it is done");
    fetched.get()
}

fn files(state: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(state.join("code")).expect("a directory");
    files.map(|file| file.expect("a file").path()).collect()
}

#[test]
fn a_later_process_neither_fetches_nor_compiles_and_mends_what_was_damaged() {
    let state = std::env::temp_dir().join(format!("muster-artifact-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&state);
    let wasm = wat::parse_str(r#"(module (func (export "_start")))"#).expect("Wasm text");
    assert!(life(&state, &wasm));
    assert!(!life(&state, &wasm), "it was kept");
    let [file] = &files(&state)[..] else { panic!("one file") };
    let whole = std::fs::read(file).expect("a file");
    for damaged in [&whole[..whole.len() / 2], b"", &[&whole[..], b"more"].concat()] {
        std::fs::write(file, damaged).expect("it is ours");
        assert!(life(&state, &wasm), "it was compiled again");
        assert!(!life(&state, &wasm), "and replaced");
    }
    std::fs::remove_dir_all(&state).expect("it is ours");
}

/// A program with `size` bytes of data, which differ from the data of any other `number`.
fn large(size: usize, number: u8) -> Vec<u8> {
    let (pages, data) = (size.div_ceil(65_536), format!("\\{number:02x}").repeat(size));
    let text = format!(
        r#"(module (memory (export "memory") {pages}) (data (i32.const 0) "{data}")
            (func (export "_start")))"#
    );
    wat::parse_str(text).expect("Wasm text")
}

fn artifacts(size_max: u64, code: Option<CodeCache>) -> Artifacts {
    let engine = Engine::new(1).expect("an engine");
    Artifacts::within(size_max, engine, Compiler::for_tests(Rules::default()), code)
}

async fn get(artifacts: &Artifacts, wasm: &[u8]) -> Result<Program, ArtifactError> {
    let bytes = Bytes::copy_from_slice(wasm);
    artifacts.get(muster_module::digest(wasm), || async { Ok(bytes) }).await
}

#[tokio::test]
async fn programs_are_kept_by_the_bytes_of_their_data_too() {
    const DATA: usize = 1 << 20;
    const KEPT: u64 = 3;
    let artifacts = artifacts((KEPT + 1) * DATA as u64, None);
    for number in 0..12 {
        let program = get(&artifacts, &large(DATA, number)).await.expect("it compiles");
        assert!(program.code_size() >= DATA, "{} bytes", program.code_size());
        let size = artifacts.cache().size();
        assert!(size <= artifacts.size_max, "{size} bytes");
        let kept = (0..=number).filter(|number| {
            artifacts.ready(muster_module::digest(&large(DATA, *number))).is_some()
        });
        let first = u64::from(number + 1).saturating_sub(KEPT) as u8;
        assert!(kept.eq(first..=number), "the last ones are kept");
    }
}

#[tokio::test]
async fn what_finds_no_room_beside_those_in_use_is_asked_for_again() {
    const DATA: usize = 1 << 20;
    let artifacts = artifacts(2 * DATA as u64, None);
    let (first, second) = (large(DATA, 1), large(DATA, 2));
    let run = get(&artifacts, &first).await.expect("it compiles");
    let refused = get(&artifacts, &second).await.err().expect("there is no room");
    assert!(matches!(refused, ArtifactError::NotHad(_)), "{refused}");
    assert!(refused.to_string().contains("those in use have"), "{refused}");
    assert!(artifacts.ready(run.digest()).is_some(), "it is in use");
    drop(run);
    assert!(get(&artifacts, &second).await.is_ok(), "the run is over");
}

#[tokio::test]
async fn one_that_is_larger_than_all_may_be_is_rejected() {
    let wasm = large(1 << 20, 7);
    let refused = get(&artifacts(1 << 20, None), &wasm).await.err().expect("it is too large");
    assert!(matches!(refused, ArtifactError::Rejected(_)), "{refused}");
    let text = refused.to_string();
    assert!(text.starts_with("its compiled form has 10"), "{text}");
    assert!(text.ends_with(" bytes, the limit is 1048576"), "{text}");
}

#[tokio::test]
async fn a_module_is_refused_once_for_all_who_ask() {
    const ASKED: usize = 8;
    let engine = Engine::new(1).expect("an engine");
    let compiler = Compiler::for_tests(Rules::default());
    let artifacts = Artifacts::new(engine, compiler, None);
    let wasm = Bytes::from_static(b"\x7fELF");
    let digest = muster_module::digest(&wasm);
    let fetched = AtomicU32::new(0);
    let ask = || async {
        let refused = artifacts.get(digest, || async {
            fetched.fetch_add(1, Ordering::Relaxed);
            Ok(wasm.clone())
        });
        let refused = refused.await.err().expect("it is no module");
        assert!(matches!(refused, ArtifactError::Rejected(_)), "{refused}");
        refused.to_string()
    };
    let all = futures::future::join_all((0..ASKED).map(|_| ask())).await;
    assert!(all.iter().all(|reason| *reason == all[0] && !reason.is_empty()), "{all:?}");
    assert_eq!(ask().await, all[0], "and later as well");
    assert_eq!(fetched.load(Ordering::Relaxed), 1, "it was tried again");
}

#[tokio::test]
async fn what_did_not_come_is_fetched_again() {
    let artifacts = artifacts(1 << 20, None);
    let wasm = wat::parse_str(r#"(module (func (export "_start")))"#).expect("Wasm text");
    let digest = muster_module::digest(&wasm);
    for error in [ArtifactError::Rejected, ArtifactError::NotHad] {
        let failed = artifacts.get(digest, || async { Err(error("it is missing".into())) }).await;
        assert!(failed.is_err());
    }
    assert!(get(&artifacts, &wasm).await.is_ok(), "it may have been stored since");
}

#[tokio::test]
async fn a_digest_is_the_same_wherever_it_is_made() {
    for size in [0, ASIDE_FROM - 1, ASIDE_FROM, 4 * ASIDE_FROM] {
        let bytes = Bytes::from(vec![7; size]);
        assert_eq!(digest_of(bytes.clone()).await, Some(muster_module::digest(&bytes)));
    }
}
