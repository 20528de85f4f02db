//! What all pages are told: a snapshot of the fleet first, then its changes. Computed once for all pages, outside of the
//! master's loop. Never looks at the loop's state more often than each [`LOOK_EVERY`], nor while no page is open.

mod model;
mod page;

pub(super) use page::Page;

use super::{Shared, view::Clocks, view::Seen};
use crate::changes::TaskRow;
use bytes::Bytes;
use model::Model;
use muster_protocol::{
    api::{Endpoint, ListTasks, Request, Tasks},
    fleet::Fleet,
};
use muster_wire::clock;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, time::MissedTickBehavior};

/// How often the loop's state is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often a page is told that nothing has changed. A page that hears nothing for 5 s says so.
const BEAT_EVERY: Duration = Duration::from_millis(1_500);

/// Pages are told that the master works only if it has been looked at within this time.
const LOOKED_WITHIN: Duration = Duration::from_secs(3);

/// How long a page waits for the first look.
const BEGIN_WITHIN: Duration = Duration::from_secs(5);

/// Looks that are still made after the last page was closed: somebody may just load it anew.
const IDLE_LOOKS: u32 = 40;

/// Pages at once.
const PAGES_MAX: usize = 32;

/// Bytes of changes that are kept for pages that are slow or come back, of all pages together. A page that is further
/// behind is cut off, and begins with a snapshot when it comes back.
const CHANGES_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The largest snapshot, in bytes: some thousand workers.
const SNAPSHOT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The number of tasks in a snapshot, the newest ones.
const TASKS_SHOWN: usize = 200;

/// See the [module](self).
#[derive(Default)]
pub(super) struct Feed {
    state: Mutex<State>,
    told: watch::Sender<FeedPlace>,
    /// When the loop was last looked at, in milliseconds of the boot clock.
    looked_ms: AtomicU64,
}

/// Up to where pages can be told something. `epoch` is that of the snapshot, and 0 before the first one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct FeedPlace {
    epoch: u64,
    latest: u64,
}

#[derive(Default)]
struct State {
    pages: usize,
    is_running: bool,
    told: FeedPlace,
    model: Model,
    clocks: Option<Clocks>,
    /// The latest changes with their numbers, and their size.
    changes: VecDeque<(u64, Bytes)>,
    bytes: usize,
    /// The snapshot of a change, for pages that are opened at the same time.
    snapshot: Option<(u64, Bytes)>,
}

/// Why a page is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Closed {
    #[error("{PAGES_MAX} pages are open already.")]
    Full,
    #[error("The master has not loaded the registry.")]
    Silent,
    #[error("The fleet is too large for this page.")]
    TooLarge,
}

/// What follows a place.
enum Next {
    Change(Bytes),
    /// Nothing yet.
    None,
    /// Changes after the place are not kept any more.
    Gone,
    /// The place belongs to another snapshot.
    Other,
}

