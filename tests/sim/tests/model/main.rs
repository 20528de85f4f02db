//! The rules of the lease as two small models, checked in every order of events. Never the code
//! that a fleet runs: that is simulated elsewhere; here it is the rules themselves that are judged.
//!
//! The whole protocol at once is too big to be exhausted, so it is cut where one lease meets
//! another:
//!
//! - [`fleet`]: two workers, two masters and one task, with leases in the registry only. It shows
//!   that a lease which the registry calls lost has ended at its holder, through restarts,
//!   re-dispatches and late writes.
//! - [`home`]: one worker whose lease is also extended by its home, and two masters that it may
//!   name as home. Masters hold leases by the very rules that `fleet` checks, so here a master's
//!   lease is only what `fleet` promises of it: held, lapsed, or declared lost after it lapsed, at
//!   any time. So its length is not bounded at all. The other worker is one that always has a
//!   lease: it runs the task as soon as it is given to it.
//!
//! Both run without end: only the following is bounded.
//!
//! - *Clocks* are at their worst by a quarter, see [`clock`].
//! - *Revisions* are not numbers. A compare-and-set from a revision that is no longer the key's
//!   can never succeed, so such a write is forgotten; what somebody knows is the newest or it is not.
//! - *Writes in flight*: two renewals a worker, one write a master; each may land at any later
//!   time, or never. More of them would race for the same one revision, and one wins.
//! - *Sessions*: two a worker; *attempts*: three, enough for a task to come back to where it was.
//! - *Answers* are not queued: whoever waits for one learns what is true at any later time, or
//!   never. An answer about an older revision changes nothing by rule, so it is only modelled where
//!   a fault breaks that rule.
//! - *A registry or a link out of reach* is no state: nothing that passes them ever has to happen.
//!
//! Each model is then run with one rule broken, which has to break the promise: what is checked is
//! known to have teeth.

mod check;
mod clock;
mod fleet;
mod home;
