//! The mutants of the shipped code, as text replacements. Each breaks one rule.

use super::Edit;

pub(super) const fn edit(file: &'static str, find: &'static str, replace: &'static str) -> Edit {
    Edit { file, find, replace }
}

pub(super) const FLEET: &str = "protocol/src/fleet.rs";
const GUARD: &str = "protocol/src/fleet/guard.rs";
pub(super) const ROLL: &str = "protocol/src/fleet/roll_call.rs";
const SCHEDULER: &str = "protocol/src/fleet/place/scheduler.rs";
const LINK: &str = "protocol/src/fleet/link.rs";
const SUBMIT: &str = "protocol/src/fleet/submit.rs";
const HOME: &str = "protocol/src/fleet/home.rs";
const LIVENESS: &str = "protocol/src/fleet/liveness.rs";
const MASTERS: &str = "protocol/src/fleet/masters.rs";
const SETTLE: &str = "protocol/src/fleet/reconcile.rs";
pub(super) const RECORD: &str = "protocol/src/fleet/record.rs";
pub(super) const RETRY: &str = "protocol/src/fleet/retry.rs";
const SESSIONS: &str = "protocol/src/sessions.rs";
const HOLDER: &str = "protocol/src/lease/holder.rs";
const LOOP: &str = "protocol/src/lease/lease_loop.rs";
const LEASE_CLOCK: &str = "protocol/src/lease/lease_clock.rs";
pub(super) const ATTEMPTS: &str = "protocol/src/attempts.rs";
const PEERS: &str = "protocol/src/fleet/peers.rs";
pub(super) const ENDING: &str = "protocol/src/attempts/ending.rs";
pub(super) const TOLD: &str = "protocol/src/attempts/on_message.rs";
pub(super) const OVER: &str = "protocol/src/attempts/shutdown.rs";

