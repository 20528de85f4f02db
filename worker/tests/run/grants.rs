//! What WASI gives a guest with and without each grant, for programs and for components. Never tests
//! only one of the two kinds.

use super::{bench::*, guests::*};
use muster_protocol::{
    AttemptId, TaskId,
    grant::{CLOCK_DEFAULT, Grants},
    message::{AttemptKey, LogSource},
    task::{LimitName, Verdict},
};
use muster_worker::run::RunSpec;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

/// Runs the same guest as a core module and as a component, one after the other.
fn both(text: &str, order: impl Fn() -> RunSpec) -> [Seen; 2] {
    let core = wat::parse_str(text).unwrap();
    [core, component(text)].map(|wasm| {
        let (bench, order) = (Bench::new(1), order());
        on_threads(1, async move {
            let program = bench.engine.compile(&wasm).unwrap();
            bench.run(&program, order, bench.gate()).await
        })
    })
}

fn granted(change: impl FnOnce(&mut Grants)) -> RunSpec {
    let mut grants = Grants::default();
    change(&mut grants);
    RunSpec { grants: Arc::new(grants), ..run_spec("") }
}

/// A guest that prints everything that `sizes` and `get` return: variables or arguments, each with a
/// zero byte at its end.
fn says_all(sizes: &str, get: &str) -> String {
    command(&format!(
        r#"(func (export "_start")
            (drop (call {sizes} (i32.const 16) (i32.const 20)))
            (drop (call {get} (i32.const 64) (i32.const 1024)))
            (call $say (i32.const 1) (i32.const 1024) (i32.load (i32.const 20))))"#
    ))
}

#[test]
fn arguments() {
    let guest = says_all("$args_sizes", "$args");
    for seen in both(&guest, || run_spec("")) {
        assert_eq!(seen.output(), "task\0");
    }
    let args = vec!["one".to_string(), "two words".into(), "".into()];
    for seen in both(&guest, || RunSpec { args: args.clone(), ..run_spec("") }) {
        assert_eq!(seen.output(), "task\0one\0two words\0\0");
    }
}

#[test]
fn environment() {
    let guest = says_all("$environ", "$environ_get");
    for seen in both(&guest, || run_spec("")) {
        assert_eq!(seen.output(), "", "the worker's own variables stay its own");
    }
    let secrets: BTreeMap<_, _> = [("KEY".to_string(), "hush".to_string())].into();
    for seen in both(&guest, || RunSpec {
        secrets: muster_worker::policy::Secrets(secrets.clone()),
        ..granted(|grants| {
            grants.env = [("A".into(), "1".into()), ("B".into(), "x=y".into())].into();
            grants.secrets = ["KEY".to_string()].into();
        })
    }) {
        assert_eq!(seen.output(), "A=1\0B=x=y\0KEY=hush\0");
    }
}

/// A guest that prints, as eight bytes each, the resolution of a clock and two readings of it; the
/// second reading is the next one that differs.
fn clock(id: u32) -> String {
    command(&format!(
        r#"(func (export "_start")
            (drop (call $clock_res (i32.const {id}) (i32.const 1024)))
            (drop (call $clock_time (i32.const {id}) (i64.const 1) (i32.const 1032)))
            (loop $again
                (drop (call $clock_time (i32.const {id}) (i64.const 1) (i32.const 1040)))
                (br_if $again (i64.eq
                    (i64.load (i32.const 1032)) (i64.load (i32.const 1040)))))
            (call $say (i32.const 1) (i32.const 1024) (i32.const 24)))"#
    ))
}

#[test]
fn clocks() {
    const REALTIME: u32 = 0;
    const MONOTONIC: u32 = 1;
    for id in [REALTIME, MONOTONIC] {
        for grain in [CLOCK_DEFAULT.as_nanos() as u64, 50_000_000, 1_000, 1] {
            for seen in both(&clock(id), || granted(|grants| grants.clock_ns = grain)) {
                let words = seen.bytes().chunks_exact(8);
                let words: Vec<_> =
                    words.map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
                let [resolution, first, second] = words[..] else { panic!("{words:?}") };
                assert_eq!(resolution, grain, "clock {id}");
                assert!(first % grain == 0 && second % grain == 0, "clock {id}: {words:?}");
                assert!(first < second, "clock {id}: {words:?}");
            }
        }
        for seen in both(&clock(id), || run_spec("")) {
            let grain = u64::from_le_bytes(seen.bytes()[..8].try_into().unwrap());
            assert_eq!(u128::from(grain), CLOCK_DEFAULT.as_nanos(), "without a grant");
        }
    }
}

#[test]
fn standard_streams() {
    // The guest writes its input to its output and to its standard error.
    let guest = command(
        r#"(func (export "_start")
            (i32.store (i32.const 0) (i32.const 1024))
            (i32.store (i32.const 4) (i32.const 4096))
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (i32.store (i32.const 24) (i32.load (i32.const 8)))
            (call $say (i32.const 1) (i32.const 1024) (i32.load (i32.const 24)))
            (call $say (i32.const 2) (i32.const 1024) (i32.load (i32.const 24))))"#,
    );
    for seen in both(&guest, || run_spec("in and out\n")) {
        assert_eq!(seen.output(), "in and out\n");
        assert_eq!(seen.log(LogSource::Stderr), "in and out\n");
        assert_eq!(seen.outcome().stderr, "in and out\n");
    }
    for seen in both(&guest, || run_spec("")) {
        assert_eq!((seen.verdict(), seen.output()), (&Verdict::Completed, ""));
        assert!(seen.reports.is_empty());
    }
}

