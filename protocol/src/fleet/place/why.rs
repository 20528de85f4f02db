//! Why a queued task is not placed, as sentences for people. Never decides anything.

use super::{Fleet, Need};
use crate::{
    WorkerId,
    grant::RequestedGrants,
    task::{TaskRecord, TaskSpec},
};
use alloc::{format, string::String};

impl Fleet {
    /// Why no worker of the group may run the task, if workers would fit but for their policies: a
    /// sentence that quotes the policy of one of them.
    pub fn denied(&self, spec: &TaskSpec) -> Option<String> {
        let group = self.scheduler.group(&spec.group)?;
        let wants = spec.requested();
        let need = Need { wants: RequestedGrants::default(), ..Need::of_spec(spec) };
        let mut denial: Option<(&WorkerId, String)> = None;
        for (offer, workers) in group.candidates().fitting(&need) {
            let why = offer.policy.denies(&wants)?;
            let worker = workers.first()?;
            if denial.as_ref().is_none_or(|(first, _)| worker < *first) {
                denial = Some((worker, why));
            }
        }
        let (worker, why) = denial?;
        let group = &spec.group;
        Some(format!(
            "no worker of group {group} grants what it asks for: the policy of {worker} {why}"
        ))
    }

    /// Which workers of its group the task lacks.
    pub(in crate::fleet) fn explain_room(&self, record: &TaskRecord) -> String {
        let name = &record.spec.group;
        let candidates = self.scheduler.group(name).map(|group| group.candidates());
        let Some(candidates) = candidates.filter(|candidates| !candidates.is_empty()) else {
            return format!(
                "no worker of group {name} is connected to this master and takes new attempts"
            );
        };
        let need = Need::of(record);
        let fit: usize = candidates.fitting(&need).map(|(_, workers)| workers.len()).sum();
        if fit == 0 {
            let any = Need { memory_bytes: 0, ..need.clone() };
            let most = candidates.fitting(&any).map(|(offer, _)| offer.run_memory_max()).max();
            return match most {
                None => format!(
                    "none of the {} connected workers of group {name} has the labels it needs",
                    candidates.len()
                ),
                Some(most) => format!(
                    "its limit of memory is {} MiB, and workers of group {name} that have its labels give a run at most {} MiB",
                    need.memory_bytes.div_ceil(MIB),
                    most / MIB
                ),
            };
        }
        if need.alone {
            return self.explain_alone(record, fit);
        }
        if candidates.choose_to_keep(&need).is_some() {
            return format!(
                "the {fit} workers of group {name} that fit have less than {} MiB of memory left beside what runs there",
                need.memory_bytes.div_ceil(MIB)
            );
        }
        format!("all slots of the {fit} workers of group {name} that fit are taken")
    }

    fn explain_alone(&self, record: &TaskRecord, fit: usize) -> String {
        let (losses, name) = (record.losses, &record.spec.group);
        let kept = record.kept().filter(|kept| self.lease_kept(record.id, kept).is_some());
        let waits = match kept.and_then(|kept| self.workers.get(&kept.worker).zip(Some(kept))) {
            Some((worker, kept)) => format!(
                "worker {} is kept free for it and still has {} other attempts",
                kept.worker,
                worker.tasks().count()
            ),
            None => format!("the {fit} workers of group {name} that fit have other attempts"),
        };
        format!("it was lost with its worker {losses} times, so it has to run alone: {waits}")
    }
}

const MIB: u64 = 1024 * 1024;
