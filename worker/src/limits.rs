//! The table of all limits of a run, each under the name that an outcome shows. Never a number of its
//! own: each is the constant of the code that enforces it.

use crate::{
    engine::WASM_STACK_MAX,
    policy::Rules,
    sandbox::{
        CHECKPOINT_EVERY, CHECKPOINT_RATE, CORE_INSTANCES_MAX, HANDLES_MAX, HEADERS_SIZE_MAX,
        HOSTCALL_FUEL, MEMORIES_MAX, RANDOM_SIZE_MAX, REQUESTS_MAX, SCRATCH_DEPTH_MAX,
        SCRATCH_ENTRIES_MAX, STEP_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX,
    },
};
use muster_module::{FUNCTION_SIZE_MAX, FUNCTIONS_MAX, IMPORTS_MAX, TYPES_MAX};
use muster_protocol::{
    grant::{GRANTS_MAX, SCRATCH_MAX, TEXT_MAX},
    limit,
    task::{LimitName, Limits},
};

/// The table of limits, as docs/SANDBOX.md has it: Markdown.
pub fn table() -> String {
    let own = Limits::default();
    let most = |what: u64| format!("{what} at most");
    let ended = |limit: LimitName| format!("`over_limit {}`", limit.word());
    let fixed = String::from("fixed");
    let rejected = String::from("`rejected`");
    let rows = [
        (
            "time from start to end",
            ms(own.timeout_ms),
            ms(limit::TIMEOUT_MAX.as_millis() as u64),
            "`timed_out`".into(),
        ),
        (
            "time on a processor",
            ms(own.cpu_ms),
            ms(limit::TIMEOUT_MAX.as_millis() as u64),
            ended(LimitName::CpuMs),
        ),
        (
            "time in the queue",
            ms(own.queue_ms),
            ms(limit::QUEUE_MAX.as_millis() as u64),
            ended(LimitName::QueueMs),
        ),
        (
            "linear memory, all memories together",
            bytes(own.memory_bytes),
            bytes(limit::MEMORY_MAX),
            ended(LimitName::MemoryBytes),
        ),
        (
            "output",
            bytes(own.output_bytes),
            bytes(limit::PAYLOAD_SIZE_MAX),
            ended(LimitName::OutputBytes),
        ),
        (
            "log and standard error",
            bytes(own.log_bytes),
            bytes(limit::LOG_BYTES_MAX),
            "dropped, and counted in `log_dropped`".into(),
        ),
        (
            "rate of log and standard error",
            format!("{}/s after {}", bytes(limit::LOG_RATE), bytes(limit::LOG_BURST)),
            fixed.clone(),
            "dropped, and counted in `log_dropped`".into(),
        ),
        (
            "size of a checkpoint",
            bytes(own.checkpoint_bytes),
            bytes(limit::PAYLOAD_SIZE_MAX),
            ended(LimitName::CheckpointBytes),
        ),
        (
            "rate of checkpoints",
            format!("{}/s, one in {CHECKPOINT_EVERY:?}", bytes(CHECKPOINT_RATE)),
            fixed.clone(),
            "the call waits".into(),
        ),
        (
            "scratch directory",
            "none".into(),
            format!("{}, and the worker's policy", bytes(SCRATCH_MAX)),
            ended(LimitName::DirBytes),
        ),
        (
            "files in the scratch directory",
            most(SCRATCH_ENTRIES_MAX),
            fixed.clone(),
            ended(LimitName::DirEntries),
        ),
        (
            "depth of directories in it",
            most(SCRATCH_DEPTH_MAX),
            fixed.clone(),
            ended(LimitName::DirDepth),
        ),
        ("stack", bytes(WASM_STACK_MAX as u64), fixed.clone(), ended(LimitName::StackBytes)),
        (
            "elements of one table",
            most(TABLE_ELEMENTS_MAX as u64),
            fixed.clone(),
            ended(LimitName::TableElements),
        ),
        ("tables", most(TABLES_MAX.into()), fixed.clone(), rejected.clone()),
        ("memories", most(MEMORIES_MAX.into()), fixed.clone(), rejected.clone()),
        ("core instances", most(CORE_INSTANCES_MAX.into()), fixed.clone(), rejected.clone()),
        (
            "handles: files, streams, timers",
            most(HANDLES_MAX as u64),
            fixed.clone(),
            ended(LimitName::Handles),
        ),
        (
            "copied by one host call, beyond input, output and checkpoint",
            bytes(HOSTCALL_FUEL),
            fixed.clone(),
            ended(LimitName::HostCopyBytes),
        ),
        ("random bytes of one call", bytes(RANDOM_SIZE_MAX), fixed.clone(), "`trapped`".into()),
        (
            "HTTP requests at once",
            most(REQUESTS_MAX as u64),
            fixed.clone(),
            "the next one waits".into(),
        ),
        (
            "headers of a request or an answer",
            bytes(HEADERS_SIZE_MAX as u64),
            fixed.clone(),
            "the request fails".into(),
        ),
        (
            "each step of a request",
            format!("{STEP_MAX:?}"),
            "less, by its options".into(),
            "the request fails".into(),
        ),
        ("entries in one list of grants", most(GRANTS_MAX as u64), fixed.clone(), "refused".into()),
        (
            "size of a variable, a secret or a host",
            bytes(TEXT_MAX as u64),
            fixed.clone(),
            "refused".into(),
        ),
        (
            "time to compile",
            format!("{:?}, by the worker's policy", Rules::default().compile_within),
            fixed.clone(),
            rejected.clone(),
        ),
        (
            "memory to compile",
            format!("{}, by the worker's policy", bytes(Rules::default().compile_memory)),
            fixed.clone(),
            rejected.clone(),
        ),
        ("size of a module", bytes(limit::MODULE_SIZE_MAX), fixed.clone(), rejected.clone()),
        ("functions of a module", most(FUNCTIONS_MAX), fixed.clone(), rejected.clone()),
        ("size of one function", bytes(FUNCTION_SIZE_MAX), fixed.clone(), rejected.clone()),
        ("imports of a module", most(IMPORTS_MAX), fixed.clone(), rejected.clone()),
        ("types of a module", most(TYPES_MAX), fixed, rejected),
    ];
    let mut table = String::from(
        "| limit | default | a task may ask for | when it is exceeded |\n|---|---|---|---|\n",
    );
    for (what, default, most, hit) in rows {
        table.push_str(&format!("| {what} | {default} | {most} | {hit} |\n"));
    }
    table
}

