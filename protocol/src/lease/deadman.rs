//! The deadman: when the kernel kills a worker that still holds guests after its lease; what moves the
//! kernel's timer, and the end of the lease that gates see. The timer is never armed while no guest
//! runs: an idle worker may sleep for any time.
//!
//! Two orders make it safe. The timer is moved before any gate sees the lease's new end, so that it
//! never fires early; and it is armed before a guest may start and disarmed after the last guest is
//! gone, so that it is never missing.

use super::LeaseEnd;
use crate::Time;
use core::time::Duration;

/// A timer on the boot clock that kills the process, whatever the process does.
pub trait KillTimer {
    /// Why the timer could not be set.
    type Error;
    /// Makes it expire at that time, and at no other.
    fn set(&mut self, at: Time) -> Result<(), Self::Error>;
    /// Makes it not expire.
    fn disarm(&mut self) -> Result<(), Self::Error>;
}

/// Why a guest may not run. None was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldError<E> {
    /// The kernel would not kill this process in time, so nothing may run in it.
    Timer(E),
    /// There is no lease under which it may run.
    Lapsed,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Deadman<T> {
    end: LeaseEnd,
    margin: Duration,
    timer: T,
    guests: usize,
}

impl<T: KillTimer> Deadman<T> {
    /// A lease that is over, and a timer that is not armed. `margin` is the time between the lease's
    /// end and the kill: [`LeaseTiming::kill_margin`](super::LeaseTiming::kill_margin).
    pub fn new(margin: Duration, timer: T) -> Self {
        Deadman { end: LeaseEnd::at(Time::ZERO), margin, timer, guests: 0 }
    }

    /// The lease's end, for gates.
    pub fn end(&self) -> LeaseEnd {
        self.end.clone()
    }

    /// The timer.
    pub fn timer(&self) -> &T {
        &self.timer
    }

    /// The lease now ends at `until`. If this fails, the end has not changed.
    pub fn move_end(&mut self, until: Time) -> Result<(), T::Error> {
        if self.guests > 0 {
            self.timer.set(until + self.margin)?;
        }
        self.end.set(until);
        Ok(())
    }

    /// Closes every gate. The timer stays set, for guests that do not stop.
    pub fn close(&mut self) {
        self.end.set(Time::ZERO);
    }

    /// Lets a guest start: from here on the kernel kills the process if the lease is not extended,
    /// until [`release`](Deadman::release) has been called for every guest.
    pub fn hold(&mut self, now: Time) -> Result<(), HoldError<T::Error>> {
        if self.guests == 0 {
            let until = self.end.get();
            // A time that has passed would kill a worker without guests.
            if now >= until {
                return Err(HoldError::Lapsed);
            }
            self.timer.set(until + self.margin).map_err(HoldError::Timer)?;
        }
        self.guests += 1;
        Ok(())
    }

    /// A guest is gone.
    pub fn release(&mut self) -> Result<(), T::Error> {
        self.guests = self.guests.saturating_sub(1);
        if self.guests == 0 { self.timer.disarm() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Timer {
        at: Option<Time>,
        broken: bool,
    }

    impl KillTimer for Timer {
        type Error = ();
        fn set(&mut self, at: Time) -> Result<(), ()> {
            if self.broken {
                return Err(());
            }
            self.at = Some(at);
            Ok(())
        }
        fn disarm(&mut self) -> Result<(), ()> {
            self.at = None;
            Ok(())
        }
    }

    const MARGIN: Duration = Duration::from_nanos(5);

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    #[test]
    fn the_timer_is_armed_from_the_first_guest_to_the_last() {
        let mut deadman = Deadman::new(MARGIN, Timer::default());
        assert_eq!(deadman.hold(at(1)), Err(HoldError::Lapsed), "there is no lease yet");
        assert_eq!(deadman.move_end(at(10)), Ok(()));
        assert_eq!(deadman.timer().at, None, "nothing runs");
        assert_eq!(deadman.hold(at(1)), Ok(()));
        assert_eq!(deadman.hold(at(1)), Ok(()));
        assert_eq!(deadman.release(), Ok(()));
        assert_eq!(deadman.timer().at, Some(at(15)), "one still runs");
        deadman.close();
        assert_eq!(deadman.timer().at, Some(at(15)), "a guest that does not go is killed");
        assert_eq!(deadman.release(), Ok(()));
        assert_eq!(deadman.timer().at, None);
        assert_eq!(deadman.hold(at(2)), Err(HoldError::Lapsed), "its end has come");
    }

    #[test]
    fn it_moves_with_the_lease_and_before_any_gate_knows() {
        let mut deadman = Deadman::new(MARGIN, Timer::default());
        assert_eq!(deadman.move_end(at(10)), Ok(()));
        assert_eq!(deadman.hold(at(1)), Ok(()));
        assert_eq!(deadman.move_end(at(20)), Ok(()));
        assert_eq!((deadman.timer().at, deadman.end().get()), (Some(at(25)), at(20)));
        deadman.timer.broken = true;
        assert_eq!(deadman.move_end(at(30)), Err(()));
        assert_eq!(deadman.end().get(), at(20), "no gate stays open longer than the timer lets it");
    }
}
