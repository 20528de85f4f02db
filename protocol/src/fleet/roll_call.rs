//! The roll call: a new session of a master writes no task until every worker and master that the
//! registry names as alive has answered, or is over. Each answer says up to which revision it knows
//! each stream; if that is beyond the stream's end, the registry has lost writes. No roll call is
//! needed while the registry is one server whose process has not restarted since the last one.

use super::{ASK_AGAIN, Effect, Fleet, Loaded, Timer};
use crate::{
    Revision, SessionId, Time, WorkerId,
    lease::LeaseState,
    registry::{Mark, Marks},
    subject::Bucket,
};
use alloc::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    format,
    string::String,
    vec::Vec,
};

/// The state of the roll call.
#[derive(Debug, Default)]
pub(super) struct RollCall {
    /// When this session had loaded the registry; `None` before.
    loaded: Option<Time>,
    complete: bool,
    /// The end of each stream when this session began to read it.
    first_ends: Marks,
    /// The highest revision of each stream that is known to exist.
    ends: Marks,
    /// Revisions that a worker or master claims to exist and that are not known here, with the time of
    /// the claim.
    claims: BTreeMap<Claim, Asked>,
    /// The streams whose end is being asked for.
    asking: BTreeSet<BucketIndex>,
    /// The streams that lack a known revision at the moment, as far as a server of a cluster knows.
    lagging: BTreeSet<BucketIndex>,
    /// Leases that this process knew, and that the registry does not show, or only as they were before:
    /// the known revision, and when it was first seen.
    missed: BTreeMap<WorkerId, (Revision, Time)>,
    /// Since when any lease is missed.
    missed_since: Option<Time>,
    /// Sessions of masters whose process has answered in a later session.
    pub(super) remembered: BTreeSet<SessionId>,
}

/// The index of a bucket among [`Bucket::FOLLOWED`].
type BucketIndex = usize;

/// When a claim was first made, and the number of the first read that can answer it: the first one that
/// was sent when no leader could be behind the claim any more. An earlier read may be older than the
/// claim, however late its answer arrives.
#[derive(Clone, Copy, Debug)]
struct Asked {
    since: Time,
    first: Option<u64>,
}

/// A revision that somebody claims to exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    place: BucketIndex,
    stream: crate::registry::StreamId,
    revision: Revision,
}

fn place(bucket: Bucket) -> Option<BucketIndex> {
    Bucket::FOLLOWED.iter().position(|&followed| followed == bucket)
}

impl RollCall {
    pub(super) fn is_loaded(&self) -> bool {
        self.loaded.is_some()
    }

    /// The end of a bucket's stream, as far as is known.
    pub(super) fn end(&self, bucket: Bucket) -> Mark {
        self.ends.of(bucket)
    }

    /// The stream of a bucket, as this session found it.
    pub(super) fn stream(&self, bucket: Bucket) -> crate::registry::StreamId {
        self.ends.of(bucket).stream
    }

    /// Whether the revision was written after this session began to read its bucket.
    pub(super) fn is_later(&self, bucket: Bucket, revision: Revision) -> bool {
        self.loaded.is_some() && revision > self.first_ends.of(bucket).revision
    }

    /// Notes that this revision exists.
    pub(super) fn exists(&mut self, bucket: Bucket, revision: Revision) {
        if self.loaded.is_some() && revision > self.ends.of(bucket).revision {
            self.ends.raise(bucket, revision);
            self.drop_met_claims(bucket);
        }
    }

    /// Drops every claim and every missed lease, because a failover guard covers them.
    pub(super) fn drop_claims(&mut self) {
        self.claims.clear();
        self.drop_missed();
    }

    /// Drops every missed lease, because the guard of another master covers them.
    pub(super) fn drop_missed(&mut self) {
        self.missed.clear();
    }

    /// The leases that are missed.
    pub(super) fn missed(&self) -> &BTreeMap<WorkerId, (Revision, Time)> {
        &self.missed
    }

    /// Whether nothing is known to be missing from the registry.
    fn is_met(&self) -> bool {
        self.claims.is_empty() && self.missed.is_empty()
    }

    /// Drops the claims that are within the known end of the stream.
    fn drop_met_claims(&mut self, bucket: Bucket) {
        let (Some(place), end) = (place(bucket), self.ends.of(bucket)) else { return };
        self.claims.retain(|claim, _| {
            let mark = Mark { stream: claim.stream, revision: claim.revision };
            claim.place != place || mark.is_missing_from(end)
        });
    }
}

