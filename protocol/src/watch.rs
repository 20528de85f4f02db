//! Following a stream by a consumer that may be late, or die without a word: where a consumer begins,
//! which of the messages that it shows are news, whether it still shows everything, and when there is no
//! need of one. Never the values.
//!
//! A master without company rests from following the tasks: all that it would hear is its own writes, and
//! that is a tenth of what the registry does for a task. It rests only while its acknowledgements follow
//! each other without a gap. A gap is somebody else's write.

mod watermark;

use crate::{
    Revision, SessionId,
    registry::{Mark, StreamId},
    subject::Bucket,
};
use core::{mem, time::Duration};
use watermark::Watermark;

/// How often the end of a stream is compared with what is known of it.
pub const COMPARE_EVERY: Duration = Duration::from_secs(5);

/// How one session of a master follows one bucket.
///
/// Call [`begin`](Watch::begin) for each consumer, [`began`](Watch::began) when it is there, and
/// [`showed`](Watch::showed) for each message, after the fleet has been told of it if it
/// [`is_news`](Watch::is_news). Call [`compared`](Watch::compared) before each consumer and every
/// [`COMPARE_EVERY`].
#[derive(Debug)]
pub struct Watch {
    bucket: Bucket,
    session: SessionId,
    stream: StreamId,
    watermark: Watermark,
    /// Whether other masters may write to the bucket.
    company: bool,
    /// Whether everything in the bucket has been shown once.
    loaded: bool,
    /// Whether the consumer has shown everything there was.
    clear: bool,
    /// Where the watermark stood when it was found to be before the stream's end.
    behind_at: Option<Revision>,
}

/// Where a consumer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the newest value of every key.
    Newest,
    /// With everything after this revision.
    After(Revision),
}

/// A message that a consumer shows.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Its revision.
    pub revision: Revision,
    /// Whether the consumer has more to show already.
    pub has_more: bool,
    /// The session of a master that wrote it, where the message says so.
    pub writer: Option<SessionId>,
    /// Whether it is the record of a task that has ended.
    pub is_done: bool,
}

/// What the end of a stream says of its watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// All is known, or may still come.
    Fine,
    /// The consumer misses something: another one has to be made.
    Behind,
    /// The stream lacks something that is known: nothing that is known is certain, and only another
    /// session may go on.
    WentBack,
}

impl Watch {
    /// A bucket that nothing is known of but which stream it is.
    pub fn new(bucket: Bucket, session: SessionId, stream: StreamId) -> Self {
        Watch {
            bucket,
            session,
            stream,
            watermark: Watermark::default(),
            company: true,
            loaded: false,
            clear: false,
            behind_at: None,
        }
    }

    /// A consumer has to be made, and begins there.
    pub fn begin(&mut self) -> Start {
        self.clear = false;
        self.behind_at = None;
        match self.watermark.begin() {
            0 => Start::Newest,
            upto => Start::After(upto),
        }
    }

    /// The consumer is there. `end` is where the stream ended before it was made; `has_more` is false if
    /// it has nothing to show. Whether the bucket is loaded by that.
    pub fn began(&mut self, end: Revision, has_more: bool) -> bool {
        if has_more {
            return false;
        }
        // Whatever was written up to there is known, or has been replaced or removed.
        self.watermark.saw(end);
        self.cleared()
    }

    /// Whether the fleet has to be told of a message. Not of the session's own writes, whose answers it
    /// has; nor of what had ended before the session began.
    pub fn is_news(&self, shown: &Shown) -> bool {
        if self.bucket != Bucket::Tasks {
            return true;
        }
        let is_own = shown.writer == Some(self.session);
        !is_own && (self.loaded || !shown.is_done)
    }

    /// A message has been shown. Whether the bucket is loaded by that.
    pub fn showed(&mut self, shown: &Shown) -> bool {
        self.watermark.saw(shown.revision);
        self.clear = !shown.has_more;
        self.clear && self.cleared()
    }

    fn cleared(&mut self) -> bool {
        self.clear = true;
        !mem::replace(&mut self.loaded, true)
    }

    /// A write of this session to the bucket has been acknowledged.
    pub fn wrote(&mut self, revision: Revision) {
        self.watermark.wrote(revision);
    }

    /// Whether other masters may write to the bucket, as far as is known now.
    pub fn meet(&mut self, company: bool) {
        self.company = company;
    }

    /// Whether no consumer is needed now: nobody else writes to the bucket, and everything that others
    /// have written is known.
    pub fn may_rest(&self) -> bool {
        let is_alone = self.bucket == Bucket::Tasks && !self.company;
        is_alone && self.loaded && (self.clear || self.watermark.is_ahead())
    }

    /// The last revision before which nothing is unknown. It has to be read before the stream is asked for
    /// its end: what is written meanwhile proves nothing.
    pub fn upto(&self) -> Revision {
        self.watermark.upto()
    }

    /// The stream ends at `end`; `asked_at` is what [`upto`](Watch::upto) was before that was asked.
    pub fn compared(&mut self, asked_at: Revision, end: Mark) -> Compared {
        if end.stream != self.stream || end.revision < asked_at {
            return Compared::WentBack;
        }
        let upto = self.watermark.upto();
        let behind = (end.revision > upto).then_some(upto);
        // Behind at the same place twice: it is not late, it misses something.
        let is_stuck = behind.is_some() && self.behind_at == behind;
        self.behind_at = behind;
        if is_stuck { Compared::Behind } else { Compared::Fine }
    }
}

#[cfg(test)]
mod tests;