fn ms(ms: u64) -> String {
    match ms / 1_000 {
        hours if hours % 86_400 == 0 => format!("{} d", hours / 86_400),
        seconds => format!("{} h", seconds / 3_600),
    }
}

fn bytes(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.iter().find(|(_, bits)| bytes >= 1 << bits && bytes.is_multiple_of(1 << bits));
    unit.map_or(format!("{bytes} bytes"), |(unit, bits)| format!("{} {unit}", bytes >> bits))
}

#[cfg(test)]
mod tests {
    use muster_protocol::task::LimitName;

    #[test]
    fn every_limit_that_ends_a_run_is_in_the_table() {
        // A module that has more of these is rejected before it runs, but for components that choose at
        // run time.
        let counted = [LimitName::Tables, LimitName::Memories, LimitName::CoreInstances];
        let table = super::table();
        for name in LimitName::ALL.iter().filter(|name| !counted.contains(name)) {
            assert!(table.contains(&format!("`over_limit {}`", name.word())), "{name:?}");
        }
    }

    #[test]
    fn the_table_of_limits_is_the_codes_own() {
        let text =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/SANDBOX.md"));
        let table = super::table();
        assert!(
            text.expect("a file").contains(table.trim()),
            "put this into docs/SANDBOX.md:\n{table}"
        );
    }
}
