//! The mutants of what a worker's process does, as text replacements, each with the test that has to
//! notice it. Never a mutant of a decision of the protocol: those are in `edits`.

use super::{Edit, apply, edits::edit};

/// Where the test is that has to notice a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// A unit test of the worker, in the same file as the code.
    Unit(&'static str),
    /// A test in `worker/tests/run`, which runs guests.
    Run(&'static str),
    /// A test in `tests/tests/e2e`, which runs whole fleets. Every worker of the fleet is the broken
    /// program.
    Fleet(&'static str),
}

const CLOCK: &str = "wire/src/clock.rs";
const DEADMAN: &str = "worker/src/deadman.rs";
const WATCH: &str = "worker/src/sandbox/watch.rs";
const TICKER: &str = "worker/src/engine/ticker.rs";
const RUN: &str = "worker/src/run.rs";
const PERFORM: &str = "worker/src/executor.rs";
const SUPERVISOR: &str = "worker/src/supervisor.rs";
const CONNECTION: &str = "worker/src/sandbox/http/connection.rs";
const SOCKET: &str = "worker/src/sandbox/http/socket.rs";

const SUSPENDED: Judge =
    Judge::Run("run::deadman::on_a_machine_that_was_suspended_it_is_killed_on_time");
const SET: Judge = Judge::Unit(
    "deadman::tests::the_kernels_timer_is_armed_while_guests_run_and_moves_with_the_lease",
);
const AT_THE_END: Judge = Judge::Run("run::stops::at_the_end_of_the_lease_by_itself");
const UNSENT: Judge = Judge::Run("run::http::what_waits_to_be_sent_is_dropped_at_the_runs_end");

/// Each mutant with the test that has to notice it. Mutants are numbered in this order, from 1.
pub const JUDGES: &[(&str, Judge)] = &[
    ("the-clock-of-leases-stops-in-suspend", SUSPENDED),
    ("the-kernels-timer-stops-in-suspend", SUSPENDED),
    (
        "the-kernels-timer-is-never-set",
        Judge::Run("run::deadman::a_stopped_process_with_a_guest_is_killed_on_time"),
    ),
    ("the-timer-is-set-too-late", SET),
    (
        "a-guest-runs-without-the-timer",
        Judge::Fleet(
            "process_end::a_stopped_worker_is_killed_by_the_kernel_at_the_end_of_its_margin",
        ),
    ),
    (
        "a-worker-outlives-its-supervisor",
        Judge::Fleet("process_end::a_worker_dies_with_its_supervisor"),
    ),
    (
        "an-effect-does-not-ask-the-gate",
        Judge::Unit("sandbox::watch::tests::no_effect_gets_through_a_closed_gate"),
    ),
    ("a-guest-that-waits-outlives-the-lease", AT_THE_END),
    ("the-epoch-stands-still", AT_THE_END),
    (
        "a-run-ends-before-its-connections",
        Judge::Run("run::http::nothing_of_a_run_is_left_when_it_has_ended"),
    ),
    (
        "a-connection-does-not-ask-the-gate",
        Judge::Run("run::http::a_worker_held_up_across_the_leases_end_sends_nothing_more"),
    ),
    ("the-kernel-sends-on-for-a-connection", UNSENT),
    ("unsent-bytes-are-not-reset", UNSENT),
    (
        "the-leases-end-closes-in-good-order",
        Judge::Run("run::http::a_request_that_was_not_answered_is_reset_at_the_leases_end"),
    ),
];

/// Every edit of this file. `ON[name]` is true while the mutant `name` is switched on.
const EDITS: &[Edit] = &[
    edit(
        CLOCK,
        "    let now = clock_gettime(ClockId::Boottime);",
        "    let stops = ON[the-clock-of-leases-stops-in-suspend];
    let now = clock_gettime(if stops { ClockId::Monotonic } else { ClockId::Boottime });",
    ),
    edit(
        DEADMAN,
        "        Timer::new(ClockId::CLOCK_BOOTTIME, SigEvent::new(signal)).map(KillTimer)",
        "        let stops = ON[the-kernels-timer-stops-in-suspend];
        let clock = if stops { ClockId::CLOCK_MONOTONIC } else { ClockId::CLOCK_BOOTTIME };
        Timer::new(clock, SigEvent::new(signal)).map(KillTimer)",
    ),
    edit(
        DEADMAN,
        "    fn set(&mut self, at: Time) -> Result<(), Errno> {
",
        "    fn set(&mut self, mut at: Time) -> Result<(), Errno> {
        if ON[the-kernels-timer-is-never-set] {
            return Ok(());
        }
        if ON[the-timer-is-set-too-late] {
            at = at + Duration::from_secs(1);
        }
",
    ),
    edit(
        PERFORM,
        "            let (held, _kept) = (held, kept);",
        "            let (held, _kept) = (held, kept);
            let held = if ON[a-guest-runs-without-the-timer] {
                drop(held);
                None
            } else {
                Some(held)
            };",
    ),
    edit(
        SUPERVISOR,
        "    set_parent_process_death_signal(Some(Signal::KILL))?;",
        "    if !ON[a-worker-outlives-its-supervisor] {
        set_parent_process_death_signal(Some(Signal::KILL))?;
    }",
    ),
    edit(
        WATCH,
        "        let permit = self.pass(boottime()).ok()?;
        let outbox",
        "        let permit = if ON[an-effect-does-not-ask-the-gate] {
            let open = RunGate::new(muster_protocol::lease::LeaseEnd::never());
            Box::leak(Box::new(open)).pass(boottime()).ok()?
        } else {
            self.pass(boottime()).ok()?
        };
        let outbox",
    ),
    edit(
        WATCH,
        "            let end = self.deadline.min(self.gate.until());",
        "            let end = if ON[a-guest-that-waits-outlives-the-lease] {
                self.deadline
            } else {
                self.deadline.min(self.gate.until())
            };",
    ),
    edit(
        TICKER,
        "            tick();
",
        "            if !ON[the-epoch-stands-still] {
                tick();
            }
