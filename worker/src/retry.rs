//! What is sent to a master for a run, until that is done or the gate of the run is closed. It must never
//! try without a permit.

use crate::{
    clock::boottime,
    gate::Gate,
    link,
    links::{LinkHandle, Links},
};
use muster_protocol::{
    lease::{KillReason, Permit},
    retry::RetryPolicy,
};

/// Sends through whichever master is linked. `judge` says whether the answer is a result, or else why it is
/// not; then it is sent again after a while.
pub(crate) async fn until_done<R, T, F>(
    gate: &Gate,
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
