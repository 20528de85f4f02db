//! The causes that may end a run before its guest ends: the gate, the time limit and other limits,
//! checked on every tick and while the guest waits. Never changes its decision: the first cause found
//! counts.

use super::outbox::Outbox;
use crate::{clock::boottime, gate::RunGate, journal::Journal};
use muster_protocol::{
    Time,
    lease::{KillReason, Permit},
    task::LimitName,
};
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};
use tokio::sync::Notify;

/// Why a run was ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The worker killed it.
    Killed(KillReason),
    /// It reached its time limit.
    TimedOut,
    /// Its checkpoint was refused: another attempt has taken the task over, or the task's record is
    /// gone.
    Stale,
    /// It exceeded another limit.
    Over { limit: LimitName, max: u64 },
}

/// The state that a run, its epoch callback and its host functions share.
pub(crate) struct Watch {
    gate: RunGate,
    deadline: Time,
    cpu: Cpu,
    stop: OnceLock<Stop>,
    outbox: Mutex<Outbox>,
    journal: Journal,
    /// The number of [`UnderWay`] guards, and the notification that the last one is gone.
    under_way: AtomicUsize,
    quiet: Notify,
}

impl Watch {
    pub fn new(
        gate: RunGate,
        deadline: Time,
        cpu_ms: u64,
        outbox: Outbox,
        journal: Journal,
    ) -> Self {
        let cpu = Cpu { max_ms: cpu_ms, used: AtomicU64::new(0), since: AtomicU64::new(0) };
        let (stop, outbox) = (OnceLock::new(), Mutex::new(outbox));
        let (under_way, quiet) = Default::default();
        Watch { gate, deadline, cpu, stop, outbox, journal, under_way, quiet }
    }

    /// Ends the run for this cause, unless it has another cause already.
    pub fn end(&self, stop: Stop) {
        let _ = self.stop.set(stop);
        self.gate.wake();
    }

    /// Nanoseconds of processor time that the guest has used so far. Within [`Watch::computing`], this
    /// includes the current turn.
    pub fn cpu(&self) -> u64 {
        self.cpu.used.load(Ordering::Relaxed) + self.cpu.turn()
    }

    /// Polls `guest`, and counts its processor time.
    pub async fn computing<T>(&self, guest: impl Future<Output = T>) -> T {
        let mut guest = std::pin::pin!(guest);
        std::future::poll_fn(|context| {
            self.cpu.since.store(on_this_thread(), Ordering::Relaxed);
            let polled = guest.as_mut().poll(context);
            let turn = self.cpu.turn();
            self.cpu.since.store(0, Ordering::Relaxed);
            self.cpu.used.fetch_add(turn, Ordering::Relaxed);
            polled
        })
        .await
    }

    /// The same as [`Watch::check`], called where the guest computes: also checks the limit of
    /// processor time.
    pub fn tick(&self, now: Time) -> Option<Stop> {
        let max = self.cpu.max_ms;
        if self.cpu() >= max.saturating_mul(1_000_000) {
            let _ = self.stop.set(Stop::Over { limit: LimitName::CpuMs, max });
        }
        self.check(now)
    }

    /// Why the run has to end; `None` if it may go on.
    pub fn check(&self, now: Time) -> Option<Stop> {
        self.pass(now).err()
    }

    /// The permit for an effect of the run at `now`, or why the run has to end.
    pub fn pass(&self, now: Time) -> Result<Permit<'_>, Stop> {
        let stop = match self.stop.get() {
            Some(stop) => return Err(*stop),
            None => match self.gate.pass(now) {
                Err(reason) => Stop::Killed(reason),
                Ok(_) if now >= self.deadline => Stop::TimedOut,
                Ok(permit) => return Ok(permit),
            },
        };
        // Another cause may have been found meanwhile.
        Err(*self.stop.get_or_init(|| stop))
    }

    /// The permit to report the outcome of a run that has ended `ended`. The gate alone is asked: also a
    /// run that was over a limit has an outcome.
    pub fn permit_report(&self, ended: Time) -> Result<Permit<'_>, KillReason> {
        self.gate.pass(ended)
    }

    /// What waits for the gate of this run, or passes it once for each try.
    pub fn gate(&self) -> &RunGate {
        &self.gate
    }

    /// When the time limit ends the run.
    pub fn deadline(&self) -> Time {
        self.deadline
    }

    /// Call this before an effect outside the guest. Returns the permit, which says the time, and the
    /// outbox, and writes the journal. `None` once the run has to end: then the host call must do nothing.
    pub fn permit_with_outbox(&self) -> Option<(Permit<'_>, MutexGuard<'_, Outbox>)> {
        let permit = self.pass(boottime()).ok()?;
        let outbox = self.outbox();
        self.journal.called(outbox.key());
        Some((permit, outbox))
    }

    /// The permit for an effect that does not use the outbox; otherwise like [`Watch::permit_with_outbox`].
    pub fn permit(&self) -> Option<Permit<'_>> {
        self.permit_with_outbox().map(|(permit, _)| permit)
    }

    /// Whether the run may go on now. For host calls whose effect takes a permit of its own later.
    pub fn is_permitted(&self) -> bool {
        self.permit().is_some()
    }

    /// The reports of the run. They stay usable after a panic elsewhere: they hold text only.
    pub fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes [`Watch::stopped`], so that it takes a waiting report into account.
    pub fn wake(&self) {
        self.gate.wake();
    }

    /// Waits until the run has to end, and meanwhile sends reports that are due. This is for guests
    /// that wait in a host call; for guests that compute, [`Watch::tick`] is called on every tick. It
    /// notices the end of the lease by itself, and goes on if the lease was renewed in time.
    pub async fn stopped(&self) -> Stop {
        loop {
            let now = boottime();
            let permit = match self.pass(now) {
                Ok(permit) => permit,
                Err(stop) => return stop,
            };
            let end = self.deadline.min(self.gate.until());
            let next = {
                let mut outbox = self.outbox();
                outbox.flush(permit);
                outbox.due().map_or(end, |due| due.min(end))
            };
            tokio::select! {
                biased;
                () = self.gate.changed() => {}
                () = tokio::time::sleep(next.since(now)) => {}
            }
        }
    }
}