impl Fleet {
    /// This session has loaded the registry.
    pub(super) fn begin(&mut self, now: Time, loaded: Loaded) {
        let Loaded { ends, known } = loaded;
        self.registry_up = Some(now);
        self.roll.loaded = Some(now);
        (self.roll.first_ends, self.roll.ends) = (ends, ends);
        self.load_guard(now);
        self.look_at_leases(now);
        for bucket in Bucket::FOLLOWED {
            self.claim(now, bucket, known.of(bucket));
        }
        self.roll.complete = ends.are_empty() || self.is_vouched_for();
        self.timers.set(now, Timer::RollCall);
        for (&session, _) in self.peers.iter() {
            self.timers.set(now, Timer::Master(session));
        }
    }

    /// Looks for lost leases: leases that this process knew, and leases that attempts in the registry
    /// name.
    fn look_at_leases(&mut self, now: Time) {
        // A lease that was seen long ago may be over and expired. Half of the retention is a safe
        // margin for two clocks that do not agree exactly.
        let kept = self.config.leases_keep / 2;
        let known = self.config.memory.leases.iter().filter(|(_, (_, seen))| now < *seen + kept);
        self.roll.missed = known.map(|(id, known)| (id.clone(), *known)).collect();
        self.roll.missed_since = self.config.memory.missed_since.or(Some(now));
        self.judge_missed_leases(now);
        let attempts = self.tasks.values().filter_map(|task| task.record.attempt());
        let latest = attempts.map(|attempt| (attempt.lease_stream, attempt.lease)).max();
        if let Some((stream, revision)) = latest {
            self.claim(now, Bucket::Workers, Mark { stream, revision });
        }
    }

    /// Forgets the missed leases that the registry shows by now.
    fn find_missed_leases(&mut self) {
        let workers = &self.workers;
        self.roll
            .missed
            .retain(|id, (known, _)| workers.get(id).is_none_or(|worker| worker.revision < *known));
    }

    /// Raises the guard if leases are missed for so long that no replica of a cluster can be behind them.
    fn judge_missed_leases(&mut self, now: Time) {
        self.find_missed_leases();
        let since = self.roll.missed_since.filter(|_| !self.roll.missed.is_empty());
        let Some(certain) = since.map(|since| since + self.leader_lag()) else { return };
        if now >= certain {
            self.raise_guard(now, String::from("it shows an older lease of a worker than before"));
        } else {
            self.timers.set(certain, Timer::RollCall);
        }
    }

    /// Since when leases are missed, if the next session goes on waiting.
    pub(super) fn missed_since(&self) -> Option<Time> {
        let is_missed = self.goes_on_waiting() && !self.roll.missed.is_empty();
        self.roll.missed_since.filter(|_| is_missed)
    }

    /// Whether the next session goes on with the patience of this one: not if the connection broke, since
    /// the next one may lead to another leader.
    fn goes_on_waiting(&self) -> bool {
        self.registry_up.is_some() || self.own.is_over()
    }

    /// Whether a master completed a roll call with this same process of the registry's server.
    fn is_vouched_for(&self) -> bool {
        let server = &self.config.server;
        server.is_some()
            && (self.config.memory.vouched == *server
                || self.peer_leases().any(|lease| lease.vouches == *server))
    }

    /// Somebody claims that this revision exists. If it does not, the registry has lost it.
    pub(super) fn claim(&mut self, now: Time, bucket: Bucket, mark: Mark) {
        if self.is_guarded(now) || !mark.is_missing_from(self.roll.ends.of(bucket)) {
            return;
        }
        if let Some(place) = place(bucket) {
            let claim = Claim { place, stream: mark.stream, revision: mark.revision };
            if let Entry::Vacant(new) = self.roll.claims.entry(claim) {
                let before = &self.config.memory.claims;
                let before = before.iter().find(|(of, known, _)| (*of, *known) == (bucket, mark));
                let since = before.map_or(now, |&(.., since)| since);
                new.insert(Asked { since, first: None });
                self.roll.asking.remove(&place);
            }
        }
    }

    /// A claim that the registry does not meet, and since when, if the next session goes on waiting.
    pub(super) fn open_claims(&self) -> Vec<(Bucket, Mark, Time)> {
        let claims = self.roll.claims.iter().filter(|_| self.goes_on_waiting());
        let claims = claims.map(|(claim, asked)| {
            let mark = Mark { stream: claim.stream, revision: claim.revision };
            (Bucket::FOLLOWED[claim.place], mark, asked.since)
        });
        claims.collect()
    }

