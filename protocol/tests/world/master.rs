//! The master of the walk: its mind, and hands that do as it says or fail to.

use super::{Asker, Coming, TIMING, World, time};
use muster_protocol::{
    TaskId,
    fleet::{self, Answer, Fleet, LinkId},
    lease::CasAnswer,
    message::ToMaster,
};

pub fn new_fleet(life: u64) -> Fleet {
    let me = "m1".parse().expect("a name");
    Fleet::new(fleet::Config { me, timing: TIMING, seed: life })
}

impl World {
    pub fn start_master(&mut self) {
        self.master_life += 1;
        self.fleet = new_fleet(self.master_life);
        self.watch_at = self.now;
        self.fleet_due = 0;
        let life = self.master_life;
        let mut events = vec![fleet::Event::RegistryUp];
        let leases = self.leases.values().cloned();
        events.extend(leases.map(|(lease, at)| fleet::Event::LeaseSeen(lease, at)));
        let tasks = self.tasks.values();
        events.extend(
            tasks.map(|(task, at)| fleet::Event::TaskSeen(Box::new((**task).clone()), *at)),
        );
        events.push(fleet::Event::Loaded);
        for event in events {
            self.tell_master(life, event);
        }
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.cut(link);
        }
    }

    pub fn tell_master(&mut self, life: u64, event: fleet::Event) {
        if life == self.master_life || life == u64::MAX {
            self.fleet.observe(time(self.now), event);
            // Sometimes several facts are learned before it plans.
            if self.chance.once_in(4) {
                self.fleet_due = self.now + 1;
                self.later(1, Coming::FleetTick(self.master_life, self.fleet_due));
            } else {
                self.plan();
            }
        }
    }

    pub fn plan(&mut self) {
        let mut out = Vec::new();
        self.fleet.plan(time(self.now), &mut out);
        for effect in out {
            self.perform(effect);
        }
        if let Some(at) = self.fleet.wakeup() {
            assert!(at > time(self.now), "it would be woken without end");
            let due = self.now + at.since(time(self.now)).as_nanos().div_ceil(1_000_000) as u64;
            if due != self.fleet_due {
                self.fleet_due = due;
                self.later(due - self.now, Coming::FleetTick(self.master_life, due));
            }
        }
    }

    pub fn perform(&mut self, effect: fleet::Effect) {
        let life = self.master_life;
        let wait = self.soon();
        match effect {
            fleet::Effect::WriteTask { expect, record, .. } => {
                let task = record.id;
                let event = fleet::Event::TaskWritten { task, answer: CasAnswer::Unknown };
                let known = self.arrives(Coming::Master(life, event));
                let asker = known.then_some(life);
                self.write_later(known, Coming::WriteTask { expect, record, asker });
            }
            fleet::Effect::WriteLease { expect, lease, asked_by } => {
                let answer = CasAnswer::Unknown;
                let event = fleet::Event::LeaseWritten { lease: lease.clone(), asked_by, answer };
                let known = self.arrives(Coming::Master(life, event));
                let asker = if known { Asker::Master(life, asked_by) } else { Asker::Nobody };
                self.write_later(known, Coming::WriteLease { expect, lease, asker });
            }
            fleet::Effect::ReadTask(id) => {
                if self.registry_up && (self.healing || !self.chance.once_in(10)) {
                    self.later(wait, Coming::ReadTask(life, id));
                }
            }
            fleet::Effect::Send { link, message } => {
                if let Some(known) = self.links.get_mut(&link) {
                    known.down = known.down.max(self.now + wait);
                    let wait = known.down - self.now;
                    self.later(wait, Coming::ToWorker(link, message));
                }
            }
            fleet::Effect::Reply { request, answer } => {
                if let Answer::Stored(_) = answer {
                    let id = TaskId(u128::from(request));
                    assert!(self.tasks.contains_key(&id), "acknowledged and not stored");
                    self.accepted.insert(id);
                }
            }
            fleet::Effect::Tell { .. } | fleet::Effect::Publish(_) => {}
        }
    }

    pub fn hear(&mut self, link: LinkId, message: ToMaster) {
        let Some(known) = self.links.get(&link).filter(|link| !link.dead) else { return };
        let life = known.master_life;
        let worker = self.workers[known.worker].name.clone();
        let event = match message {
            ToMaster::Hello { session, attempts, .. } => {
                fleet::Event::Linked { worker, link, session, attempts }
            }
            ToMaster::Renew { expect, lease } => {
                fleet::Event::RenewAsked { worker, link, expect, lease }
            }
            ToMaster::Finished { key, outcome } => {
                fleet::Event::Finished { worker, link, key, outcome }
            }
            ToMaster::Progress { .. } => return,
        };
        self.tell_master(life, event);
    }
}
