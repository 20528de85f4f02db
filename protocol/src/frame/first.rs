//! Frames 1: postcard, as version 0.1 has them. As long as frames 1 are spoken, every type here keeps
//! its shape byte for byte; a message that has changed since has its old shape in this file.

use super::{FrameRange, Message};
use crate::{
    Digest, GroupName, Nonce, Revision, SessionId, WorkerId,
    grant::{Grants, HttpRule, Policy},
    lease::{CasAnswer, Home, Lease, LeaseState, Offer, Unwell},
    message::{AttemptKey, Dispatch, HeldAttempt, Hello, ToMaster, ToWorker, WorkerCommand},
    record::Unknown,
    registry::{Mark, StreamId},
    task::{Data, Limits, Outcome},
    time::WallMillis,
};
use alloc::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    string::String,
    sync::Arc,
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// [`ToMaster`] in frames 1.
#[derive(Serialize, Deserialize)]
enum FirstToMaster<'a> {
    Hello(FirstHello<'a>),
    Renew {
        expect: Revision,
        lease: FirstLease<'a>,
    },
    Extend {
        session: SessionId,
        renewal: u64,
    },
    Finished {
        key: AttemptKey,
        revision: Revision,
        outcome: Cow<'a, Outcome>,
    },
    Progress {
        key: AttemptKey,
        done: u64,
        total: u64,
    },
    /// A renewal of an unwell worker: the lease in frames 1 has no field for that.
    RenewUnwell {
        expect: Revision,
        lease: FirstLease<'a>,
        unwell: Cow<'a, Unwell>,
    },
}

/// [`ToWorker`] in frames 1.
#[derive(Serialize, Deserialize)]
enum FirstToWorker<'a> {
    Welcome { master: Cow<'a, Home>, machine: Nonce, version: Cow<'a, str> },
    Dispatch(FirstDispatch<'a>),
    Revoke { key: AttemptKey, revision: Revision },
    Preempt { key: AttemptKey, revision: Revision },
    Renewed { session: SessionId, renewal: u64, answer: CasAnswer<FirstLease<'a>> },
    Extended { session: SessionId, home: SessionId, renewal: u64 },
    Ack { key: AttemptKey, committed: bool },
    Command(WorkerCommand),
}

#[derive(Serialize, Deserialize)]
struct FirstHello<'a> {
    to: SessionId,
    session: SessionId,
    attempts: Cow<'a, [HeldAttempt]>,
    holds: Mark,
    version: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct FirstLease<'a> {
    worker: Cow<'a, WorkerId>,
    session: SessionId,
    renewal: u64,
    state: LeaseState,
    home_dir: Nonce,
    succeeds: Cow<'a, [SessionId]>,
    fenced: bool,
    holds: Mark,
    home: Option<Cow<'a, Home>>,
    master_wait_ms: u64,
    offer: FirstOffer<'a>,
    renewed_at: WallMillis,
}

/// An offer in frames 1 does not say how much memory all runs may have together.
#[derive(Serialize, Deserialize)]
struct FirstOffer<'a> {
    group: Cow<'a, GroupName>,
    labels: Cow<'a, BTreeMap<String, String>>,
    slots: u32,
    memory_bytes: u64,
    version: Cow<'a, str>,
    policy: FirstPolicy<'a>,
}

/// A policy in frames 1 does not say which modules may run, and which of them may have a secret.
#[derive(Serialize, Deserialize)]
struct FirstPolicy<'a> {
    env: bool,
    secrets: Cow<'a, BTreeSet<String>>,
    http: Cow<'a, BTreeSet<HttpRule>>,
    dir_bytes: u64,
    clock_ns: u64,
    random: bool,
}

/// A dispatch in frames 1 does not say whether the attempt has to be alone, and has no signature.
#[derive(Serialize, Deserialize)]
struct FirstDispatch<'a> {
    key: AttemptKey,
    session: SessionId,
    revision: Revision,
    stream: StreamId,
    held_max: u32,
    number: u32,
    module: Digest,
    input: Cow<'a, Data>,
    args: Cow<'a, [String]>,
    limits: Limits,
    grants: Cow<'a, Arc<Grants>>,
}