    /// A watch has compared what it knows with the end of its stream.
    pub(super) fn stream_lags(&mut self, bucket: Bucket, lags: bool) {
        let Some(place) = place(bucket) else { return };
        if lags {
            self.roll.lagging.insert(place);
        } else {
            self.roll.lagging.remove(&place);
        }
    }

    /// Whether a stream lacks a known revision.
    pub(super) fn lags(&self) -> bool {
        !self.roll.lagging.is_empty()
    }

    /// The leader has reported the end of a stream.
    pub(super) fn end_read(&mut self, now: Time, bucket: Bucket, read: u64, end: Mark) {
        let Some(place) = place(bucket) else { return };
        if !self.roll.is_loaded() {
            return;
        }
        self.roll.ends.set(bucket, self.roll.ends.of(bucket).raised_to(end));
        self.roll.drop_met_claims(bucket);
        let mut claims = self.roll.claims.iter();
        let lost = claims.any(|(claim, asked)| {
            claim.place == place && asked.first.is_some_and(|first| first <= read)
        });
        if lost {
            let reason = format!(
                "its stream of {} ends before what it had acknowledged; every worker begins a new session",
                bucket.word()
            );
            self.raise_guard(now, reason);
        }
    }

    /// Asks for the ends of streams with open claims, and checks whether everyone has answered.
    pub(super) fn call_roll(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.find_missed_leases();
        let places: BTreeSet<BucketIndex> =
            self.roll.claims.keys().map(|claim| claim.place).collect();
        for &place in &places {
            if self.roll.asking.insert(place) {
                let read = self.inquiries.next_read();
                let patience = self.leader_lag();
                for (claim, asked) in &mut self.roll.claims {
                    if claim.place == place && now >= asked.since + patience {
                        asked.first.get_or_insert(read);
                    }
                }
                out.push(Effect::ReadEnd { bucket: Bucket::FOLLOWED[place], read });
                self.timers.set(now + ASK_AGAIN, Timer::RollCall);
            }
        }
        if self.roll.is_met()
            && !self.roll.complete
            && !self.is_guarded(now)
            && self.next_missing(now).is_none()
        {
            self.roll_is_complete();
        }
    }

    /// It is time to ask again.
    pub(super) fn roll_due(&mut self, now: Time) {
        self.roll.asking.clear();
        self.judge_missed_leases(now);
    }

    /// Everyone has answered, or is over.
    pub(super) fn roll_is_complete(&mut self) {
        if !core::mem::replace(&mut self.roll.complete, true) {
            self.look_at_everything();
        }
    }

    /// Makes this master reconsider every task and every group: nothing keeps it from acting any more.
    pub(super) fn look_at_everything(&mut self) {
        self.agenda.tasks(self.tasks.keys().copied());
        self.agenda.groups(self.scheduler.names());
    }

    /// Whether tasks may be written now. They may while a guard is in force in the registry, since the
    /// guard keeps every master from dispatching.
    pub(super) fn may_act(&self) -> bool {
        (self.roll.complete || self.guard.stands()) && self.roll.is_met() && !self.lags()
    }

    /// Whether this session may write its own lease: the lease tells the others that this process has
    /// compared what it knows with the registry.
    pub(super) fn may_answer(&self) -> bool {
        !self.guard.is_owed() && self.roll.is_met()
    }

    /// Whether the roll call of this session is complete and no guard is in force.
    pub(super) fn may_vouch(&self, now: Time) -> bool {
        self.has_vouched() && !self.is_guarded(now)
    }

    /// Whether this session has completed its roll call and owes no guard.
    pub(super) fn has_vouched(&self) -> bool {
        self.roll.complete && self.may_answer()
    }

    /// A worker or master whose answer is missing, for log messages.
    pub(super) fn next_missing(&self, now: Time) -> Option<String> {
        self.missing_master(now).or_else(|| {
            let missing = self.workers.iter().find(|(_, worker)| {
                worker.held_lease().is_some_and(|lease| worker.answered != Some(lease.session))
            });
            missing.map(|(id, _)| format!("worker {id}"))
        })
    }

    fn missing_master(&self, now: Time) -> Option<String> {
        let wait = self.config.timing.master();
        let missing = self.peers.iter().find(|(session, peer)| {
            let remembered =
                self.roll.remembered.contains(session) || self.config.remembers.contains(session);
            !remembered && !peer.has_answered(now, wait)
        });
        missing.map(|(session, peer)| match peer.lease() {
            Some(lease) if lease.state == LeaseState::Lost => {
                format!("the end of the attempts that master {} assigned", lease.master)
            }
            Some(lease) => format!("master {}", lease.master),
            None => format!("a master's session {session}"),
        })
    }
}