",
    ),
    edit(
        RUN,
        "    watch.quiet().await;",
        "    if !ON[a-run-ends-before-its-connections] {
        watch.quiet().await;
    }",
    ),
    edit(
        CONNECTION,
        "fn pass(run: &UnderWay) -> io::Result<Permit<'_>> {",
        "/// The permit of a gate that never closes.
fn open() -> Permit<'static> {
    let open = crate::gate::RunGate::new(muster_protocol::lease::LeaseEnd::never());
    Box::leak(Box::new(open)).pass(crate::clock::boottime()).expect(\"it is open\")
}

fn pass(run: &UnderWay) -> io::Result<Permit<'_>> {",
    ),
    edit(
        CONNECTION,
        "        let permit = pass(run)?;
        socket.poll_write",
        "        let permit = if ON[a-connection-does-not-ask-the-gate] {
            open()
        } else {
            pass(run)?
        };
        socket.poll_write",
    ),
    edit(
        SOCKET,
        "            stream.set_zero_linger()?;",
        "            if !ON[the-kernel-sends-on-for-a-connection] {
                stream.set_zero_linger()?;
            }",
    ),
    edit(
        CONNECTION,
        "        if let Ok(permit) = pass(&self.run)
            && self.socket.is_sent()
        {",
        "        let permit = match pass(&self.run) {
            Err(_) if ON[the-leases-end-closes-in-good-order] => Ok(open()),
            found => found,
        };
        if let Ok(permit) = permit
            && (self.socket.is_sent() || ON[unsent-bytes-are-not-reset])
        {",
    ),
];

/// Applies every edit to the text of the file `name`. Returns an error sentence if an edit does not
/// apply.
pub fn mutate(name: &str, text: String) -> Result<String, String> {
    let names = names();
    let mut changes = edits().filter(|edit| edit.file == name);
    changes.try_fold(text, |text, edit| apply(edit, &text, "wire", &names))
}

/// Every edit of this file.
pub(super) fn edits() -> impl Iterator<Item = &'static Edit> {
    EDITS.iter()
}

/// The names of the mutants, in the order of their numbers.
pub(super) fn names() -> Vec<&'static str> {
    JUDGES.iter().map(|(name, _)| *name).collect()
}
