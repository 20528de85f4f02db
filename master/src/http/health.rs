//! Metrics and health, for programs. Never needs the registry.

use super::Shared;
use crate::metrics::{GROUPS_READ_MAX, Seen};
use hyper::StatusCode;
use muster_protocol::fleet::Fleet;
use muster_wire::{
    clock,
    http::answer::{self, Answer, plain},
};

impl Shared {
    pub(super) async fn metrics(&self) -> Answer {
        let seen = self.look(|fleet| Seen {
            overview: fleet.overview(clock::boottime(), GROUPS_READ_MAX),
            is_up: fleet.is_up(),
        });
        let Some(seen) = seen.await else { return silent() };
        answer::metrics(self.metrics.text(&seen))
    }

    /// Whether the process works. One that does not should be restarted.
    pub(super) async fn health(&self) -> Answer {
        match self.look(|_| ()).await {
            Some(()) => plain(StatusCode::OK, "it works\n"),
            None => silent(),
        }
    }

    /// Whether the master serves. One that does not should be given time.
    pub(super) async fn readiness(&self) -> Answer {
        match self.look(Fleet::is_up).await {
            Some(true) => plain(StatusCode::OK, "it serves\n"),
            Some(false) => {
                plain(StatusCode::SERVICE_UNAVAILABLE, "it has not loaded the registry\n")
            }
            None => silent(),
        }
    }
}

fn silent() -> Answer {
    plain(StatusCode::SERVICE_UNAVAILABLE, "the master's loop does not answer\n")
}
