//! The rules of the lease as two small models, checked in every order of events. Never the code of a
//! fleet: `tests/sim/src` simulates that code; these models check the rules themselves.
//!
//! The whole protocol has too many states to explore them all, so it is cut into two models where one
//! lease meets another:
//!
//! - [`fleet`]: two workers, two masters and one task, with leases in the registry only. It shows that a
//!   lease which the registry calls lost has ended at its holder, through restarts, repeated dispatches
//!   and late writes.
//! - [`home`]: one worker whose lease its home may also extend, and two masters that the worker may name
//!   as its home. `fleet` checks the rules by which masters hold their leases. So here a master's lease
//!   is only what `fleet` promises of it: held, lapsed, or declared lost after it lapsed, at any time.
//!   Its length is not limited. The other worker always has a lease: it runs the task as soon as the
//!   task is dispatched to it.
//!
//! Both models run for ever. Only these things are limited:
//!
//! - *Clocks* are at their worst by a quarter, see [`clock`].
//! - *Revisions* are not numbers. A compare-and-set from a revision that is no longer the key's can
//!   never succeed, so the model drops such a write. A process knows either the newest revision or not.
//! - *Writes in flight*: two renewals for each worker, one write for each master. Each may be accepted
//!   at any later time, or never. More writes would race for the same revision, and one of them would
//!   win.
//! - *Sessions*: two for each worker. *Attempts*: three, enough for a task to return to its first
//!   worker.
//! - *Answers* are not queued: a process that waits for an answer learns the present state at any later
//!   time, or never. By rule an answer about an older revision changes nothing, so the models contain
//!   such an answer only where a fault breaks that rule.
//! - *An unreachable registry or link* is not a state: no message that passes it ever has to arrive.
//!
//! Each model is then run with one broken rule, which has to break the promise. That shows that the
//! checks can detect a broken rule.

mod check;
mod clock;
mod fleet;
mod home;