impl<'a> From<&'a Offer> for FirstOffer<'a> {
    fn from(offer: &'a Offer) -> Self {
        FirstOffer {
            group: Cow::Borrowed(&offer.group),
            labels: Cow::Borrowed(&offer.labels),
            slots: offer.slots,
            memory_bytes: offer.memory_bytes,
            version: Cow::Borrowed(&offer.version),
            policy: FirstPolicy {
                env: offer.policy.env,
                secrets: Cow::Borrowed(&offer.policy.secrets),
                http: Cow::Borrowed(&offer.policy.http),
                dir_bytes: offer.policy.dir_bytes,
                clock_ns: offer.policy.clock_ns,
                random: offer.policy.random,
            },
        }
    }
}

impl From<FirstOffer<'_>> for Offer {
    fn from(first: FirstOffer<'_>) -> Self {
        Offer {
            group: first.group.into_owned(),
            labels: first.labels.into_owned(),
            slots: first.slots,
            memory_bytes: first.memory_bytes,
            memory_total: None,
            version: first.version.into_owned(),
            policy: Arc::new(Policy {
                env: first.policy.env,
                secrets: first.policy.secrets.into_owned(),
                secret_modules: BTreeMap::new(),
                signers: BTreeSet::new(),
                http: first.policy.http.into_owned(),
                dir_bytes: first.policy.dir_bytes,
                clock_ns: first.policy.clock_ns,
                random: first.policy.random,
            }),
        }
    }
}

impl<'a> From<&'a Dispatch> for FirstDispatch<'a> {
    fn from(dispatch: &'a Dispatch) -> Self {
        FirstDispatch {
            key: dispatch.key,
            session: dispatch.session,
            revision: dispatch.revision,
            stream: dispatch.stream,
            held_max: dispatch.held_max,
            number: dispatch.number,
            module: dispatch.module,
            input: Cow::Borrowed(&dispatch.input),
            args: Cow::Borrowed(&dispatch.args),
            limits: dispatch.limits,
            grants: Cow::Borrowed(&dispatch.grants),
        }
    }
}

impl From<FirstDispatch<'_>> for Dispatch {
    fn from(first: FirstDispatch<'_>) -> Self {
        Dispatch {
            key: first.key,
            session: first.session,
            revision: first.revision,
            stream: first.stream,
            held_max: first.held_max,
            alone: false,
            number: first.number,
            module: first.module,
            signature: None,
            input: first.input.into_owned(),
            args: first.args.into_owned(),
            limits: first.limits,
            grants: first.grants.into_owned(),
            trace: None,
        }
    }
}

impl<'a> From<&'a Lease> for FirstLease<'a> {
    fn from(lease: &'a Lease) -> Self {
        FirstLease {
            worker: Cow::Borrowed(&lease.worker),
            session: lease.session,
            renewal: lease.renewal,
            state: lease.state,
            home_dir: lease.home_dir,
            succeeds: Cow::Borrowed(&lease.succeeds),
            fenced: lease.fenced,
            holds: lease.holds,
            home: lease.home.as_ref().map(Cow::Borrowed),
            master_wait_ms: lease.master_wait_ms,
            offer: FirstOffer::from(&lease.offer),
            renewed_at: lease.renewed_at,
        }
    }
}

impl FirstLease<'_> {
    fn into_lease(self, unwell: Option<Unwell>) -> Lease {
        Lease {
            worker: self.worker.into_owned(),
            session: self.session,
            renewal: self.renewal,
            state: self.state,
            home_dir: self.home_dir,
            succeeds: self.succeeds.into_owned(),
            fenced: self.fenced,
            holds: self.holds,
            home: self.home.map(Cow::into_owned),
            master_wait_ms: self.master_wait_ms,
            offer: self.offer.into(),
            renewed_at: self.renewed_at,
            unwell,
            program: None,
            unknown: Unknown::default(),
        }
    }
}

impl<'a> From<&'a ToMaster> for FirstToMaster<'a> {
    fn from(message: &'a ToMaster) -> Self {
        match message {
            ToMaster::Hello(hello) => FirstToMaster::Hello(FirstHello {
                to: hello.to,
                session: hello.session,
                attempts: Cow::Borrowed(&hello.attempts),
                holds: hello.holds,
                version: Cow::Borrowed(&hello.version),
            }),
            ToMaster::Renew { expect, lease } => {
                let (expect, first) = (*expect, FirstLease::from(lease));
                match &lease.unwell {
                    None => FirstToMaster::Renew { expect, lease: first },
                    Some(unwell) => {
                        let unwell = Cow::Borrowed(unwell);
                        FirstToMaster::RenewUnwell { expect, lease: first, unwell }
                    }
                }
            }
            &ToMaster::Extend { session, renewal } => FirstToMaster::Extend { session, renewal },
            ToMaster::Finished { key, revision, outcome } => {
                let (key, revision, outcome) = (*key, *revision, Cow::Borrowed(outcome));
                FirstToMaster::Finished { key, revision, outcome }
            }
            &ToMaster::Progress { key, done, total } => {
                FirstToMaster::Progress { key, done, total }
            }
        }
    }
}

