//! The thread that interrupts running guests every few milliseconds, so that they check their gate.
//! Never ticks while no guest runs: an idle worker must cost nothing.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// How long a guest computes before it is interrupted. This is twenty times finer than the promise that
/// a time limit is kept within 100 ms, and costs 200 wake-ups a second while a guest runs.
pub const TICK: Duration = Duration::from_millis(5);

/// The number of ticks without a run until the thread sleeps. A wake-up costs more than a short run, so
/// a worker that gets one short task after another keeps the thread awake.
const IDLE_TICKS: u32 = 20;

/// Increments the epoch of one engine until this is dropped.
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    running: AtomicUsize,
    asleep: AtomicBool,
    stop: AtomicBool,
}

/// Keeps the epoch ticking until this is dropped.
pub(crate) struct Ticking(Arc<Shared>);

impl Ticker {
    pub fn start(engine: wasmtime::Engine) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let thread = thread::Builder::new().name("epoch".into()).spawn(move || {
            theirs.tick(|| engine.increment_epoch());
        })?;
        Ok(Ticker { shared, thread: Some(thread) })
    }

    /// A guard to hold while a guest runs.
    pub fn ticking(&self) -> Ticking {
        // This counts before it reads `asleep`, and the thread sets `asleep` before it reads the count:
        // so one of the two sees the other.
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.wake();
        }
        Ticking(self.shared.clone())
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Shared {
    fn tick(&self, mut tick: impl FnMut()) {
        let mut idle = 0;
        while !self.stop.load(Ordering::SeqCst) {
            idle = if self.running.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
            if idle > IDLE_TICKS {
                self.sleep();
                idle = 0;
                continue;
            }
            thread::sleep(TICK);
            tick();
        }
    }

    fn sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        while self.running.load(Ordering::SeqCst) == 0 && !self.stop.load(Ordering::SeqCst) {
            thread::park();
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // An error means that the thread panicked, and the panic was logged.
            let _ = thread.join();
        }
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}
