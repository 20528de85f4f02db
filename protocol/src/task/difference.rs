//! The difference between two tasks that have the same id. Never compares what is not part of the work.

use super::TaskSpec;

impl TaskSpec {
    /// The part in which the other task differs, as a word for people; `None` if both ask for the same
    /// work. The name under which the module was found is not compared, nor its signature, the trace or the batch.
    pub fn difference(&self, other: &TaskSpec) -> Option<&'static str> {
        // The two are usually the same allocation, and comparing a long input takes time.
        if core::ptr::eq(self, other) {
            return None;
        }
        // Destructured, so that a new field is not forgotten here.
        let TaskSpec {
            module,
            signature: _,
            input,
            args,
            group,
            selector,
            priority,
            limits,
            grants,
            retry,
            on_worker_lost,
            trace: _,
            batch: _,
        } = self;
        let parts = [
            ("module", module.digest == other.module.digest),
            ("input", *input == other.input),
            ("arguments", *args == other.args),
            ("group", *group == other.group),
            ("selector", *selector == other.selector),
            ("priority", *priority == other.priority),
            ("limits", *limits == other.limits),
            ("grants", *grants == other.grants),
            ("retries", *retry == other.retry),
            ("rule for a lost worker", *on_worker_lost == other.on_worker_lost),
        ];
        parts.into_iter().find(|(_, same)| !same).map(|(what, _)| what)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        BatchId, Digest,
        task::{Data, ModuleRef, TaskSpec},
        trace::TraceContext,
    };
    use alloc::sync::Arc;

    #[test]
    fn only_the_work_counts() {
        let module = |name: Option<&str>, byte| ModuleRef {
            name: name.map(Into::into),
            digest: Digest([byte; 32]),
        };
        let spec = TaskSpec::new(module(Some("a:1"), 1), Data::EMPTY);
        let check = |change: &dyn Fn(&mut TaskSpec), what| {
            let mut other = spec.clone();
            change(&mut other);
            assert_eq!(spec.difference(&other), what);
            assert_eq!(other.difference(&spec), what);
        };
        check(&|_| (), None);
        check(&|other| other.module.name = None, None);
        check(&|other| other.batch = Some(BatchId(1)), None);
        let trace = TraceContext { trace: 1, parent: 1, sampled: true };
        check(&|other| other.trace = Some(trace), None);
        check(&|other| other.module = module(Some("a:1"), 2), Some("module"));
        check(&|other| other.input = Data::Inline("x".into()), Some("input"));
        check(&|other| other.args.push("x".into()), Some("arguments"));
        check(&|other| other.group = "edge".parse().expect("a name"), Some("group"));
        check(&|other| other.limits.cpu_ms = 1, Some("limits"));
        check(&|other| Arc::make_mut(&mut other.grants).random = true, Some("grants"));
        check(&|other| other.retry.attempts_max = 2, Some("retries"));
    }
}
