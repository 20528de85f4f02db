//! The worker's loop: it owns the state machine, [`Attempts`], and carries the process from its first lease to its end.
//! Never waits for work.

use crate::{
    config::Config,
    confine, executor,
    inbox::Input,
    metrics, readiness,
    supervisor::{AGAIN, UPGRADE},
    upgrade,
};
use muster_protocol::{
    Time,
    attempts::{Attempts, Event},
    lease::{LeaseEvent, LeaseState},
    message::{ToWorker, WorkerCommand},
};
use muster_wire::{clock, log, notify::Notifier, process};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::{mpsc, watch};

/// Inputs that the loop takes in before it plans.
const DRAIN_MAX: usize = 1_024;

/// How often to look whether the files of name resolution were replaced: a few times within the time in
/// which a network that has changed is of use again.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long a stopping worker may still live after its grace: 2 s to give the lease back, and some time
/// for the last outcomes.
const END_MARGIN: Duration = Duration::from_secs(5);

/// How long runs that an upgrade has drained may take to stop and to be recorded.
const DRAINED_WITHIN: Duration = Duration::from_secs(10);

/// The state of the worker's loop.
pub(crate) struct WorkerLoop {
    pub config: Config,
    pub attempts: Attempts,
    pub executor: executor::Executor,
    pub readiness: readiness::Readiness,
    pub metrics: metrics::Metrics,
    pub manager: Notifier,
    pub lease: mpsc::UnboundedSender<LeaseEvent>,
    pub draining: Arc<AtomicBool>,
    /// The file to write once the worker holds a lease and has a link; taken when it is written.
    pub ready: Option<std::path::PathBuf>,
    pub confined: confine::Confined,
    /// Whether a file of name resolution was replaced, so that this process cannot read it.
    pub replaced: bool,
    /// What the lease says of its program.
    pub report: upgrade::SharedReport,
    /// The upgrade that its program has to prove by a lease and a link.
    pub trial: Option<u64>,
    /// The exit code of this process, if it stops in order to be started again, and not because it was told to.
    pub restarts: Option<i32>,
    /// Whether the worker drains in order to stop.
    pub stopping: bool,
    /// Whether this process was told to stop.
    pub told: bool,
}

impl WorkerLoop {
    pub(crate) async fn serve(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut lease_told: mpsc::UnboundedReceiver<Input>,
        mut stop: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let mut batch = Vec::with_capacity(DRAIN_MAX);
        let mut look = tokio::time::interval(LOOK_EVERY);
        self.manager.ready();
        loop {
            let wakeup = self.attempts.wakeup();
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop), if !self.told => self.stop(),
                Some(input) = lease_told.recv() => batch.push(input),
                _ = inputs.recv_many(&mut batch, DRAIN_MAX) => {}
                () = clock::sleep_until(wakeup) => {}
                _ = look.tick(), if !self.stopping => self.look_for_replaced(),
            }
            let now = clock::boottime();
            for input in batch.drain(..) {
                match input {
                    Input::Released => match self.restarts.filter(|_| !*stop.borrow()) {
                        Some(code) => {
                            log::flush();
                            std::process::exit(code);
                        }
                        None => return Ok(()),
                    },
                    Input::Upgrade { deadline } if !self.stopping => {
                        self.restart(UPGRADE, deadline + DRAINED_WITHIN);
                        // At the deadline, runs are returned and not merely stopped.
                        let deadline_ms = deadline.as_millis() as u64;
                        let drain = ToWorker::Command(WorkerCommand::Drain { deadline_ms });
                        self.attempts.observe(now, Event::Received(0, drain));
                    }
                    Input::Upgrade { .. } => {}
                    Input::Attempts(event) => {
                        self.executor.heard(&event);
                        self.metrics.heard(&event);
                        self.report.heard(&event);
                        self.readiness.heard(now, &event);
                        self.attempts.observe(now, event);
                    }
                }
            }
            self.tell_ready(now)?;
            let mut effects = Vec::new();
            self.attempts.plan(clock::boottime(), &mut effects);
            for effect in &effects {
                self.metrics.decided(effect);
                self.readiness.decided(effect);
            }
            self.executor.execute(effects, self.stopping);
            self.metrics.running(self.attempts.running());
            self.readiness.passed(now);
            self.manager.alive(now);
            self.manager.status(self.readiness.refuses(now).unwrap_or("it takes tasks"));
        }
    }

    /// Begins a graceful stop, because this process was told to: runs may finish within the grace.
    fn stop(&mut self) {
        self.told = true;
        self.manager.stopping();
        self.drain(self.config.grace());
    }

    /// Begins a graceful stop, after which the supervisor starts this worker again.
    fn restart(&mut self, code: i32, grace: Duration) {
        self.restarts = Some(code);
        self.drain(grace);
    }

    fn drain(&mut self, grace: Duration) {
        self.stopping = true;
        self.readiness.stopping();
        tracing::info!(?grace, running = self.attempts.running(), "stopping");
        self.draining.store(true, Ordering::SeqCst);
        let _ = self.lease.send(LeaseEvent::SetState(LeaseState::Draining));
        let now = clock::boottime();
        self.attempts.observe(now, Event::StopAsked { deadline: now + grace });
        process::end_after(grace + END_MARGIN);
    }

    /// If name resolution cannot read its files any more, ends this process when nothing runs, so that it
    /// is started again with rules for the new files.
    fn look_for_replaced(&mut self) {
        let Some(file) = self.confined.replaced() else {
            self.replaced = false;
            return;
        };
        if !self.replaced {
            tracing::warn!(
                file = %file.display(),
                "another file was put in its place, which this confined process cannot read: names may \
                 not resolve until the worker is started again, as soon as nothing runs"
            );
        }
        self.replaced = true;
        if self.attempts.running() == 0 {
            self.restart(AGAIN, self.config.grace());
        }
    }

    /// Writes the ready file once the worker has a lease and a link. A program on trial, which has run a guest before, has
    /// proven itself then.
    fn tell_ready(&mut self, now: Time) -> anyhow::Result<()> {
        if self.readiness.lacks(now).is_some() {
            return Ok(());
        }
        if let Some(path) = self.ready.take() {
            process::write_whole(&path, &format!("{{\"pid\":{}}}", std::process::id()))?;
        }
        if let Some(number) = self.trial.take() {
            self.manager.proven();
            self.report.carried_out(number);
        }
        Ok(())
    }
}