impl From<FirstToMaster<'_>> for ToMaster {
    fn from(first: FirstToMaster<'_>) -> Self {
        match first {
            FirstToMaster::Hello(hello) => ToMaster::Hello(Hello {
                to: hello.to,
                session: hello.session,
                attempts: hello.attempts.into_owned(),
                holds: hello.holds,
                version: hello.version.into_owned(),
                frames: FrameRange::FIRST,
            }),
            FirstToMaster::Renew { expect, lease } => {
                ToMaster::Renew { expect, lease: lease.into_lease(None) }
            }
            FirstToMaster::RenewUnwell { expect, lease, unwell } => {
                ToMaster::Renew { expect, lease: lease.into_lease(Some(unwell.into_owned())) }
            }
            FirstToMaster::Extend { session, renewal } => ToMaster::Extend { session, renewal },
            FirstToMaster::Finished { key, revision, outcome } => {
                ToMaster::Finished { key, revision, outcome: outcome.into_owned() }
            }
            FirstToMaster::Progress { key, done, total } => ToMaster::Progress { key, done, total },
        }
    }
}

impl<'a> From<&'a ToWorker> for FirstToWorker<'a> {
    fn from(message: &'a ToWorker) -> Self {
        match message {
            ToWorker::Welcome { master, machine, version, .. } => FirstToWorker::Welcome {
                master: Cow::Borrowed(master),
                machine: *machine,
                version: Cow::Borrowed(version),
            },
            ToWorker::Dispatch(dispatch) => FirstToWorker::Dispatch(dispatch.into()),
            &ToWorker::Revoke { key, revision } => FirstToWorker::Revoke { key, revision },
            &ToWorker::Preempt { key, revision } => FirstToWorker::Preempt { key, revision },
            ToWorker::Renewed { session, renewal, answer } => FirstToWorker::Renewed {
                session: *session,
                renewal: *renewal,
                answer: answer.as_ref().map(FirstLease::from),
            },
            &ToWorker::Extended { session, home, renewal } => {
                FirstToWorker::Extended { session, home, renewal }
            }
            &ToWorker::Ack { key, committed } => FirstToWorker::Ack { key, committed },
            &ToWorker::Command(order) => FirstToWorker::Command(order),
        }
    }
}

impl From<FirstToWorker<'_>> for ToWorker {
    fn from(first: FirstToWorker<'_>) -> Self {
        match first {
            FirstToWorker::Welcome { master, machine, version } => ToWorker::Welcome {
                master: master.into_owned(),
                machine,
                version: version.into_owned(),
                frames: FrameRange::FIRST,
            },
            FirstToWorker::Dispatch(dispatch) => ToWorker::Dispatch(dispatch.into()),
            FirstToWorker::Revoke { key, revision } => ToWorker::Revoke { key, revision },
            FirstToWorker::Preempt { key, revision } => ToWorker::Preempt { key, revision },
            FirstToWorker::Renewed { session, renewal, answer } => {
                let answer = answer.map(|lease| lease.into_lease(None));
                ToWorker::Renewed { session, renewal, answer }
            }
            FirstToWorker::Extended { session, home, renewal } => {
                ToWorker::Extended { session, home, renewal }
            }
            FirstToWorker::Ack { key, committed } => ToWorker::Ack { key, committed },
            FirstToWorker::Command(order) => ToWorker::Command(order),
        }
    }
}

impl Message for ToMaster {
    fn encode_first(&self, out: Vec<u8>) -> postcard::Result<Vec<u8>> {
        postcard::to_extend(&FirstToMaster::from(self), out)
    }

    fn decode_first(body: &[u8]) -> postcard::Result<(Self, &[u8])> {
        let (first, rest) = postcard::take_from_bytes::<FirstToMaster<'_>>(body)?;
        Ok((first.into(), rest))
    }
}

impl Message for ToWorker {
    fn encode_first(&self, out: Vec<u8>) -> postcard::Result<Vec<u8>> {
        postcard::to_extend(&FirstToWorker::from(self), out)
    }

    fn decode_first(body: &[u8]) -> postcard::Result<(Self, &[u8])> {
        let (first, rest) = postcard::take_from_bytes::<FirstToWorker<'_>>(body)?;
        Ok((first.into(), rest))
    }
}
