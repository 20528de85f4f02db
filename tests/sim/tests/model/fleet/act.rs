//! The condition and the effect of each action of `fleet`. An action returns `None` if it is not
//! possible. Never chooses between actions.

use super::*;

impl Fleet {
    fn has(&self, fault: Fault) -> bool {
        self.0 == Some(fault)
    }

    /// The value of `L_m` when the wait begins.
    pub(super) fn wait(&self) -> u8 {
        if self.has(Fault::WaitsTooShort) { WAIT - 1 } else { WAIT }
    }

    pub(super) fn act(&self, s: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Tick => tick(s),
            Action::Renew(w) => self.renew(s, w as usize)?,
            Action::Land(w, slot) => self.land(s, w, slot)?,
            Action::Lose(w, slot) => drop(s.workers[w as usize].sent[slot as usize].take()?),
            Action::Learn(w) => self.learn(s, w as usize)?,
            Action::Restart(w) => {
                let worker = &mut s.workers[w as usize];
                when(worker.session < SESSIONS)?;
                worker.session += 1;
                *worker = Worker { held: false, left: 0, runs: 0, landed: None, ..*worker };
            }
            Action::Finish(w) => {
                let worker = &mut s.workers[w as usize];
                s.outcomes |= worker.runs;
                worker.runs = 0;
            }
            Action::Deliver(slot) => self.deliver(s, slot)?,
            Action::Declare(m, w) => {
                let key = s.keys[w as usize];
                when(key.wait == 0 && !key.lost && s.masters[m as usize].is_none())?;
                s.masters[m as usize] = Some(Write::Lost(w));
            }
            Action::Dispatch(m, w) => self.dispatch(s, m, w)?,
            Action::Commit(m, attempt) => {
                let Task::Dispatched(dispatch) = s.task else { return None };
                when(dispatch.attempt == attempt && s.outcomes & (1 << attempt) != 0)?;
                when(s.masters[m as usize].is_none())?;
                s.masters[m as usize] = Some(Write::Commit(attempt));
            }
            Action::Store(m) => self.store(s, m)?,
            Action::LoseWrite(m) => drop(s.masters[m as usize].take()?),
            Action::Usurp(w) => {
                let key = &mut s.keys[w as usize];
                when(self.has(Fault::SucceedsWithoutProof) && key.session != STRANGER)?;
                (key.session, key.lost) = (STRANGER, false);
                self.key_moved(s, w);
            }
        }
        Some(())
    }

    /// Drops the writes from the earlier revision of the key: none of them can be accepted.
    fn key_moved(&self, s: &mut State, w: u8) {
        s.workers[w as usize].sent = [None; SENT_MAX];
        let behind = [Fault::DeclaresWithoutCas, Fault::RedispatchesBeforeLost];
        if !behind.iter().any(|&fault| self.has(fault)) {
            s.keys[w as usize].wait = self.wait();
        }
        for write in &mut s.masters {
            let stale = *write == Some(Write::Lost(w));
            *write = write.filter(|_| !stale || self.has(Fault::DeclaresWithoutCas));
        }
    }

    /// Drops the writes from the earlier revision of the task: none of them can be accepted.
    fn task_moved(&self, s: &mut State) {
        for write in &mut s.masters {
            *write = write.filter(|write| match write {
                Write::Lost(_) => true,
                Write::Commit(_) => self.has(Fault::CommitsWithoutCas),
                Write::Dispatch(_) => false,
            });
        }
    }

    /// A session without a lease reads the key before it writes. A session with a lease does not read it
    /// again.
    fn renew(&self, s: &mut State, w: usize) -> Option<()> {
        when(!s.has_lapsed(w) && s.workers[w].landed.is_none())?;
        let (key, worker) = (s.keys[w], &mut s.workers[w]);
        let own = key.session == worker.session;
        let risen = key.lost && self.has(Fault::RisesFromLost);
        when(if worker.held { own && !key.lost } else { !own || risen })?;
        when(key.session != STRANGER)?;
        when(worker.sent.iter().flatten().all(|sent| sent.session != worker.session))?;
        let slot = worker.sent.iter_mut().find(|slot| slot.is_none())?;
        *slot = Some(Renewal { session: worker.session, age: 0 });
        Some(())
    }

    fn land(&self, s: &mut State, w: u8, slot: u8) -> Option<()> {
        let (key, worker) = (&mut s.keys[w as usize], &mut s.workers[w as usize]);
        let renewal = worker.sent[slot as usize]?;
        (key.session, key.lost) = (renewal.session, false);
        worker.landed = (renewal.session == worker.session).then_some(renewal.age);
        self.key_moved(s, w);
        Some(())
    }

    fn learn(&self, s: &mut State, w: usize) -> Option<()> {
        when(!s.has_lapsed(w))?;
        let worker = &mut s.workers[w];
        let age = worker.landed.take()?;
        let age = if self.has(Fault::StampsAtAnswer) { 0 } else { age };
        worker.held = true;
        worker.left = worker.left.max(KILLED - age);
        Some(())
    }

    /// Delivers a dispatch once: a worker recognizes an attempt that it has had.
    fn deliver(&self, s: &mut State, slot: u8) -> Option<()> {
        let dispatch = s.mail[slot as usize].take()?;
        let worker = &mut s.workers[dispatch.worker as usize];
        let meant = dispatch.session == worker.session;
        when(meant || self.has(Fault::DispatchNamesNoSession))?;
        when(worker.left > MARGIN)?;
        worker.runs |= 1 << dispatch.attempt;
        Some(())
    }

    fn is_over(&self, s: &State, given: Dispatch) -> bool {
        let key = s.keys[given.worker as usize];
        let waited = key.wait == 0 && self.has(Fault::RedispatchesBeforeLost);
        key.session > given.session || (key.session == given.session && (key.lost || waited))
    }

    /// Chooses any session that has the key, even a lost one: the session may be lost before the task is
    /// written in any case.
    fn dispatch(&self, s: &mut State, m: u8, w: u8) -> Option<()> {
        let attempt = match s.task {
            Task::Queued => 1,
            Task::Dispatched(given) if self.is_over(s, given) => given.attempt + 1,
            Task::Dispatched(_) | Task::Done => return None,
        };
        let session = s.keys[w as usize].session;
        when(attempt <= ATTEMPTS && session != STRANGER && s.masters[m as usize].is_none())?;
        let dispatch = Dispatch { attempt, worker: w, session };
        s.masters[m as usize] = Some(Write::Dispatch(dispatch));
        if self.has(Fault::SendsBeforeItIsStored) {
            send(s, dispatch)?;
        }
        Some(())
    }

    fn store(&self, s: &mut State, m: u8) -> Option<()> {
        match s.masters[m as usize].take()? {
            Write::Lost(w) => {
                s.keys[w as usize].lost = true;
                self.key_moved(s, w);
            }
            Write::Dispatch(dispatch) => {
                s.task = Task::Dispatched(dispatch);
                self.task_moved(s);
                if !self.has(Fault::SendsBeforeItIsStored) {
                    send(s, dispatch)?;
                }
            }
            Write::Commit(_) => {
                s.task = Task::Done;
                s.committed += 1;
                self.task_moved(s);
            }
        }
        Some(())
    }

    /// Drops the parts of a state that cannot matter any more, and the order of equal parts, so that
    /// states which differ only in them are the same state.
    pub(super) fn forget(&self, s: &mut State) {
        for w in 0..2 {
            if s.has_lapsed(w) || s.keys[w].lost || s.keys[w].session != s.workers[w].session {
                s.workers[w].landed = None;
            }
            if s.keys[w].lost {
                s.keys[w].wait = 0;
            }
        }
        if let Task::Dispatched(given) = s.task {
            s.outcomes &= 1 << given.attempt;
        }
        let (seen, anyone) = (*s, self.has(Fault::DispatchNamesNoSession));
        for slot in &mut s.mail {
            *slot = slot.filter(|dispatch| {
                let w = dispatch.worker as usize;
                let worker = seen.workers[w];
                // A dispatch that names no session may wait for the last session.
                let last = if anyone { SESSIONS } else { dispatch.session };
                worker.session < last || (worker.session == last && !seen.has_lapsed(w))
            });
        }
        sort(s);
        let mut twin = swapped(*s);
        sort(&mut twin);
        *s = twin.min(*s);
    }
}

