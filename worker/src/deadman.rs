//! The kernel timer that kills a worker that still holds guests after its lease. The timer runs on the
//! boot clock and kills the whole process; nothing in the process can delay it, not even SIGSTOP.
//! [`lease::Deadman`] decides when it is armed; this module never does.

use crate::clock::boottime;
use muster_protocol::{
    Time,
    lease::{self, HoldError, LeaseEnd},
};
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
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// Why a guest may not run. None was started.
#[derive(Debug, thiserror::Error)]
pub enum DeadmanError {
    /// The kernel would not kill this process in time, so no guest may run in it.
    #[error("the kernel's timer cannot be set ({0}), so no guest may run")]
    Timer(Errno),
    /// The lease has ended, or there was none yet.
    #[error("the lease has ended")]
    Lapsed,
}

/// The end of the lease as gates see it, and the kernel timer that enforces it. Clones share both.
#[derive(Clone)]
pub struct SharedDeadman {
    end: LeaseEnd,
    shared: Arc<Mutex<lease::Deadman<KillTimer>>>,
}

/// A guard to hold from before a guest starts until the guest is gone.
#[must_use]
pub struct Held(SharedDeadman);

impl SharedDeadman {
    /// A closed lease and a disarmed timer. `margin`: how long after the lease's end the kernel kills
    /// the process, [`muster_protocol::lease::LeaseTiming::kill_margin`].
    pub fn new(margin: Duration) -> Result<Self, DeadmanError> {
        let timer = KillTimer::new().map_err(DeadmanError::Timer)?;
        let deadman = lease::Deadman::new(margin, timer);
        Ok(SharedDeadman { end: deadman.end(), shared: Arc::new(Mutex::new(deadman)) })
    }

    /// The end of the lease, for gates.
    pub fn end(&self) -> LeaseEnd {
        self.end.clone()
    }

    /// Sets the end of the lease to `until`. On an error the end has not changed.
    pub fn move_end(&self, until: Time) -> Result<(), DeadmanError> {
        self.lock().move_end(until).map_err(DeadmanError::Timer)
    }

    /// Closes every gate. The timer stays armed, for guests that do not end.
    pub fn close(&self) {
        self.lock().close();
    }

    /// Lets a guest start. From now on, the kernel kills the process if the lease is not extended,
    /// until every guest is gone.
    pub fn hold(&self) -> Result<Held, DeadmanError> {
        let held = self.lock().hold(boottime());
        held.map_err(|error| match error {
            HoldError::Timer(errno) => DeadmanError::Timer(errno),
            HoldError::Lapsed => DeadmanError::Lapsed,
        })?;
        Ok(Held(self.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, lease::Deadman<KillTimer>> {
        self.shared.lock().expect("no holder of this lock panics")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Err(error) = self.0.lock().release() {
            tracing::error!(%error, "the kernel's timer cannot be disarmed; it will end this worker");
        }
    }
}

/// The kernel timer. Its signal, SIGKILL, cannot be caught, blocked or ignored.
struct KillTimer(Timer);

// SAFETY: a POSIX timer belongs to the process and not to a thread, and every thread may set it. The
// type is not `Send` by itself only because its handle is a pointer; nothing dereferences it.
#[allow(unsafe_code)]
unsafe impl Send for KillTimer {}

impl KillTimer {
    fn new() -> Result<Self, Errno> {
        let signal = SigevNotify::SigevSignal { signal: Signal::SIGKILL, si_value: 0 };
        Timer::new(ClockId::CLOCK_BOOTTIME, SigEvent::new(signal)).map(KillTimer)
    }

    fn expire(&mut self, at: TimeSpec) -> Result<(), Errno> {
        self.0.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
    }
}

impl lease::KillTimer for KillTimer {
    type Error = Errno;

    fn set(&mut self, at: Time) -> Result<(), Errno> {
        self.expire(TimeSpec::from_duration(Duration::from_nanos(at.as_nanos())))
    }

    fn disarm(&mut self) -> Result<(), Errno> {
        self.expire(TimeSpec::new(0, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds of real time until the kernel timer expires; `None` if it is not armed.
    fn left(deadman: &SharedDeadman) -> Option<u64> {
        match deadman.lock().timer().0.get().expect("the kernel answers")? {
            Expiration::OneShot(left) => Some(Duration::from(left).as_secs_f32().round() as u64),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_kernels_timer_is_armed_while_guests_run_and_moves_with_the_lease() {
        let deadman = SharedDeadman::new(Duration::from_secs(1)).expect("a timer");
        assert!(matches!(deadman.hold(), Err(DeadmanError::Lapsed)), "there is no lease yet");
        deadman.move_end(boottime() + Duration::from_secs(100)).expect("a timer");
        assert_eq!(left(&deadman), None, "nothing runs");
        let (first, second) = (deadman.hold().expect("a lease"), deadman.hold().expect("a lease"));
        assert_eq!(left(&deadman), Some(101));
        deadman.move_end(boottime() + Duration::from_secs(200)).expect("a timer");
        assert_eq!(left(&deadman), Some(201));
        drop(first);
        assert_eq!(left(&deadman), Some(201), "one still runs");
        drop(second);
        assert_eq!(left(&deadman), None);
    }
}
