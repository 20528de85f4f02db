//! Following a stream by a consumer that may be late, or may stop without notice: where a consumer
//! begins, which of its messages are new to the fleet, whether it still delivers everything, and when
//! no consumer is needed. Never reads the values.
//!
//! A lone master stops following the tasks: the consumer would deliver only the master's own writes,
//! which costs a tenth of the registry's work for a task. It does so only while its acknowledgements
//! follow each other without a gap. A gap is a write of another master.

mod watermark;

use crate::{
    Revision, SessionId, Time,
    limit::LEADER_LAG_MAX,
    registry::{Mark, StreamId},
    subject::Bucket,
};
use core::{mem, time::Duration};
use watermark::Watermark;

/// How often the end of a stream is compared with the known revisions.
pub const COMPARE_EVERY: Duration = Duration::from_secs(5);

/// How often it is compared while the stream lacks a known revision.
pub const COMPARE_LAGGING_EVERY: Duration = Duration::from_millis(500);

/// How one session of a master follows one bucket.
///
/// Call [`begin`](Watch::begin) for each consumer, [`began`](Watch::began) when it exists, and
/// [`showed`](Watch::showed) for each message, after the fleet has observed the message if it
/// [`is_news`](Watch::is_news). Call [`compared`](Watch::compared) before each consumer and every
/// [`COMPARE_EVERY`].
#[derive(Debug)]
pub struct Watch {
    bucket: Bucket,
    session: SessionId,
    stream: StreamId,
    /// How long a leader of the stream may be behind; zero if only one server has it.
    leader_lag: Duration,
    watermark: Watermark,
    /// Whether other masters may write to the bucket.
    company: bool,
    /// Whether the whole bucket has been delivered once.
    loaded: bool,
    /// Whether the consumer has delivered everything there was.
    clear: bool,
    /// The watermark when it was found to be before the stream's end.
    behind_at: Option<Revision>,
    /// When the first question was sent whose answer lacked a known revision. `None` after an answer that
    /// did not.
    lags_since: Option<Time>,
}

/// A question for the end of a stream.
#[derive(Clone, Copy, Debug)]
pub struct EndQuestion {
    /// When it was sent.
    pub sent: Time,
    /// What [`upto`](Watch::upto) was before it was sent: a write in between proves nothing.
    pub upto: Revision,
}

/// Where a consumer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the newest value of every key.
    Newest,
    /// With everything after this revision.
    After(Revision),
}

/// A message that a consumer delivers.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Its revision.
    pub revision: Revision,
    /// Whether the consumer has more to deliver already.
    pub has_more: bool,
    /// The session of the master that wrote it, if the message says so.
    pub writer: Option<SessionId>,
    /// Whether it is the record of a task that has ended.
    pub is_done: bool,
}

/// What a comparison with the end of the stream shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// Everything is known, or may still be delivered.
    Fine,
    /// The consumer misses something: make another one.
    Behind,
    /// The stream lacks a known revision, as far as the server knows that answered: a leader that was
    /// deposed, or a new one that has not caught up. Write no task until another answer.
    Lagging,
    /// The stream lacks a known revision: nothing that is known is certain, and a new session has to
    /// begin.
    WentBack,
}

impl Watch {
    /// A bucket of which only the stream is known. `is_cluster`: whether several servers have it.
    pub fn new(bucket: Bucket, session: SessionId, stream: StreamId, is_cluster: bool) -> Self {
        Watch {
            bucket,
            session,
            stream,
            leader_lag: if is_cluster { LEADER_LAG_MAX } else { Duration::ZERO },
            watermark: Watermark::default(),
            company: true,
            loaded: false,
            clear: false,
            behind_at: None,
            lags_since: None,
        }
    }

    /// A consumer has to be made; returns where it begins.
    pub fn begin(&mut self) -> Start {
        self.clear = false;
        self.behind_at = None;
        match self.watermark.begin() {
            0 => Start::Newest,
            upto => Start::After(upto),
        }
    }

    /// The consumer exists. `end` is where the stream ended before it was made; `has_more` is false if
    /// it has nothing to deliver. Returns whether that completes the loading of the bucket.
    pub fn began(&mut self, end: Revision, has_more: bool) -> bool {
        if has_more {
            return false;
        }
        // Everything that was written up to there is known, or was replaced or removed.
        self.watermark.saw(end);
        self.cleared()
    }

    /// Whether the fleet has to observe a message. Not the session's own writes, whose answers it has;
    /// nor tasks that had ended before the session began.
    pub fn is_news(&self, shown: &Shown) -> bool {
        if self.bucket != Bucket::Tasks {
            return true;
        }
        let is_own = shown.writer == Some(self.session);
        !is_own && (self.loaded || !shown.is_done)
    }

    /// A message was delivered. Returns whether that completes the loading of the bucket.
    pub fn showed(&mut self, shown: &Shown) -> bool {
        self.watermark.saw(shown.revision);
        self.clear = !shown.has_more;
        self.clear && self.cleared()
    }

    fn cleared(&mut self) -> bool {
        self.clear = true;
        !mem::replace(&mut self.loaded, true)
    }

    /// A write of this session to the bucket was acknowledged.
    pub fn wrote(&mut self, revision: Revision) {
        self.watermark.wrote(revision);
    }

    /// Whether other masters may write to the bucket, as far as is known now.
    pub fn meet(&mut self, company: bool) {
        self.company = company;
    }

    /// Whether no consumer is needed now: no other master writes to the bucket, and every write of
    /// others is known.
    pub fn may_rest(&self) -> bool {
        let is_alone = self.bucket == Bucket::Tasks && !self.company;
        is_alone && self.loaded && (self.clear || self.watermark.is_ahead())
    }

    /// The last revision before which everything is known.
    pub fn upto(&self) -> Revision {
        self.watermark.upto()
    }

    /// A question that is sent now.
    pub fn question(&self, sent: Time) -> EndQuestion {
        EndQuestion { sent, upto: self.upto() }
    }

    /// The answer to a question: the stream ends at `end`.
    pub fn compared(&mut self, question: EndQuestion, end: Mark) -> Compared {
        if end.stream != self.stream {
            return Compared::WentBack;
        }
        if end.revision < question.upto {
            // As with claims: only the answer to a question counts that was sent when no leader can
            // have been behind any more.
            let since = *self.lags_since.get_or_insert(question.sent);
            let is_certain = question.sent >= since + self.leader_lag;
            return if is_certain { Compared::WentBack } else { Compared::Lagging };
        }
        self.lags_since = None;
        let upto = self.watermark.upto();
        let behind = (end.revision > upto).then_some(upto);
        // Behind at the same place twice: the consumer is not late, it misses something.
        let is_stuck = behind.is_some() && self.behind_at == behind;
        self.behind_at = behind;
        if is_stuck { Compared::Behind } else { Compared::Fine }
    }
}

#[cfg(test)]
mod tests;
