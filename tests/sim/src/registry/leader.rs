//! What the leaders of the streams know: whether there is one, where the streams end by its account, and
//! which writes it lacks. Never a leader that lacks what was written before its lag began.

use super::STREAMS;
use crate::world::{Nanos, World};
use muster_protocol::{
    registry::{Mark, Marks},
    subject::Bucket,
};

impl World {
    /// Whether a stream has no leader at present.
    pub fn elects(&self, stream: usize) -> bool {
        self.now < self.registry.elects_until[stream]
    }

    /// The ends of the streams.
    pub fn ends(&self) -> Marks {
        let mut ends = Marks::default();
        for bucket in STREAMS {
            let mut end = self.end_of(bucket);
            end.revision -= u64::from(self.lags(self.written_at(bucket))).min(end.revision);
            ends.set(bucket, end);
        }
        ends
    }

    /// Whether the server that acts as the leader does not know a write of this time.
    pub fn lags(&self, written_at: Nanos) -> bool {
        self.now < self.registry.lags_until && written_at >= self.registry.lags_from
    }

    /// The time of a stream's newest write.
    pub(super) fn written_at(&self, bucket: Bucket) -> Nanos {
        match bucket {
            Bucket::Workers => self.registry.workers.written_at(),
            Bucket::Masters => self.registry.masters.written_at(),
            Bucket::Tasks => self.registry.tasks.written_at(),
            Bucket::Modules | Bucket::Checkpoints | Bucket::Access => 0,
        }
    }

    pub(super) fn end_of(&self, bucket: Bucket) -> Mark {
        match bucket {
            Bucket::Workers => self.registry.workers.end(),
            Bucket::Masters => self.registry.masters.end(),
            Bucket::Tasks => self.registry.tasks.end(),
            Bucket::Modules | Bucket::Checkpoints | Bucket::Access => Mark::default(),
        }
    }
}
