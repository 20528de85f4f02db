//! The condition and the effect of each action of `home`. An action returns `None` if it is not
//! possible. Never chooses between actions.

use super::*;

impl Home {
    fn has(&self, fault: Fault) -> bool {
        self.broken.contains(&fault)
    }

    /// The value of `L_m` when the wait begins.
    fn wait(&self) -> u8 {
        if self.has(Fault::WaitsTooShort) { WAIT - 1 } else { WAIT }
    }

    /// Whether the worker's session has not lapsed.
    fn is_open(&self, worker: &Worker) -> bool {
        let revives = self.has(Fault::CountsAfterLapse) && worker.run != Run::Killed;
        worker.left > MARGIN || revives
    }

    pub(super) fn act(&self, s: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Tick => tick(s),
            Action::Renew(home) => self.renew(s, home)?,
            Action::Land(slot) => self.land(s, slot)?,
            Action::Lose(slot) => drop(s.worker.sent[slot as usize].take()?),
            Action::Learn => self.learn(s)?,
            Action::Ask => {
                when(self.is_open(&s.worker))?;
                if self.in_flight == 1 {
                    s.worker.asks = [None; 2];
                }
                s.worker.asks[s.worker.home? as usize] =
                    Some(ExtendRequest { age: 0, acknowledged: false });
            }
            Action::Extend(m) => self.extend(s, m)?,
            Action::Hear(m) => self.hear(s, m)?,
            Action::Start => {
                when(s.worker.run == Run::Expected && s.worker.left > MARGIN)?;
                s.worker.run = Run::Runs;
            }
            Action::See(m) => self.see(s, m)?,
            Action::Declare(m) => self.declare(s, m)?,
            Action::LandLost(m) => {
                let master = s.masters[m as usize];
                when(master.declared && master.seen.is_some() && !s.key.lost)?;
                s.key.lost = true;
            }
            Action::LapseMaster(m) => {
                let lease = &mut s.masters[m as usize].lease;
                when(*lease == MasterLease::Held)?;
                *lease = MasterLease::Lapsed;
            }
            Action::RenewMaster(m) => {
                let lease = &mut s.masters[m as usize].lease;
                when(*lease == MasterLease::Lapsed)?;
                *lease = MasterLease::Held;
            }
            Action::DeposeMaster(m) => {
                let lease = &mut s.masters[m as usize].lease;
                when(*lease == MasterLease::Lapsed)?;
                *lease = MasterLease::Lost(self.wait());
            }
            Action::Redispatch => {
                let waited = s.masters.iter().any(|master| master.seen == Some(0));
                when(s.key.lost || (s.key.stranger && waited))?;
                s.replaced = true;
            }
            Action::HearOlder => {
                when(self.is_open(&s.worker))?;
                s.worker.home = Some(s.key.older?);
            }
            Action::ReadBack => {
                let current = s.worker.landed.is_none() && self.is_open(&s.worker);
                when(self.has(Fault::CountsReadBack) && current)?;
                s.worker.home = Some(s.key.home);
            }
            Action::Usurp => {
                when(self.has(Fault::StrangerIsWaitedFor) && !s.key.lost && !s.key.stranger)?;
                s.key.stranger = true;
                s.worker.landed = None;
                self.key_moved(s);
            }
        }
        Some(())
    }

    /// Drops the writes from the earlier revision of the key: none of them can be accepted.
    fn key_moved(&self, s: &mut State) {
        s.worker.sent = [None; SENT_MAX];
        if !self.has(Fault::DeclaresWithoutCas) {
            s.masters.iter_mut().for_each(|master| master.seen = None);
        }
    }

    fn renew(&self, s: &mut State, home: u8) -> Option<()> {
        let knows = s.worker.landed.is_none() && !s.key.lost && !s.key.stranger;
        when(knows && self.is_open(&s.worker))?;
        let slot = s.worker.sent[..self.in_flight].iter_mut().find(|slot| slot.is_none())?;
        *slot = Some(Renewal { home, age: 0 });
        if s.worker.home != Some(home) && !self.has(Fault::CountsOldHomeAfterSwitch) {
            s.worker.home = None;
        }
        Some(())
    }

    fn land(&self, s: &mut State, slot: u8) -> Option<()> {
        let renewal = s.worker.sent[slot as usize]?;
        s.key.older = self.has(Fault::CountsOlderAnswer).then_some(s.key.home);
        s.key.home = renewal.home;
        s.key.late = !self.is_open(&s.worker);
        s.worker.landed = Some(renewal.age);
        self.key_moved(s);
        Some(())
    }

    fn learn(&self, s: &mut State) -> Option<()> {
        when(self.is_open(&s.worker) && !s.key.lost)?;
        let age = s.worker.landed.take()?;
        let age = if self.has(Fault::StampsAtAnswer) { 0 } else { age };
        s.worker.home = Some(s.key.home);
        s.worker.left = s.worker.left.max(KILLED - age);
        Some(())
    }

    /// Any master may acknowledge, even one that is not the home: the worker counts only its home's
    /// answers.
    fn extend(&self, s: &mut State, m: u8) -> Option<()> {
        let (ask, master) = (s.worker.asks[m as usize].as_mut()?, &mut s.masters[m as usize]);
        when(!ask.acknowledged)?;
        when(master.lease == MasterLease::Held || self.has(Fault::ExtendsPastOwnLease))?;
        when(!master.declared || self.has(Fault::ExtendsAfterLost))?;
        ask.acknowledged = true;
        if !self.has(Fault::ForgetsExtensions) {
            master.seen = master.seen.map(|_| self.wait());
        }
        Some(())
    }

    fn hear(&self, s: &mut State, m: u8) -> Option<()> {
        when(s.worker.home == Some(m) && self.is_open(&s.worker))?;
        let ask = s.worker.asks[m as usize].take().filter(|ask| ask.acknowledged)?;
        let age = if self.has(Fault::StampsExtensionAtAnswer) { 0 } else { ask.age };
        s.worker.left = s.worker.left.max(KILLED - age);
        Some(())
    }

    /// A master that sees a newer revision knows that its `lost` from an earlier revision is void.
    fn see(&self, s: &mut State, m: u8) -> Option<()> {
        let master = &mut s.masters[m as usize];
        let behind = master.seen.is_none() || self.has(Fault::DeclaresWithoutCas);
        when(behind && !s.key.lost)?;
        master.seen = Some(self.wait());
        master.declared = false;
        Some(())
    }

    fn declare(&self, s: &mut State, m: u8) -> Option<()> {
        let deposed = match s.masters[1 - m as usize].lease {
            MasterLease::Lost(wait) => wait == 0 || self.has(Fault::TakesOverAtOnce),
            MasterLease::Held | MasterLease::Lapsed => false,
        };
        let is_home = s.key.home == m;
        let master = &mut s.masters[m as usize];
        when(is_home || deposed || self.has(Fault::NonHomeDeclares))?;
        when(master.seen? == 0 || (!is_home && self.has(Fault::TakesOverBesideM1)))?;
        when(!s.key.lost && !s.key.stranger && !master.declared)?;
        master.declared = true;
        Some(())
    }

    /// Drops the parts of a state that cannot matter any more, so that states which differ only in them
    /// are the same state.
    pub(super) fn forget(&self, s: &mut State) {
        s.worker.sent[..self.in_flight].sort_unstable();
        if s.key.lost {
            s.worker.sent = [None; SENT_MAX];
        }
        if !self.is_open(&s.worker) {
            s.worker.asks = [None; 2];
            s.worker.home = None;
            s.worker.landed = None;
        }
        if s.key.lost && !self.is_open(&s.worker) {
            let idle = Master { lease: MasterLease::Held, seen: None, declared: false };
            s.masters = [idle; 2];
        }
    }
}

fn when(possible: bool) -> Option<()> {
    possible.then_some(())
}

fn tick(s: &mut State) {
    let worker = &mut s.worker;
    worker.left = worker.left.saturating_sub(1);
    if worker.left == 0 && worker.run == Run::Runs {
        worker.run = Run::Killed;
    }
    for renewal in worker.sent.iter_mut().flatten() {
        renewal.age = older(renewal.age);
    }
    worker.landed = worker.landed.map(older);
    for ask in &mut worker.asks {
        *ask = ask.map(|ask| ExtendRequest { age: older(ask.age), ..ask });
        *ask = ask.filter(|ask| ask.age < GATE_SHUT);
    }
    for master in &mut s.masters {
        master.seen = master.seen.map(|left| left.saturating_sub(1));
        if let MasterLease::Lost(left) = &mut master.lease {
            *left = left.saturating_sub(1);
        }
    }
}