impl Feed {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Looks again and again, as long as pages are open.
    async fn run(shared: Arc<Shared>) {
        let feed = &shared.feed;
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut idle, mut is_begun) = (0, false);
        loop {
            ticks.tick().await;
            idle = if feed.state().pages > 0 { 0 } else { idle + 1 };
            if idle > IDLE_LOOKS && feed.rest() {
                shared.changes.follow(false);
                return;
            }
            if !is_begun {
                is_begun = feed.begin(&shared).await.is_some();
                continue;
            }
            let Some(seen) = feed.look(&shared).await else { continue };
            match seen.is_cut {
                true => is_begun = false,
                false => feed.take(seen),
            }
        }
    }

    /// Stops, unless a page was opened meanwhile.
    fn rest(&self) -> bool {
        let mut state = self.state();
        if state.pages > 0 {
            return false;
        }
        *state = State::default();
        // Not told: nobody listens, and whoever comes next waits for a snapshot.
        self.told.send_replace(FeedPlace::default());
        true
    }

    /// Makes a model of the whole fleet. `None` if that is not possible yet.
    async fn begin(&self, shared: &Arc<Shared>) -> Option<()> {
        shared.changes.follow(true);
        let clocks = Clocks { boot: clock::boottime(), wall_ms: clock::wall().0 };
        self.state().clocks = Some(clocks);
        let list = Request::List(ListTasks { limit: TASKS_SHOWN as u64, ..ListTasks::default() });
        let list = shared.ask::<Tasks>(Endpoint::TaskList, list).await.ok()?;
        let rows = list.tasks.iter().map(|view| TaskRow::of(&view.record, view.why.clone()));
        let mut model = Model::new(rows.collect());
        let seen = self.look(shared).await.filter(|seen| seen.is_up && !seen.is_cut)?;
        model.take(clocks.wall_ms(clock::boottime()), seen);
        let mut state = self.state();
        state.told = FeedPlace { epoch: clocks.wall_ms, latest: 0 };
        state.model = model;
        state.snapshot = None;
        state.changes.clear();
        state.bytes = 0;
        self.told.send_replace(state.told);
        Some(())
    }

    async fn look(&self, shared: &Arc<Shared>) -> Option<Seen> {
        let (clocks, since) = {
            let state = self.state();
            (state.clocks?, state.model.points_end())
        };
        let changes = shared.changes.clone();
        let look = move |fleet: &Fleet| Seen::of(fleet, &changes, clock::boottime(), clocks, since);
        let seen = shared.look(look).await?;
        self.looked_ms.store(clock::boottime().as_nanos() / 1_000_000, Ordering::Relaxed);
        Some(seen)
    }

    fn take(&self, seen: Seen) {
        let mut state = self.state();
        let Some(now_ms) = state.now_ms() else { return };
        let Some(change) = state.model.take(now_ms, seen) else { return };
        state.add(&change);
        self.told.send_replace(state.told);
    }

    /// Whether the master's loop was looked at a short time ago.
    fn is_alive(&self) -> bool {
        let ago = (clock::boottime().as_nanos() / 1_000_000)
            .saturating_sub(self.looked_ms.load(Ordering::Relaxed));
        ago < LOOKED_WITHIN.as_millis() as u64
    }

    fn beat(&self) -> Option<Bytes> {
        let now_ms = self.state().now_ms()?;
        Some(format!("event: beat\ndata: {{\"now_ms\": {now_ms}}}\n\n").into())
    }

    fn after(&self, place: FeedPlace) -> Next {
        let state = self.state();
        if place.epoch != state.told.epoch || place.latest > state.told.latest {
            return Next::Other;
        }
        if place.latest == state.told.latest {
            return Next::None;
        }
        let oldest = state.changes.front().map_or(u64::MAX, |(number, _)| *number);
        match place.latest + 1 >= oldest {
            true => {
                let at = (place.latest + 1 - oldest) as usize;
                state.changes.get(at).map_or(Next::Gone, |(_, text)| Next::Change(text.clone()))
            }
            false => Next::Gone,
        }
    }

    /// The snapshot, and the place that it has reached.
    fn snapshot(&self, shared: &Shared) -> Result<(FeedPlace, Bytes), Closed> {
        let mut state = self.state();
        let told = state.told;
        let Some(now_ms) = state.now_ms().filter(|_| told.epoch > 0) else {
            return Err(Closed::Silent);
        };
        if let Some((latest, text)) = &state.snapshot
            && *latest == told.latest
        {
            return Ok((told, text.clone()));
        }
        let FeedPlace { epoch, latest } = told;
        let data = state.model.snapshot(&shared.identity, now_ms);
        if data.len() > SNAPSHOT_BYTES_MAX {
            return Err(Closed::TooLarge);
        }
        let text: Bytes = format!("id: {epoch}-{latest}\nevent: snapshot\ndata: {data}\n\n").into();
        state.snapshot = Some((latest, text.clone()));
        Ok((told, text))
    }
}

impl State {
    /// Numbers a change, and keeps it for a while.
    fn add(&mut self, change: &str) {
        self.told.latest += 1;
        let FeedPlace { epoch, latest } = self.told;
        let text = format!("id: {epoch}-{latest}\nevent: change\ndata: {change}\n\n");
        self.bytes += text.len();
        self.changes.push_back((latest, text.into()));
        while self.bytes > CHANGES_BYTES_MAX
            && let Some((_, oldest)) = self.changes.pop_front()
        {
            self.bytes -= oldest.len();
        }
    }

    fn now_ms(&self) -> Option<u64> {
        self.clocks.map(|clocks| clocks.wall_ms(clock::boottime()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_gets_each_change_after_its_place_and_old_changes_are_not_kept() {
        let feed = Feed::default();
        let at = |latest| FeedPlace { epoch: 5, latest };
        {
            let mut state = feed.state();
            state.told = at(0);
            for change in ["a", "b", "c"] {
                state.add(change);
            }
        }
        let next = |place: FeedPlace| match feed.after(place) {
            Next::Change(text) => String::from_utf8_lossy(&text).into_owned(),
            Next::None => "none".into(),
            Next::Gone => "gone".into(),
            Next::Other => "other".into(),
        };
        assert_eq!(next(at(0)), "id: 5-1\nevent: change\ndata: a\n\n");
        assert_eq!(next(at(2)), "id: 5-3\nevent: change\ndata: c\n\n");
        assert_eq!(next(at(3)), "none");
        assert_eq!(next(at(4)), "other", "this master has not told it");
        assert_eq!(next(FeedPlace { epoch: 4, latest: 1 }), "other");
        let large = "x".repeat(CHANGES_BYTES_MAX / 4);
        for _ in 0..9 {
            feed.state().add(&large);
        }
        assert!(feed.state().bytes <= CHANGES_BYTES_MAX);
        assert_eq!(next(at(1)), "gone");
        assert_eq!(next(at(12)), "none");
        assert!(next(at(11)).starts_with("id: 5-12\n"));
    }
}
