//! The mutants: what could be wrong with the protocol or its shells, each behind a switch of its
//! own. Never more than text: `mutants` puts it into a copy of the sources.
//!
//! `ON[name]` in a replacement is true while the mutant of that name is switched on. A mutant that
//! nobody noticed would mean that the simulation is too tame, or that the guard it takes away is
//! not needed. These are not here because other guards make them needless: that a lapsed session is
//! not renewed (only the registry could, and then nobody has declared it lost), that only the known
//! home extends and counts (a worker asks only that, and it counts from the stamp of what was asked),
//! that a home extends nothing that it has declared, or may have (that has lapsed), and that an
//! answer to another session does not count (its revision is none that this one could build upon).

/// A change to the sources that does nothing until one of its mutants is switched on.
#[derive(Clone, Copy, Debug)]
pub struct Edit {
    /// Which file, from the root of the workspace.
    pub file: &'static str,
    /// What is in it, once.
    pub find: &'static str,
    /// What takes its place.
    pub replace: &'static str,
}

const fn edit(file: &'static str, find: &'static str, replace: &'static str) -> Edit {
    Edit { file, find, replace }
}

const FLEET: &str = "protocol/src/fleet.rs";
const HOLD: &str = "protocol/src/fleet/hold.rs";
const SUBMIT: &str = "protocol/src/fleet/submit.rs";
const FLEET_LEASE: &str = "protocol/src/fleet/lease.rs";
const MASTERS: &str = "protocol/src/fleet/masters.rs";
const SETTLE: &str = "protocol/src/fleet/settle.rs";
const RECORD: &str = "protocol/src/fleet/record.rs";
const HOLDER: &str = "protocol/src/lease/holder.rs";
const TENURE: &str = "protocol/src/lease/tenure.rs";
const TOLD: &str = "protocol/src/attempts/told.rs";
const OVER: &str = "protocol/src/attempts/over.rs";
const CLOCK: &str = "tests/sim/src/clock.rs";
const REGISTRY: &str = "tests/sim/src/registry.rs";
const KEEPER: &str = "tests/sim/src/process/lease.rs";
const GUEST: &str = "tests/sim/src/process/guest.rs";
const MASTER: &str = "tests/sim/src/process/master.rs";

