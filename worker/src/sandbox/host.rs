//! The functions that the SDK's world offers to a guest. Never performs an effect without a check of
//! the gate, and never waits except for checkpoints.

use super::{Sandbox, Stop};
use crate::{checkpoint::Refused, clock::boottime};
use bindings::muster::task::host::{AttemptContext, Host, Level};
use muster_protocol::{
    limit,
    task::{LimitName, clip},
};
use std::time::Duration;
use wasmtime::{Error, Result};

/// The shortest time between two checkpoints of a run; an earlier call waits.
pub const CHECKPOINT_EVERY: Duration = Duration::from_millis(20);

/// Bytes of checkpoints per second that a run may store over time: each one stays in the registry for
/// days.
pub const CHECKPOINT_RATE: u64 = 4 * 1024 * 1024;

/// Bindings that are generated from the same file against which guests are built.
#[allow(missing_docs)]
pub(crate) mod bindings {
    wasmtime::component::bindgen!({
        path: "../guest-sdk/wit",
        world: "task",
        imports: {
            "muster:task/host.checkpoint": async | trappable,
            "muster:task/host.resume": async | trappable,
            default: trappable,
        },
        exports: { default: async },
    });
}

impl Sandbox {
    /// An error once the run has to end.
    fn check_permitted(&self) -> Result<()> {
        if self.watch.is_permitted() { Ok(()) } else { Err(ended()) }
    }
}

impl Host for Sandbox {
    fn context(&mut self) -> Result<AttemptContext> {
        let left = self.watch.deadline().since(boottime());
        Ok(AttemptContext {
            task: self.key.task.to_string(),
            attempt: self.key.attempt.to_string(),
            attempt_number: self.number,
            worker: self.worker.to_string(),
            time_left_ms: Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            draining: self.draining.load(std::sync::atomic::Ordering::Relaxed),
        })
    }

    fn progress(&mut self, done: u64, total: u64) -> Result<()> {
        let (permit, mut outbox) = self.watch.permit_with_outbox().ok_or_else(ended)?;
        outbox.progress(permit, done, total);
        if outbox.due().is_some() {
            self.watch.wake();
        }
        Ok(())
    }

    async fn checkpoint(&mut self, state: Vec<u8>) -> Result<()> {
        self.check_permitted()?;
        let max = self.checkpoint_max;
        if state.len() as u64 > max {
            self.watch.end(Stop::Over { limit: LimitName::CheckpointBytes, max });
            return Err(ended());
        }
        // Each checkpoint is a write to the registry, so the rate of one run is limited.
        if let Some(next) = self.save_next {
            let wait = next.since(boottime());
            tokio::time::sleep(wait).await;
            self.check_permitted()?;
        }
        let pace = Duration::from_secs_f64(state.len() as f64 / CHECKPOINT_RATE as f64);
        self.save_next = Some(boottime() + pace.max(CHECKPOINT_EVERY));
        self.saves += 1;
        let gate = self.watch.gate();
        let saved = self.checkpoints.save(gate, self.key, self.saves, state.into()).await;
        saved.map_err(|refused| self.refused_checkpoint(refused))
    }

    async fn resume(&mut self) -> Result<Option<Vec<u8>>> {
        self.check_permitted()?;
        // The first attempt has no earlier checkpoint.
        if self.number == 1 {
            return Ok(None);
        }
        let left = self.checkpoints.resume(self.watch.gate(), self.key).await;
        left.map(|state| state.map(Vec::from)).map_err(|refused| self.refused_checkpoint(refused))
    }

    fn log(&mut self, level: Level, message: String) -> Result<()> {
        let (permit, mut outbox) = self.watch.permit_with_outbox().ok_or_else(ended)?;
        let level = match level {
            Level::Error => "ERROR",
            Level::Warn => "WARN",
            Level::Info => "INFO",
            Level::Debug => "DEBUG",
            Level::Trace => "TRACE",
        };
        // One call writes one line, whatever the message contains: a guest must not be able to forge
        // other lines.
        let message = clip(&message, limit::LOG_CHUNK_MAX - 16).replace(['\n', '\r'], " ");
        outbox.log(permit, format!("{level} {message}\n"));
        Ok(())
    }
}

impl Sandbox {
    /// Ends a run that cannot have its checkpoint.
    fn refused_checkpoint(&self, refused: Refused) -> Error {
        // The gate itself ends a run that was killed.
        if refused == Refused::Stale {
            self.watch.end(Stop::Stale);
        }
        ended()
    }
}

/// The error of a host call once the run has to end; the cause is in the watch.
fn ended() -> Error {
    Error::msg("the run has ended")
}
