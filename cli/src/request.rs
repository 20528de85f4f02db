//! The options of a task that `task run` and `map` share. Never includes an input: the two commands
//! differ in that.

mod grants;
mod limits;

use crate::{exit::Failure, quantity, trace::TraceArgs};
use clap::Args;
use limits::millis;
use muster_protocol::{
    BatchId, GroupName,
    task::{Data, ModuleRef, OnWorkerLost, Retry, TaskSpec},
    trace::TraceContext,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Options of a task.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The group of workers that may run it
    #[arg(long, value_name = "GROUP", default_value = "default")]
    group: GroupName,
    /// A label that the worker must have (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    select: Vec<(String, String)>,
    /// From 0 to 100; higher runs first
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    priority: u8,
    /// How often to try again when it fails, traps or times out
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// The wait before the first retry; it doubles for each further one [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = quantity::duration)]
    backoff: Option<Duration>,
    /// What to do if its worker is lost
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Lost::Redispatch)]
    on_worker_lost: Lost,
    /// Arguments for the module
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
    #[command(flatten)]
    limits: limits::Chosen,
    #[command(flatten)]
    grants: grants::Asked,
    /// The trace that it belongs to
    #[command(flatten)]
    pub trace: TraceArgs,
}

/// [`OnWorkerLost`] as the command line has it.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Lost {
    /// Dispatch it again on another worker of its group
    Redispatch,
    /// End it as lost
    Fail,
}

impl Options {
    /// The task that these options ask for; without what it cannot have. Durations and sizes that
    /// no task may have are the user's error.
    pub fn spec(
        &self,
        module: ModuleRef,
        input: Data,
        batch: Option<BatchId>,
        trace: Option<TraceContext>,
    ) -> anyhow::Result<TaskSpec> {
        let mut selector = BTreeMap::new();
        for (key, value) in &self.select {
            if selector.insert(key.clone(), value.clone()).is_some_and(|old| old != *value) {
                let text = format!("--select {key} is given twice, with different values");
                return Err(Failure::user(text).into());
            }
        }
        let mut retry = Retry { attempts_max: self.retries.saturating_add(1), ..Retry::default() };
        if let Some(backoff) = self.backoff {
            retry.backoff_ms = millis(backoff);
            retry.backoff_max_ms = retry.backoff_max_ms.max(retry.backoff_ms);
        }
        let spec = TaskSpec {
            args: self.args.clone(),
            group: self.group.clone(),
            selector,
            priority: self.priority,
            limits: self.limits.limits(),
            grants: Arc::new(self.grants.grants()?),
            retry,
            on_worker_lost: match self.on_worker_lost {
                Lost::Redispatch => OnWorkerLost::Redispatch,
                Lost::Fail => OnWorkerLost::Fail,
            },
            batch,
            trace,
            ..TaskSpec::new(module, input)
        };
        spec.check().map_err(|error| Failure::user(error.to_string()))?;
        Ok(spec)
    }
}

/// Reads `KEY=VALUE`.
fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("{text:?} is not KEY=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use muster_protocol::Digest;

    #[derive(Parser)]
    struct Args {
        #[command(flatten)]
        options: Options,
    }

    fn spec(line: &[&str]) -> Option<TaskSpec> {
        let line = Args::try_parse_from([&["x"], line].concat()).ok()?;
        let module = ModuleRef { name: None, digest: Digest([0; 32]) };
        line.options.spec(module, Data::EMPTY, None, None).ok()
    }

    #[test]
    fn without_options_a_task_has_its_defaults() {
        let module = ModuleRef { name: None, digest: Digest([0; 32]) };
        assert_eq!(spec(&[]), Some(TaskSpec::new(module, Data::EMPTY)));
    }

    #[test]
    fn options_become_the_task() {
        let line = "--group edge --select a=1 --select b=x=y --priority 90 --timeout 1m30s \
                    --memory 64MiB --retries 2 --on-worker-lost fail -- -v two";
        let spec = spec(&line.split_whitespace().collect::<Vec<_>>()).expect("well-formed");
        assert_eq!(spec.group.as_str(), "edge");
        assert_eq!(spec.selector.get("b").map(String::as_str), Some("x=y"));
        assert_eq!((spec.priority, spec.limits.timeout_ms), (90, 90_000));
        assert_eq!((spec.limits.memory_bytes, spec.retry.attempts_max), (64 << 20, 3));
        assert_eq!(spec.on_worker_lost, OnWorkerLost::Fail);
        assert_eq!(spec.args, ["-v", "two"]);
    }

    #[test]
    fn limits_and_grants_are_what_is_asked_for_and_no_more() {
        let line = "--cpu-time 2s --queue-time 1m --output-size 1KiB --log-size 2KiB \
                    --checkpoint-size 3KiB --env A=1 --env B=x=y --env C= --secret KEY \
                    --allow-http api.example.com:8080 --dir 4MiB --clock 1us --random";
        let spec = spec(&line.split_whitespace().collect::<Vec<_>>()).expect("well-formed");
        let limits = spec.limits;
        assert_eq!((limits.cpu_ms, limits.queue_ms, limits.output_bytes), (2_000, 60_000, 1_024));
        assert_eq!((limits.log_bytes, limits.checkpoint_bytes), (2_048, 3_072));
        let grants = &spec.grants;
        let env: Vec<_> = grants.env.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(env, [("A", "1"), ("B", "x=y"), ("C", "")]);
        assert_eq!(
            grants.to_string(),
            "env A, env B, env C, secret KEY, http api.example.com:8080, dir of 4194304 bytes, \
             clock of 1000 ns, random"
        );
    }

    #[test]
    fn a_variable_without_a_value_has_the_callers() {
        let path = std::env::var("PATH").expect("tests have one");
        let spec = spec(&["--env", "PATH"]).expect("well-formed");
        assert_eq!(spec.grants.env.get("PATH"), Some(&path));
    }

    #[test]
    fn what_no_task_may_have_is_refused() {
        for line in [
            &["--priority", "101"][..],
            &["--timeout", "0s"],
            &["--timeout", "30d"],
            &["--memory", "5GiB"],
            &["--select", "a"],
            &["--select", "a=1", "--select", "a=2"],
            &["--group", "Not A Name"],
            &["--cpu-time", "0s"],
            &["--queue-time", "8d"],
            &["--output-size", "65MiB"],
            &["--checkpoint-size", "65MiB"],
            &["--log-size", "2GiB"],
            &["--env", "=x"],
            &["--env", "A=1", "--env", "A=2"],
            &["--env", "MUSTER_TEST_THAT_NOBODY_SETS"],
            &["--env", "A=1", "--secret", "A"],
            &["--allow-http", "https://example.com"],
            &["--dir", "17GiB"],
            &["--clock", "0ms"],
        ] {
            assert_eq!(spec(line), None, "{line:?}");
        }
    }
}