/// Every change.
pub const EDITS: &[Edit] = &[
    edit(
        KEEPER,
        "        let keeper = &self.workers[at].keeper;
        let until = keeper.holder.until();
        if keeper",
        "        let clock = self.worker_clock(at);
        let keeper = &self.workers[at].keeper;
        let until = keeper.holder.until();
        let late = ON[stamp-at-acknowledgement] && until > before;
        let until = if late { clock + self.setting.timing.worker() } else { until };
        if keeper",
    ),
    edit(
        FLEET_LEASE,
        "            return matches!(lease.standing, Standing::Released | Standing::Lost);",
        "            return matches!(lease.standing, Standing::Released | Standing::Lost)
                || (ON[acts-before-lost-is-written] && worker.condemned);",
    ),
    edit(
        FLEET_LEASE,
        "        let Some(worker) = self.workers.get(&attempt.worker) else { return false };
        let Some(lease) = &worker.lease else { return false };",
        "        let Some(worker) = self.workers.get(&attempt.worker) else { return false };
        let Some(lease) = &worker.lease else { return false };
        if ON[silence-alone-is-loss] && now >= self.runs_out(worker) {
            return true;
        }",
    ),
    edit(
        CLOCK,
        "    pub fn clock(&self, now: Nanos) -> Time {
        self.boottime(now)",
        "    pub fn clock(&self, now: Nanos) -> Time {
        if ON[monotonic-clock] {
            return self.monotonic(now);
        }
        self.boottime(now)",
    ),
    edit(
        REGISTRY,
        "            Op::Lease(expect, lease, asked_by) => {
",
        "            Op::Lease(expect, lease, asked_by) => {
                let is = self.registry.workers.values.get(&lease.worker).map_or(ABSENT, |is| is.1);
                let expect = if ON[plain-put-of-a-lease] { is } else { expect };
",
    ),
    edit(
        REGISTRY,
        "            Op::Task(expect, record) => {
",
        "            Op::Task(expect, record) => {
                let is = self.registry.tasks.values.get(&record.id).map_or(ABSENT, |is| is.1);
                let expect = if ON[plain-put-of-a-record] { is } else { expect };
",
    ),
    edit(
        FLEET,
        "        task.phase = Phase::Writing(record.clone());
",
        "        task.phase = Phase::Writing(record.clone());
        if ON[dispatch-before-store] {
            task.record = record.clone();
            task.phase = Phase::Idle;
            self.dirty.insert(id);
        }
",
    ),
    edit(
        RECORD,
        "            CasAnswer::Unknown => {
                task.phase = Phase::Asking;",
        "            CasAnswer::Unknown if ON[unknown-is-taken-for-written] => {
                self.adopt(now, intent, known + 1, true);
            }
            CasAnswer::Unknown => {
                task.phase = Phase::Asking;",
    ),
    edit(
        SETTLE,
        "            && report.attempt == attempt.id
",
        "            && (report.attempt == attempt.id || ON[any-attempts-outcome])
",
    ),
    edit(
        SETTLE,
        "        if !self.holds(&worker, key) {
            let inquiry = Inquiry { worker, link, key, outcome: Some(outcome) };",
        "        if !ON[any-attempts-outcome] && !self.holds(&worker, key) {
            let inquiry = Inquiry { worker, link, key, outcome: Some(outcome) };",
    ),
    edit(
        FLEET_LEASE,
        "            Some(lease) => self.may_declare_from(now, lease.home.clone().as_ref()),",
        "            Some(_) if ON[anybody-declares] => Some(Time::ZERO),
            Some(lease) => self.may_declare_from(now, lease.home.clone().as_ref()),",
    ),
    edit(
        FLEET_LEASE,
        "        let from = if from == Time::ZERO { from }",
        "        let from = if from == Time::ZERO || ON[no-wait-after-the-home-is-lost] { from }",
    ),
    edit(
        MASTERS,
        "now < self.tenure.until() && !self.over",
        "(ON[home-extends-past-its-own-lease] || now < self.tenure.until()) && !self.over",
    ),
    edit(
        MASTERS,
        "        let proven = self.config.succeeds.contains(&session);",
        "        let proven = ON[silent-masters-are-not-waited-for]
            || self.config.succeeds.contains(&session);",
    ),
    edit(
        MASTERS,
        "                out.push(Effect::WriteMaster { expect: peer.revision, lease });
            }",
        "                out.push(Effect::WriteMaster { expect: peer.revision, lease });
                if ON[acts-before-a-master-is-written-lost] {
                    self.peer_over(now, session);
                }
            }",
    ),
    edit(
        HOLDER,
        "        self.home_counts &= self.home == self.lease.home;",
        "        self.home_counts &= ON[old-home-counts-after-a-switch] || self.home == self.lease.home;",
    ),
    edit(
        TENURE,
        "        if revision <= self.known {",
        "        if revision <= self.known && !ON[a-late-acknowledgement-rewinds] {",
    ),
    edit(
        TENURE,
        "        let stamp = self.sent.iter().find(|(number, ..)| *number == renewal).map(|sent| sent.1);",
        "        let stamp = self.sent.iter().find(|(number, ..)| *number == renewal).map(|sent| sent.1);
        let newest = self.sent.last().map(|sent| sent.1);
        let stamp = if ON[a-late-extension-counts-for-the-newest-renewal] { newest } else { stamp };",
    ),
    edit(
        FLEET_LEASE,
        "        worker.seen.max(worker.extended).max(healthy) + worker.wait
",
        "        let extended =
            if ON[home-forgets-that-it-extended] { worker.seen } else { worker.extended };
        let wait = if ON[kill-margin-left-out] {
            worker.wait - self.config.timing.kill_margin()
        } else if ON[clock-rates-left-out] {
            worker.wait * 999 / 1_001
        } else {
            worker.wait
        };
        worker.seen.max(extended).max(healthy) + wait
",
    ),
    edit(
        TOLD,
        "        if self.closed || self.session != Some(dispatch.session) {",
        "        let own = ON[dispatch-not-bound-to-its-session]
            || self.session == Some(dispatch.session);
        if self.closed || !own {",
    ),
    edit(
        TOLD,
        "|| self.over.contains(&key) {",
        "|| (self.over.contains(&key) && !ON[an-ended-attempt-runs-again]) {",
    ),
    edit(
        OVER,
        "            Some(deadline) => self.attempts.is_empty()",
        "            Some(deadline) => ON[gives-the-lease-back-too-early] || self.attempts.is_empty()",
    ),
    edit(
        KEEPER,
        "                let dead = old.home_dir == keeper.draft.home_dir;",
        "                let dead =
                    ON[succession-without-the-lock] || old.home_dir == keeper.draft.home_dir;",
    ),
    edit(
        KEEPER,
        "        if machine.clock(self.now) >= worker.kernel_at {",
        "        if machine.clock(self.now) >= worker.kernel_at && !ON[no-kernel-timer] {",
    ),
    edit(
        GUEST,
        "        self.worker_clock(at) < self.workers[at].until",
        "        ON[no-fence-in-the-gate] || self.worker_clock(at) < self.workers[at].until",
    ),
    edit(
        MASTER,
        "        let session = SessionId(self.chance.any());
        let clock",
        "        let session = match &self.masters[at].mind {
            Some(mind) if ON[a-new-life-keeps-the-old-session] => mind.session,
            _ => SessionId(self.chance.any()),
        };
        let clock",
    ),
    edit(
        MASTER,
        "        let rewound = now < master.rewound_until;",
        "        let rewound = now < master.rewound_until && !ON[a-rewind-is-not-noticed];",
    ),
    edit(
        HOLD,
        "        self.registry_up = Some(now);",
        "        let long_ago = ON[no-wait-after-an-outage];
        self.registry_up = Some(if long_ago { Time::ZERO } else { now });",
    ),
    edit(
        FLEET_LEASE,
        "        let speaks = self.speaks_for(&id);
        let worker = self.worker(now, &id);",
        "        let speaks = self.speaks_for(&id);
        let long_ago = ON[no-wait-after-an-outage] && self.registry_up.is_none();
        let now = if long_ago { Time::ZERO } else { now };
        let worker = self.worker(now, &id);",
    ),
    edit(
        HOLD,
        "        self.held_until.is_some_and(|until| now < until)",
        "        self.held_until.is_some_and(|until| now < until) && !ON[no-wait-after-a-rewind]",
    ),
    edit(
        SUBMIT,
        "        if left == 0 {",
        "        if left == 0 || ON[acknowledges-before-it-stores] {",
    ),
    edit(
        FLEET_LEASE,
        "        if worker.revision < attempt.lease {",
        "        if worker.revision < attempt.lease && !ON[an-older-lease-proves-a-newer-session-over] {",
    ),
    edit(
        SETTLE,
        "        let Some(link) = link.filter(|_| !is_held) else { return };",
        "        if ON[cancels-before-the-run-has-stopped] && record.cancel {
            let outcome = Arc::new(Outcome::bare(Verdict::Cancelled));
            return self.commit(now, id, record, outcome, None, out);
        }
        let Some(link) = link.filter(|_| !is_held) else { return };",
    ),
];

/// The names of all mutants, in the order in which they appear.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for edit in EDITS {
        for part in edit.replace.split("ON[").skip(1) {
            let Some((name, _)) = part.split_once(']') else { continue };
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// The text of a file with a change made, or why it cannot be.
pub fn apply(edit: &Edit, text: &str) -> Result<String, String> {
    if text.matches(edit.find).count() != 1 {
        return Err(format!("{} has not, or not once:\n{}", edit.file, edit.find));
    }
    let switch = if edit.file.starts_with("protocol/") { "crate" } else { "muster_protocol" };
    let mut replace = edit.replace.to_string();
    for (at, name) in names().iter().enumerate() {
        let on = format!("{switch}::mutant({})", at + 1);
        replace = replace.replace(&format!("ON[{name}]"), &on);
    }
    Ok(text.replacen(edit.find, &replace, 1))
}