/// Every edit of this file.
pub(super) const EDITS: &[Edit] = &[
    edit(
        LIVENESS,
        "            return matches!(lease.state, LeaseState::Released | LeaseState::Lost);",
        "            return matches!(lease.state, LeaseState::Released | LeaseState::Lost)
                || (ON[acts-before-lost-is-written] && worker.lost_sent);",
    ),
    edit(
        LIVENESS,
        "        let Some(worker) = self.workers.get(&attempt.worker) else { return false };
        let Some(lease) = &worker.lease else { return false };",
        "        let Some(worker) = self.workers.get(&attempt.worker) else { return false };
        let Some(lease) = &worker.lease else { return false };
        if ON[silence-alone-is-loss] && now >= self.runs_out(worker) {
            return true;
        }",
    ),
    edit(
        FLEET,
        "        task.phase = Phase::Writing(record.clone());
",
        "        task.phase = Phase::Writing(record.clone());
        if ON[dispatch-before-store] {
            task.record = record.clone();
            task.phase = Phase::Idle;
            self.agenda.task(id);
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
            return self.inquire(now, worker, link, held, Some(outcome));",
        "        if !ON[any-attempts-outcome] && !self.holds(&worker, key) {
            return self.inquire(now, worker, link, held, Some(outcome));",
    ),
    edit(
        LIVENESS,
        "            Some(lease) => self.may_declare_from(now, lease.home.clone().as_ref()),",
        "            Some(_) if ON[anybody-declares] => Some(Time::ZERO),
            Some(lease) => self.may_declare_from(now, lease.home.clone().as_ref()),",
    ),
    edit(
        LIVENESS,
        "        let from = if from == Time::ZERO { from }",
        "        let from = if from == Time::ZERO || ON[no-wait-after-the-home-is-lost] { from }",
    ),
    edit(
        HOME,
        "        (now < until && lease == session)",
        "        ((ON[home-extends-past-its-own-lease] || now < until) && lease == session)",
    ),
    edit(
        HOME,
        "let (home, until, lease) = if self.roll.is_loaded() {
            let home",
        "let earlier = self.config.memory.extendable.is_some();
        let (home, until, lease) = if self.roll.is_loaded()
            && !(ON[an-earlier-home-extends-after-its-end] && earlier)
        {
            let home",
    ),
    edit(
        MASTERS,
        "if (self.own.over || is_silent)",
        "let is_silent = is_silent && !ON[a-server-that-is-cut-off-is-kept];
        if (self.own.over || is_silent)",
    ),
    edit(
        MASTERS,
        "        let proven = self.config.succeeds.contains(&session);",
        "        let proven = ON[silent-masters-are-not-waited-for]
            || self.config.succeeds.contains(&session);",
    ),
    edit(
        MASTERS,
        "        out.push(Effect::WriteMaster { expect: peer.revision, lease });
    }",
        "        out.push(Effect::WriteMaster { expect: peer.revision, lease });
        if ON[acts-before-a-master-is-written-lost] {
            self.peer_over(now, session, now);
        }
    }",
    ),
    edit(
        MASTERS,
        "            self.peer_over(now, session, ended.unwrap_or(now));",
        "            if ON[workers-of-a-home-that-is-known-to-be-over-are-forgotten]
                && let (Some(ended), Some(peer)) = (ended, self.peers.get_mut(&session))
            {
                peer.over = Some(ended);
            }
            self.peer_over(now, session, ended.unwrap_or(now));",
    ),
    edit(
        MASTERS,
        "        let wait = self.config.timing.outage_wait().max(Duration::from_millis(asked));",
        "        let asked = if ON[the-waits-of-other-masters-are-not-asked-for] { 0 } else { asked };
        let wait = self.config.timing.outage_wait().max(Duration::from_millis(asked));",
    ),
    edit(
        HOLDER,
        "        self.home_counts &= self.home == self.lease.home;",
        "        self.home_counts &= ON[old-home-counts-after-a-switch] || self.home == self.lease.home;",
    ),
    edit(
        LEASE_CLOCK,
        "        if revision <= self.known {",
        "        if revision <= self.known && !ON[a-late-acknowledgement-rewinds] {",
    ),
    edit(
        LEASE_CLOCK,
        "        let stamp = self.sent.iter().find(|(number, ..)| *number == renewal).map(|sent| sent.1);",
        "        let stamp = self.sent.iter().find(|(number, ..)| *number == renewal).map(|sent| sent.1);
        let newest = self.sent.last().map(|sent| sent.1);
        let stamp = if ON[a-late-extension-counts-for-the-newest-renewal] { newest } else { stamp };",
    ),
    edit(
        LIVENESS,
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
        OVER,
        "                self.attempts.is_empty() || (now >= deadline && self.running.count() == 0)",
        "                let early = ON[gives-the-lease-back-too-early];
                early || self.attempts.is_empty() || (now >= deadline && self.running.count() == 0)",
    ),
    edit(
        ROLL,
        "        self.registry_up = Some(now);",
        "        let long_ago = ON[no-wait-after-an-outage];
        self.registry_up = Some(if long_ago { Time::ZERO } else { now });",
    ),
    edit(
        LIVENESS,
        "        let speaks = self.speaks_for(&id);
        let answers",
        "        let speaks = self.speaks_for(&id);
        let long_ago = ON[no-wait-after-an-outage] && self.registry_up.is_none();
        let now = if long_ago { Time::ZERO } else { now };
        let answers",
    ),
    edit(
        SUBMIT,
        "        if left == 0 {",
        "        if left == 0 || ON[acknowledges-before-it-stores] {",
    ),
    edit(
        LIVENESS,
        "        if comparable && worker.revision < attempt.lease {",
        "        let older = worker.revision < attempt.lease;
        if comparable && older && !ON[an-older-lease-proves-a-newer-session-over] {",
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
    edit(
        LOOP,
        "                    self.holder.answered(now, renewal, answer);
                    self.move_end();",
        "                    self.holder.answered(now, renewal, answer);
                    if ON[stamp-at-acknowledgement] && self.holder.until() > now {
                        let (session, until) = (session, now + self.timing.worker());
                        self.told_until = until;
                        self.outbox.push(LeaseEffect::MoveEnd { session, until });
                    }
                    self.move_end();",
    ),
    edit(
        LOOP,
        "                let dead = old.home_dir == self.draft.home_dir;",
        "                let dead =
                    ON[succession-without-the-lock] || old.home_dir == self.draft.home_dir;",
    ),
    edit(
        LOOP,
        "        let closed = self.over.is_some() || self.release_by.is_some() || self.holder.is_released();",
        "        let closed = !ON[a-lease-that-is-given-back-opens-gates]
            && (self.over.is_some() || self.release_by.is_some() || self.holder.is_released());",
    ),
    edit(
        LOOP,
        "                if holds.session == Some(self.holder.session()) {",
        "                if ON[an-earlier-session-still-holds]
                    || holds.session == Some(self.holder.session())
                {",
    ),
    edit(
        GUARD,
        "        if revision <= self.guard.revision {
            return;",
        "        if revision <= self.guard.revision || ON[a-guard-binds-who-raised-it-alone] {
            return;",
    ),
    edit(
        GUARD,
        "        self.guard.owed.is_some() || self.guard.until().is_some_and(|until| now < until)",
        "        !ON[a-guard-is-not-waited-for]
            && (self.guard.owed.is_some() || self.guard.until().is_some_and(|until| now < until))",
    ),
    edit(
        GUARD,
        "        self.longest_home() + waits.fold(",
        "        if ON[a-guard-is-lifted-early] {
            return self.config.timing.renew_every();
        }
        self.longest_home() + waits.fold(",
    ),
    edit(
        GUARD,
        "        let leases = self.workers.values().filter_map(|worker| worker.lease.as_ref());
        let sessions",
        "        if ON[sessions-go-on-under-a-guard] {
            return;
        }
        let leases = self.workers.values().filter_map(|worker| worker.lease.as_ref());
        let sessions",
    ),
    edit(
        GUARD,
        "            let session = SessionId(self.stamps.next_nonce());
",
        "            let session = SessionId(self.stamps.next_nonce());
            let session =
                if ON[a-forgotten-session-is-declared-lost] { lease.session } else { session };
",
    ),
    edit(
        GUARD,
        "            before.stream == self.roll.stream(Bucket::Tasks) && record <= before.revision",
        "            ON[a-guards-end-ends-all-that-runs]
                || (before.stream == self.roll.stream(Bucket::Tasks) && record <= before.revision)",
    ),
    edit(
        GUARD,
        "            owes_guard: !self.may_answer(),",
        "            owes_guard: !ON[a-loss-is-forgotten-when-the-connection-breaks]
                && !self.may_answer(),",
    ),
    edit(
        GUARD,
        "        if let Some((known, since)) = self.config.memory.guard.clone()
",
        "        if !ON[a-guard-that-was-lost-is-not-raised-again]
            && let Some((known, since)) = self.config.memory.guard.clone()
",
    ),
    edit(
        ROLL,
        "        self.roll.complete = ends.are_empty() || self.is_vouched_for();",
        "        self.roll.complete =
            ends.are_empty() || self.is_vouched_for() || ON[no-roll-call];",
    ),
    edit(
        ROLL,
        "worker.held_lease().is_some_and(|lease| worker.answered != Some(lease.session))",
        "!ON[workers-need-not-answer]
                    && worker.held_lease().is_some_and(|lease| worker.answered != Some(lease.session))",
    ),
    edit(
        ROLL,
        "            !remembered && !peer.has_answered(now, wait)",
        "            !remembered && !peer.has_answered(now, wait) && !ON[masters-need-not-answer]",
    ),
    edit(
        ROLL,
        "        if self.is_guarded(now) || !mark",
        "        if ON[what-is-claimed-is-not-compared] || self.is_guarded(now) || !mark",
    ),
    edit(
        ROLL,
        "            claim.place == place && asked.first.is_some_and(|first| first <= read)",
        "            let any = ON[a-read-that-began-before-a-claim-answers-it];
            let late = ON[a-late-answer-of-a-leader-that-was-behind-counts]
                && now >= asked.since + self.leader_lag();
            claim.place == place && (any || late || asked.first.is_some_and(|first| first <= read))",
    ),
    edit(
        ROLL,
        "                let patience = self.leader_lag();",
        "                let never = ON[a-leader-is-never-behind];
                let patience = if never { core::time::Duration::ZERO } else { self.leader_lag() };",
    ),
    edit(
        ROLL,
        "        (self.roll.complete || self.guard.stands()) && self.roll.is_met() && !self.lags()",
        "        ON[acts-while-the-roll-is-called]
            || ((self.roll.complete || self.guard.stands())
                && self.roll.is_met()
                && (!self.lags() || ON[tasks-are-written-while-a-stream-lags]))",
    ),
    edit(
        ROLL,
        "        self.loaded.is_some() && revision > self.first_ends.of(bucket).revision",
        "        self.loaded.is_some()
            && (ON[what-was-written-before-answers]
                || revision > self.first_ends.of(bucket).revision)",
    ),
    edit(
        LINK,
        "        let answers = self.roll.is_loaded() && to == self.config.session;",
        "        let answers =
            self.roll.is_loaded() && (ON[any-hello-answers] || to == self.config.session);",
    ),
    edit(
        PEERS,
        "        self.answered || self.over.is_some_and(|over| now >= over + wait)",
        "        let wait = if ON[a-dead-masters-dispatches-are-not-waited-for] {
            Duration::ZERO
        } else {
            wait
        };
        self.answered || self.over.is_some_and(|over| now >= over + wait)",
    ),
    edit(
        LIVENESS,
        "        let comparable = attempt.lease_stream == self.roll.stream(Bucket::Workers);",
        "        let comparable = ON[revisions-of-two-streams-are-compared]
            || attempt.lease_stream == self.roll.stream(Bucket::Workers);",
    ),
    edit(
        LIVENESS,
        "                if asked_by.is_none() && !is_news {",
        "                if asked_by.is_none() && !is_news && !ON[a-refused-loss-is-not-tried-again] {",
    ),
    edit(
        ATTEMPTS,
        "            if self.runs_another(key) {",
        "            if self.runs_another(key) && !ON[two-attempts-of-a-task-run-here] {",
    ),
    edit(
        TOLD,
        "            self.outbox.push(Effect::SetHolds(Holds { session, upto }));",
        "            if !ON[a-worker-does-not-say-what-it-holds] {
                self.outbox.push(Effect::SetHolds(Holds { session, upto }));
            }",
    ),
    edit(
        SESSIONS,
        "            if before.unloaded.is_empty() && !memory.owes_guard {",
        "            if before.unloaded.is_empty() && !memory.owes_guard && !ON[a-session-forgets-how-far-it-knew] {",
    ),
    edit(
        SESSIONS,
        "            self.memory = memory;
",
        "            if ON[what-was-sent-counts-as-acknowledged] {
                let sent = self.known.of(Bucket::Masters).revision + 1;
                self.known.raise(Bucket::Masters, sent);
            }
            self.memory = memory;
",
    ),
    edit(
        SESSIONS,
        "            self.own.push(before.session);",
        "            if !ON[a-process-does-not-remember-its-sessions] {
                self.own.push(before.session);
            }",
    ),
    edit(
        RETRY,
        "        let wait = wait_after_returns(record, &reason);",
        "        let wait = if ON[a-returned-attempt-is-placed-again-at-once] {
            Duration::ZERO
        } else {
            wait_after_returns(record, &reason)
        };",
    ),
    edit(
        TOLD,
        "        if self.over.contains(&dispatch.key) {
            // Its sender",
        "        if self.over.contains(&dispatch.key) && !ON[an-ended-attempt-runs-again] {
            // Its sender",
    ),
    edit(
        SCHEDULER,
        "record.attempts == 0, record.submitted_at.0,",
        "record.attempts == 0 || ON[a-task-that-lost-its-worker-waits-behind-all], record.submitted_at.0,",
    ),
    edit(
        MASTERS,
        "        if peer.declaring {
            return;
        }
        peer.declaring = true;",
        "        if peer.declaring {
            return;
        }
        if ON[what-a-late-watch-has-not-shown-is-over] && peer.lease.is_none() {
            return self.peer_over(now, session, now);
        }
        peer.declaring = true;",
    ),
];
