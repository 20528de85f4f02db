//! The kernel's own end of a worker that still holds guests past its lease: a timer on the boot
//! clock that kills the whole process, which nothing in the process can delay, not even that it was
//! stopped. Never armed while no guest runs: an idle worker may sleep as long as it likes.
//!
//! Two orders make it safe. The timer is moved before the lease's new end is known to any gate, so
//! that it is never early; and it is armed before a guest may start and disarmed only after the
//! last one is gone, so that it is never missing.

use crate::clock::boottime;
use muster_protocol::Time;
use nix::{
    errno::Errno,
    sys::{
        signal::{SigEvent, SigevNotify, Signal},
        time::TimeSpec,
        timer::{Expiration, Timer, TimerSetTimeFlags},
    },
    time::ClockId,
};
use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Why a guest may not run. None was started.
#[derive(Debug, thiserror::Error)]
pub enum DeadmanError {
    /// The kernel would not end this process in time, so nothing may run in it.
    #[error("the kernel's timer cannot be set ({0}), so no guest may run")]
    Timer(Errno),
    /// There is no lease to run under.
    #[error("the lease has ended")]
    Lapsed,
}

/// The end of the lease, as gates see it, and the timer behind it. Clones are the same one.
#[derive(Clone)]
pub struct Deadman(Arc<Shared>);

struct Shared {
    until: Arc<AtomicU64>,
    margin: Duration,
    state: Mutex<State>,
}

struct State {
    timer: KillTimer,
    guests: usize,
}

/// To be held from before a guest starts until it is gone.
#[must_use]
pub struct Held(Deadman);

impl Deadman {
    /// A closed lease and a disarmed timer. `margin`: how long after the lease's end the kernel
    /// kills the process, [`muster_protocol::lease::LeaseTiming::kill_margin`].
    pub fn new(margin: Duration) -> Result<Self, DeadmanError> {
        let state = State { timer: KillTimer::new().map_err(DeadmanError::Timer)?, guests: 0 };
        let until = Arc::default();
        Ok(Deadman(Arc::new(Shared { until, margin, state: Mutex::new(state) })))
    }

    /// The lease's end in nanoseconds of `CLOCK_BOOTTIME`, for gates.
    pub fn until(&self) -> Arc<AtomicU64> {
        self.0.until.clone()
    }

    /// The lease now ends at `until`. Where that fails its end has not changed.
    pub fn extend(&self, until: Time) -> Result<(), DeadmanError> {
        let mut state = self.state();
        if state.guests > 0 {
            state.timer.set(until + self.0.margin).map_err(DeadmanError::Timer)?;
        }
        self.0.until.store(until.as_nanos(), Ordering::SeqCst);
        Ok(())
    }

    /// Closes every gate. The timer stays where it is, for guests that do not go.
    pub fn close(&self) {
        self.0.until.store(0, Ordering::SeqCst);
    }

    /// Lets a guest start: from here on the kernel kills the process where the lease is not
    /// extended, until every guest is gone.
    pub fn hold(&self) -> Result<Held, DeadmanError> {
        let mut state = self.state();
        if state.guests == 0 {
            let until = Time::from_nanos(self.0.until.load(Ordering::SeqCst));
            // A time that has passed would kill a worker that has nothing to answer for.
            if boottime() >= until {
                return Err(DeadmanError::Lapsed);
            }
            state.timer.set(until + self.0.margin).map_err(DeadmanError::Timer)?;
        }
        state.guests += 1;
        drop(state);
        Ok(Held(self.clone()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no holder of this lock panics")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.guests -= 1;
        if state.guests == 0
            && let Err(error) = state.timer.disarm()
        {
            tracing::error!(%error, "the kernel's timer cannot be disarmed; it will end this worker");
        }
    }
}

/// The kernel's timer. Its signal cannot be caught, blocked or ignored.
struct KillTimer(Timer);

// SAFETY: a POSIX timer belongs to the process and not to a thread, and every thread may set it. It
// is not `Send` by itself only because its handle has the type of a pointer; nobody dereferences it.
#[allow(unsafe_code)]
unsafe impl Send for KillTimer {}

impl KillTimer {
    fn new() -> Result<Self, Errno> {
        let signal = SigevNotify::SigevSignal { signal: Signal::SIGKILL, si_value: 0 };
        Timer::new(ClockId::CLOCK_BOOTTIME, SigEvent::new(signal)).map(KillTimer)
    }

    fn set(&mut self, at: Time) -> Result<(), Errno> {
        self.expire(TimeSpec::from_duration(Duration::from_nanos(at.as_nanos())))
    }

    fn disarm(&mut self) -> Result<(), Errno> {
        self.expire(TimeSpec::new(0, 0))
    }

    fn expire(&mut self, at: TimeSpec) -> Result<(), Errno> {
        self.0.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn armed(deadman: &Deadman) -> bool {
        deadman.state().timer.0.get().expect("the kernel answers").is_some()
    }

    #[test]
    fn the_timer_is_armed_from_the_first_guest_to_the_last() {
        let deadman = Deadman::new(Duration::from_secs(60)).expect("a timer");
        assert!(matches!(deadman.hold(), Err(DeadmanError::Lapsed)), "there is no lease yet");
        deadman.extend(boottime() + Duration::from_secs(60)).expect("a timer");
        assert!(!armed(&deadman), "nothing runs");
        let first = deadman.hold().expect("a lease");
        let second = deadman.hold().expect("a lease");
        drop(first);
        assert!(armed(&deadman), "one still runs");
        deadman.close();
        assert!(armed(&deadman), "a guest that does not go is killed");
        drop(second);
        assert!(!armed(&deadman));
        assert!(matches!(deadman.hold(), Err(DeadmanError::Lapsed)), "its end has come");
    }

    #[test]
    fn it_moves_with_the_lease() {
        let deadman = Deadman::new(Duration::from_secs(1)).expect("a timer");
        let left = |deadman: &Deadman| match deadman.state().timer.0.get() {
            Ok(Some(Expiration::OneShot(left))) => {
                Duration::from(left).as_secs_f32().round() as u64
            }
            other => panic!("{other:?}"),
        };
        deadman.extend(boottime() + Duration::from_secs(100)).expect("a timer");
        let _held = deadman.hold().expect("a lease");
        assert_eq!(left(&deadman), 101);
        deadman.extend(boottime() + Duration::from_secs(200)).expect("a timer");
        assert_eq!(left(&deadman), 201);
    }
}
