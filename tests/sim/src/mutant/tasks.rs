//! The mutants of how the code answers, moves and keeps tasks, attempts and checkpoints. Each breaks one
//! rule.

use super::{
    Edit,
    edits::{ATTEMPTS, ENDING, FLEET, OVER, RECORD, RETRY, ROLL, TOLD, edit},
};

const CHECKPOINT: &str = "protocol/src/checkpoint.rs";
const REQUEST: &str = "protocol/src/checkpoint/request.rs";
const REST: &str = "protocol/src/fleet/backoff.rs";
const ROLE: &str = "protocol/src/role.rs";
const AUDIT: &str = "protocol/src/audit.rs";
const POLICY: &str = "protocol/src/grant/policy.rs";
const PLACE: &str = "protocol/src/fleet/place.rs";
const KNOWN: &str = "protocol/src/fleet/task_state.rs";
const WORKERS: &str = "protocol/src/fleet/workers.rs";
const HEALTH: &str = "protocol/src/health.rs";
const OBJECTS: &str = "protocol/src/fleet/objects.rs";
const HOLDER: &str = "protocol/src/lease/holder.rs";
const LEASE_CLOCK: &str = "protocol/src/lease/lease_clock.rs";
const SITE: &str = "protocol/src/site.rs";

/// Every edit of this file.
pub(super) const EDITS: &[Edit] = &[
    edit(
        RECORD,
        "            inquiry.after < read && (!behind || is_late)",
        "            let later = ON[a-read-answers-what-was-asked-later] || inquiry.after < read;
            let behind = behind && !ON[a-leader-that-is-behind-refuses-an-outcome];
            let is_late = is_late
                || (ON[a-late-answer-refuses-an-outcome]
                    && now >= inquiry.since + crate::limit::LEADER_LAG_MAX);
            later && (!behind || is_late)",
    ),
    edit(
        TOLD,
        "        if self.attempts.contains_key(&key) {
            return;",
        "        let is_over = ON[an-ended-attempt-is-passed-over-in-silence]
            && self.over.contains(&dispatch.key);
        if self.attempts.contains_key(&key) || is_over {
            return;",
    ),
    edit(
        ENDING,
        "            self.floor = self.floor.max(revision);",
        "            if !ON[a-forgotten-attempt-may-run-again] {
                self.floor = self.floor.max(revision);
            }",
    ),
    edit(
        ENDING,
        "            let (dispatch, arrival) = (None, 0);",
        "            let (dispatch, arrival) = (None, 0);
            let traceless = ON[a-revoked-attempt-leaves-no-trace];
            let revision = if traceless { Revision::MIN } else { revision };",
    ),
    edit(
        FLEET,
        "        out.push(Effect::WriteTask { expect: task.revision, record, keep });",
        "        let keep = if ON[every-record-expires] { Some(crate::limit::RETENTION_MIN) } else { keep };
        out.push(Effect::WriteTask { expect: task.revision, record, keep });",
    ),
    edit(
        RECORD,
        "            Some(what) => self.differs(id, what, settled.storing),
            None =>",
        "            Some(what) if !ON[any-record-of-the-id-is-the-task] => {
                self.differs(id, what, settled.storing);
            }
            _ =>",
    ),
    edit(
        ROLL,
        "| now < *seen + kept)",
        "| now < *seen + kept || ON[a-lease-whose-time-is-over-is-missed])",
    ),
    edit(
        ROLL,
        "                let since = before.map_or(now, |&(.., since)| since);",
        "                let since = before.map_or(now, |&(.., since)| since);
                let since = if ON[a-session-asks-a-leader-as-long-again] { now } else { since };",
    ),
    edit(
        RECORD,
        "        if task.is_missing(now) || is_alone {",
        "        let gone = ON[a-leader-that-is-behind-takes-a-record-for-gone];
        if gone || task.is_missing(now) || is_alone {",
    ),
    edit(
        KNOWN,
        "            *late = now >= *since + patience;",
        "            let any = ON[a-write-that-is-refused-late-takes-a-record-for-gone];
            *late = any || now >= *since + patience;",
    ),
    edit(
        CHECKPOINT,
        "        found.number > self.number || (found.number == self.number && found.attempt != self.attempt)",
        "        let another = found.number == self.number && found.attempt != self.attempt;
        !ON[an-earlier-attempt-writes-over-a-later-ones-state]
            && (found.number > self.number || another)",
    ),
    edit(
        CHECKPOINT,
        "        found.filter(|found| found.submitted_at == self.submitted_at)",
        "        found.filter(|found| {
            found.submitted_at == self.submitted_at || ON[what-another-task-of-the-id-left-is-taken-over]
        })",
    ),
    edit(
        CHECKPOINT,
        "        Some(found) if found.number == asker.number => Step::Done,
        found =>",
        "        Some(found) if found.number == asker.number => Step::Done,
        Some(_) if ON[one-that-resumes-does-not-shut-out-those-before-it] => Step::Done,
        found =>",
    ),
    edit(
        CHECKPOINT,
        "            asker.write(0, found.and_then(|found| found.state.clone()), now, unknown)",
        "            let state = found.and_then(|found| found.state.clone());
            let state = state.filter(|_| !ON[one-that-resumes-drops-what-it-found]);
            asker.write(0, state, now, unknown)",
    ),
    edit(
        REQUEST,
        "            return Next::Answer(StreamReply::Behind);",
        "            let refuses = ON[a-leader-that-is-behind-refuses-a-checkpoint];
            return Next::Answer(if refuses { StreamReply::Stale } else { StreamReply::Behind });",
    ),
    edit(
        REQUEST,
        "        let is_current = id == self.attempt.key.attempt && attempt.worker == self.worker;",
        "        let is_current = ON[whether-an-attempt-is-current-is-not-looked-at]
            || (id == self.attempt.key.attempt && attempt.worker == self.worker);",
    ),
    edit(
        REQUEST,
        "        Verdict::Returned { reason: reason.into() }
    }",
        "        if ON[a-refused-checkpoint-ends-the-task] {
            return Verdict::Failed { code: 1, message: reason.into() };
        }
        Verdict::Returned { reason: reason.into() }
    }",
    ),
    edit(
        OVER,
        "        if self.lapsed
            && self.session.is_some()",
        "        if self.lapsed
            && !ON[dropped-attempts-are-not-reported]
            && self.session.is_some()",
    ),
    edit(
        ATTEMPTS,
        "        } else if tries >= PREPARES_MAX {",
        "        } else if tries >= PREPARES_MAX && !ON[what-cannot-be-fetched-is-tried-for-ever] {",
    ),
    edit(
        REST,
        "        self.until.is_some()",
        "        self.until.is_some() && !ON[a-worker-that-returns-attempts-gets-no-backoff]",
    ),
    edit(
        WORKERS,
        "        let load = (lease.lacks().is_some(), per_slot);",
        "        let like_others = ON[an-unwell-worker-is-placed-like-others];
        let load = (lease.lacks().is_some() && !like_others, per_slot);",
    ),
    edit(
        WORKERS,
        "        lease.offer.memory_total.map_or(u64::MAX, free)",
        "        let total = lease.offer.memory_total;
        total.filter(|_| !ON[a-worker-is-given-more-than-its-memory]).map_or(u64::MAX, free)",
    ),
    edit(
        WORKERS,
        "|| self.is_kept_for(lease.session).is_some() {",
        "|| self.is_kept_for(lease.session).is_some()
            && !ON[a-worker-that-is-kept-free-is-given-others]
        {",
    ),
    edit(
        ATTEMPTS,
        "    !is_kept_alone && share.memory_bytes <= free",
        "    let free = if ON[a-worker-starts-more-than-its-memory] { u64::MAX } else { free };
    let beside = ON[a-worker-starts-others-beside-one-that-is-alone];
    (!is_kept_alone || beside) && share.memory_bytes <= free",
    ),
    edit(
        PLACE,
        "        Need { alone: record.is_suspect(), ..Need::of_spec(&record.spec) }",
        "        let alone = record.is_suspect() && !ON[a-suspect-is-placed-beside-others];
        Need { alone, ..Need::of_spec(&record.spec) }",
    ),
    edit(
        RETRY,
        "u32::from(attempt.alone && is_suspicious);",
        "u32::from(
            (attempt.alone || ON[a-loss-beside-others-counts-like-one-alone]) && !left,
        );",
    ),
    edit(
        HEALTH,
        "until.is_none_or(|until| now >= until));",
        "until.is_none_or(|until| now >= until)
                    && !ON[a-shortage-is-never-over]);",
    ),
    edit(
        HOLDER,
        "        if !core::mem::replace(&mut self.hurried, true) {",
        "        let each = ON[a-shortage-that-comes-and-goes-renews-each-time];
        if !core::mem::replace(&mut self.hurried, true) || each {",
    ),
    edit(
        RETRY,
        "        let is_suspicious = !left && !attempt.to_silent;",
        "        let to_silent = attempt.to_silent && !ON[a-silent-worker-is-held-against-a-task];
        let is_suspicious = !left && !to_silent;",
    ),
    edit(
        LEASE_CLOCK,
        "        self.known != ABSENT && renewal > self.sent_before_known",
        "        let counts = ON[an-empty-read-from-before-a-lease-ends-it];
        self.known != ABSENT && (renewal > self.sent_before_known || counts)",
    ),
    edit(
        LEASE_CLOCK,
        "        revision > self.known || (!self.held && revision < self.known)",
        "        let same = ON[a-session-ends-for-what-it-replaces] && revision == self.known;
        revision > self.known || (!self.held && (revision < self.known || same))",
    ),
    edit(
        WORKERS,
        "        now.max(self.held_max)",
        "        if ON[a-worker-returns-what-was-placed-there] { now } else { now.max(self.held_max) }",
    ),
    edit(
        WORKERS,
        "        let is_over = self.lost_sent || self.ended == Some(lease.session);",
        "        let has_ended = self.ended == Some(lease.session);
        let is_over = self.lost_sent || (has_ended && !ON[a-session-that-is-over-is-given-tasks]);",
    ),
    edit(
        OBJECTS,
        "        if records().any(|record| names(record, store, digest)) {",
        "        let is_named = records().any(|record| names(record, store, digest));
        if is_named || ON[any-worker-reads-any-object] {",
    ),
    edit(
        SITE,
        "        let renew = !is_heard && look.answers && now >= self.renew_from;",
        "        let renew = !is_heard
            && look.answers
            && now >= self.renew_from
            && !ON[a-source-that-stands-still-is-left-so];",
    ),
    edit(
        SITE,
        "        let is_new = self.told.replace(what) != Some(what);",
        "        let is_new = self.told.replace(what) != Some(what)
            || ON[a-site-that-lags-is-told-again-and-again];",
    ),
    edit(
        POLICY,
        "            rule.is_none_or(named)",
        "            ON[any-module-is-given-a-secret] || rule.is_none_or(named)",
    ),
    edit(
        POLICY,
        "        if self.signers.is_empty() || ",
        "        if ON[a-module-need-not-be-signed] || self.signers.is_empty() || ",
    ),
    edit(
        ROLE,
        "    if has >= needs {",
        "    if ON[nobody-needs-a-role] || has >= needs {",
    ),
    edit(
        AUDIT,
        "            if entry.previous != Some(last.digest) {",
        "            if !ON[an-entry-may-follow-any-other] && entry.previous != Some(last.digest) {",
    ),
];
