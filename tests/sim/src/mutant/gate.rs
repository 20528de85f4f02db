//! The mutants of a worker's gate and of the code that arms the kernel's timer. Each breaks one rule.

use super::{Edit, edits::edit};

const GATE: &str = "protocol/src/lease/gate.rs";
const DEADMAN: &str = "protocol/src/lease/deadman.rs";

/// Every edit of this file.
pub(super) const EDITS: &[Edit] = &[
    edit(
        GATE,
        "        if now >= self.until() {
            self.kill(KillReason::Fenced);
        }
        self.killed().map_or(Ok(Permit { at: now, gate: PhantomData }), Err)",
        "        let passed = now > self.until()
            || (now == self.until() && !ON[the-leases-end-is-inside-of-it]);
        if passed && !ON[the-gate-does-not-know-the-leases-end] {
            if ON[a-gate-that-was-closed-opens-again] {
                return Err(KillReason::Fenced);
            }
            self.kill(KillReason::Fenced);
        }
        if ON[the-gate-does-not-know-of-a-kill] && self.killed() == Some(KillReason::Revoked) {
            return Ok(Permit { at: now, gate: PhantomData });
        }
        self.killed().map_or(Ok(Permit { at: now, gate: PhantomData }), Err)",
    ),
    edit(
        DEADMAN,
        "            self.timer.set(until + self.margin)?;
        }
        self.end.set(until);",
        "            if !ON[the-kernels-timer-stays-behind] {
                self.timer.set(until + self.margin)?;
            }
        }
        self.end.set(until);",
    ),
    edit(
        DEADMAN,
        "        self.end.set(Time::ZERO);
",
        "        self.end.set(Time::ZERO);
        if ON[a-closed-lease-disarms-the-kernels-timer] {
            let _ = self.timer.disarm();
        }
",
    ),
    edit(
        DEADMAN,
        "            if now >= until {
                return Err(HoldError::Lapsed);
            }
            self.timer.set(until + self.margin).map_err(HoldError::Timer)?;",
        "            if now >= until && !ON[a-guest-starts-without-a-lease] {
                return Err(HoldError::Lapsed);
            }
            if !ON[the-kernels-timer-is-not-armed] {
                self.timer.set(until + self.margin).map_err(HoldError::Timer)?;
            }",
    ),
    edit(
        DEADMAN,
        "        if self.guests == 0 { self.timer.disarm()",
        "        if self.guests == 0 || ON[the-first-guest-that-goes-disarms] { self.timer.disarm()",
    ),
];