impl Watch {
    /// Waits until nothing acts for the run any more; call this after its store is gone. A loop that
    /// was aborted may still be in a poll on another thread, after its check of the gate and before its
    /// effect.
    pub async fn quiet(&self) {
        while self.under_way.load(Ordering::SeqCst) > 0 {
            self.quiet.notified().await;
        }
    }
}

/// A guard for work that acts for a run beside its guest: a request, or its connection. The run has not
/// ended while there is one. A clone is one more guard.
pub(crate) struct UnderWay(Arc<Watch>);

impl UnderWay {
    /// One more guard for this run.
    pub fn of(watch: &Arc<Watch>) -> Self {
        watch.under_way.fetch_add(1, Ordering::SeqCst);
        UnderWay(watch.clone())
    }

    /// The watch of the run.
    pub fn watch(&self) -> &Arc<Watch> {
        &self.0
    }
}

impl Clone for UnderWay {
    fn clone(&self) -> Self {
        UnderWay::of(&self.0)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.0.under_way.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.quiet.notify_one();
        }
    }
}

/// Counts processor time.
struct Cpu {
    max_ms: u64,
    /// Nanoseconds in turns that have ended.
    used: AtomicU64,
    /// When the current turn began, on the clock of its thread; 0 if there is none.
    since: AtomicU64,
}

impl Cpu {
    fn turn(&self) -> u64 {
        match self.since.load(Ordering::Relaxed) {
            0 => 0,
            since => on_this_thread().saturating_sub(since),
        }
    }
}

/// Nanoseconds of processor time that this thread has used; at least 1, since 0 means no turn.
fn on_this_thread() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    (time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::{AttemptId, TaskId, lease::LeaseEnd, message::AttemptKey};

    fn watch(until: u64, deadline: u64) -> (Watch, RunGate) {
        let gate = RunGate::new(LeaseEnd::at(Time::from_nanos(until)));
        let key = AttemptKey { task: TaskId(1), attempt: AttemptId(1) };
        let (sender, _) = tokio::sync::mpsc::channel(1);
        let outbox = Outbox::new(key, sender, u64::MAX, Time::ZERO);
        let journal = Journal::default();
        (Watch::new(gate.clone(), Time::from_nanos(deadline), u64::MAX, outbox, journal), gate)
    }

    #[test]
    fn no_effect_gets_through_a_closed_gate() {
        let never = u64::MAX;
        assert!(watch(never, never).0.permit_with_outbox().is_some());
        assert!(watch(1, never).0.permit_with_outbox().is_none(), "the lease ended long ago");
        assert!(watch(never, 1).0.permit_with_outbox().is_none(), "its time is over");
        let (revoked, gate) = watch(never, never);
        gate.kill(KillReason::Revoked);
        assert!(revoked.permit_with_outbox().is_none());
    }

    #[test]
    #[ignore = "a measurement"]
    fn measure_the_gate() {
        const CALLS: u32 = 1_000_000;
        let (watch, _gate) = watch(u64::MAX, u64::MAX);
        let began = std::time::Instant::now();
        for _ in 0..CALLS {
            assert!(std::hint::black_box(&watch).permit().is_some());
        }
        println!("the gate of a host call: {:?}", began.elapsed() / CALLS);
    }

    #[tokio::test]
    async fn a_run_is_quiet_when_the_last_that_acts_for_it_is_gone() {
        let watch = Arc::new(watch(u64::MAX, u64::MAX).0);
        watch.quiet().await;
        let request = UnderWay::of(&watch);
        let connection = request.clone();
        drop(request);
        let mut quiet = std::pin::pin!(watch.quiet());
        assert!(futures::poll!(quiet.as_mut()).is_pending(), "its connection is left");
        std::thread::spawn(move || drop(connection)).join().expect("no panic");
        quiet.await;
    }

    #[test]
    fn the_first_cause_counts() {
        let (watch, gate) = watch(20, 10);
        assert_eq!(watch.check(Time::from_nanos(9)), None);
        assert_eq!(watch.check(Time::from_nanos(10)), Some(Stop::TimedOut));
        gate.kill(KillReason::Revoked);
        assert_eq!(watch.check(Time::from_nanos(30)), Some(Stop::TimedOut));
        let (both, _gate) = self::watch(10, 10);
        assert_eq!(both.check(Time::from_nanos(10)), Some(Stop::Killed(KillReason::Fenced)));
    }
}