fn when(possible: bool) -> Option<()> {
    possible.then_some(())
}

fn send(s: &mut State, dispatch: Dispatch) -> Option<()> {
    *s.mail.iter_mut().find(|slot| slot.is_none())? = Some(dispatch);
    Some(())
}

fn tick(s: &mut State) {
    for worker in &mut s.workers {
        worker.left = worker.left.saturating_sub(1);
        if worker.left == 0 {
            worker.runs = 0;
        }
        for renewal in worker.sent.iter_mut().flatten() {
            renewal.age = older(renewal.age);
        }
        worker.landed = worker.landed.map(older);
    }
    for key in &mut s.keys {
        key.wait = key.wait.saturating_sub(1);
    }
}

fn sort(s: &mut State) {
    s.workers.iter_mut().for_each(|worker| worker.sent.sort_unstable());
    s.mail.sort_unstable();
    s.masters.sort_unstable();
}

/// The same state with the two workers exchanged.
fn swapped(mut s: State) -> State {
    let other = |dispatch: &mut Dispatch| dispatch.worker = 1 - dispatch.worker;
    s.workers.swap(0, 1);
    s.keys.swap(0, 1);
    if let Task::Dispatched(dispatch) = &mut s.task {
        other(dispatch);
    }
    s.mail.iter_mut().flatten().for_each(other);
    for write in s.masters.iter_mut().flatten() {
        match write {
            Write::Lost(w) => *w = 1 - *w,
            Write::Dispatch(dispatch) => other(dispatch),
            Write::Commit(_) => {}
        }
    }
    s
}
