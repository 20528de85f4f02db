//! Pauses failovers while too many workers are silent at once. Never pauses them for
//! longer than [`MASS_SILENCE_MAX`](limit::MASS_SILENCE_MAX).

use super::{ASK_AGAIN, Effect, Fleet, Worker};
use crate::{
    Time,
    advisory::{Advisory, FailoverEvent},
    limit,
};
use alloc::string::String;

/// Since when too many workers have been silent at once. Then it is more likely that this master cannot
/// reach them than that all are lost.
#[derive(Debug, Default)]
pub(super) struct MassSilence {
    since: Option<Time>,
    /// The result of the last check, and when it was made.
    looked: Option<(Time, bool)>,
}

impl Fleet {
    /// Until when no worker may be declared lost, if too many are silent at once.
    pub(super) fn failovers_paused_until(&mut self, now: Time) -> Option<Time> {
        let over_half = match self.mass_silence.looked {
            Some((at, over_half)) if at == now => over_half,
            _ => {
                let held = |worker: &&Worker| worker.held_lease().is_some();
                let all = self.workers.values().filter(held).count();
                // Count a worker as silent from half of its wait on: workers that fall silent together
                // have not all renewed at the same moment.
                let silent = |worker: &&Worker| now + worker.wait / 2 >= self.runs_out(worker);
                let silent = self.workers.values().filter(held).filter(silent).count();
                all >= limit::MASS_SILENCE_WORKERS_MIN && silent * 2 > all
            }
        };
        self.mass_silence.looked = Some((now, over_half));
        if !over_half {
            self.mass_silence.since = None;
            return None;
        }
        if self.mass_silence.since.is_none() {
            self.outbox.push(Effect::Publish(Advisory::Failover {
                master: self.config.me.clone(),
                what: FailoverEvent::Held,
                reason: String::from(
                    "over half of the workers are silent at once; none is declared lost for now",
                ),
            }));
        }
        let since = *self.mass_silence.since.get_or_insert(now);
        let until = since + limit::MASS_SILENCE_MAX;
        (now < until).then(|| until.min(now + ASK_AGAIN))
    }
}
