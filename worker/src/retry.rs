//! Requests to masters for a run, repeated until they succeed or the run's gate is closed. Never tries
//! without a permit.

use crate::{
    clock::boottime,
    gate::RunGate,
    link,
    links::{LinkHandle, Links},
};
use muster_protocol::{
    lease::{KillReason, Permit},
    retry::RetryPolicy,
};

/// Sends a request through any linked master. `judge` returns the result, or why the answer is none;
/// then the request is repeated after a wait.
pub(crate) async fn until_done<R, T, F>(
    gate: &RunGate,
    links: &Links,
    policy: RetryPolicy,
    send: impl Fn(Permit<'_>, LinkHandle) -> F,
    mut judge: impl FnMut(R) -> Result<T, String>,
) -> Result<T, KillReason>
where
    F: Future<Output = R>,
{
    loop {
        let permit = gate.pass(boottime())?;
        if let Some(link) = link::any(links) {
            match judge(send(permit, link).await) {
                Ok(done) => return Ok(done),
                Err(cause) => tracing::warn!(cause, "trying again"),
            }
        }
        tokio::time::sleep(policy.wait).await;
    }
}