#[test]
fn random() {
    let guest = command(
        r#"(func (export "_start")
            (drop (call $random (i32.const 1024) (i32.const 32)))
            (call $say (i32.const 1) (i32.const 1024) (i32.const 32)))"#,
    );
    let key = |task, attempt| AttemptKey { task: TaskId(task), attempt: AttemptId(attempt) };
    let bytes = |key, random| {
        let order = || RunSpec { key, ..granted(|grants| grants.random = random) };
        both(&guest, order).map(|seen| seen.bytes().to_vec())
    };
    let [first, same, other] = [key(7, 1), key(7, 2), key(8, 1)].map(|key| bytes(key, false));
    assert_eq!(first, same, "the same in each attempt of a task");
    for (first, other) in first.iter().zip(&other) {
        assert_ne!(first, other, "another task has others");
    }
    let mut real: Vec<_> = (0..2).flat_map(|_| bytes(key(7, 1), true)).collect();
    real.extend(first.into_iter().take(1));
    let count = real.len();
    real.sort();
    real.dedup();
    assert_eq!(real.len(), count, "the machine's differ each time");
}

/// A directory for scratch directories; removed when this is dropped.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("muster-place-{}-{count}", std::process::id());
        TempDir(std::env::temp_dir().join(name))
    }

    fn order(&self, dir_bytes: u64) -> RunSpec {
        RunSpec { scratch: Some(self.0.clone()), ..granted(|grants| grants.dir_bytes = dir_bytes) }
    }

    fn is_empty(&self) -> bool {
        std::fs::read_dir(&self.0).map_or(true, |mut entries| entries.next().is_none())
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A guest that opens the file `f` of its first directory for reading and writing, stores the
/// descriptor at address 28, and then runs `body`. It exits with the error number if it cannot open the
/// file.
fn with_file(body: &str) -> String {
    // The open flag CREAT; the rights to read, write and seek.
    command(&format!(
        r#"(data (i32.const 512) "f")
        (data (i32.const 1024) "kept for now")
        (func (export "_start") (local $error i32)
            (local.set $error (call $open (i32.const 3) (i32.const 0) (i32.const 512)
                (i32.const 1) (i32.const 1) (i64.const 0x66) (i64.const 0) (i32.const 0)
                (i32.const 28)))
            (if (local.get $error) (then (call $exit (local.get $error))))
            {body})"#
    ))
}

#[test]
fn a_directory() {
    const BAD_DESCRIPTOR: u8 = 8;
    let keeps = with_file(
        "(call $say (i32.load (i32.const 28)) (i32.const 1024) (i32.const 12))
         (drop (call $seek (i32.load (i32.const 28)) (i64.const 0) (i32.const 0) (i32.const 40)))
         (i32.store (i32.const 0) (i32.const 2048))
         (i32.store (i32.const 4) (i32.const 64))
         (drop (call $read (i32.load (i32.const 28)) (i32.const 0) (i32.const 1) (i32.const 8)))
         (call $say (i32.const 1) (i32.const 2048) (i32.const 12))",
    );
    let place = TempDir::new();
    for seen in both(&keeps, || place.order(1 << 20)) {
        assert_eq!((seen.verdict(), seen.output()), (&Verdict::Completed, "kept for now"));
        assert!(place.is_empty(), "it goes with its run");
    }
    let preopen = command(
        r#"(func (export "_start") (call $exit (call $prestat (i32.const 3) (i32.const 16))))"#,
    );
    let [core, component] = both(&preopen, || place.order(0));
    let refused = Verdict::Failed { code: BAD_DESCRIPTOR, message: String::new() };
    assert_eq!(core.verdict(), &refused);
    // WASI 0.2 has no exit codes, only success and failure.
    assert_eq!(component.verdict(), &Verdict::Failed { code: 1, message: String::new() });
    for seen in both(&keeps, || place.order(0)) {
        assert!(matches!(seen.verdict(), Verdict::Failed { .. }), "{:?}", seen.ended);
    }
    for seen in both(&keeps, || RunSpec { scratch: None, ..place.order(1 << 20) }) {
        assert!(matches!(seen.verdict(), Verdict::Rejected { .. }), "{:?}", seen.ended);
    }
    // If the host does not allow a directory there, the task is not to blame.
    for seen in both(&keeps, || RunSpec { scratch: Some("/proc/1".into()), ..place.order(1 << 20) })
    {
        assert!(matches!(seen.verdict(), Verdict::Returned { .. }), "{:?}", seen.ended);
    }
}

#[test]
fn a_directory_that_is_too_full() {
    let fills = with_file(
        "(loop $again
            (call $say (i32.load (i32.const 28)) (i32.const 0) (i32.const 65536))
            (br $again))",
    );
    let place = TempDir::new();
    for seen in both(&fills, || place.order(1 << 20)) {
        let over = Verdict::OverLimit { limit: LimitName::DirBytes.into(), max: 1 << 20 };
        assert_eq!(seen.verdict(), &over);
        assert!(place.is_empty(), "nothing of it stays behind");
    }
}
