//! One open page: where it is in the changes, and what it is told next. Never keeps anything that it was not told yet.

use super::{BEAT_EVERY, BEGIN_WITHIN, Closed, Feed, FeedPlace, Next, PAGES_MAX};
use crate::http::{Events, Shared};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::watch;

/// See the [module](self).
pub(in crate::http) struct Page {
    shared: Arc<Shared>,
    told: watch::Receiver<FeedPlace>,
    /// What the page has; `None` before its first snapshot.
    place: Option<FeedPlace>,
    is_over: bool,
}

impl Events for Page {
    async fn next(&mut self) -> Option<Bytes> {
        while !self.is_over {
            // Marked as seen before the look, so that a change meanwhile is not missed.
            self.told.borrow_and_update();
            let feed = &self.shared.feed;
            let Some(place) = self.place else { return self.begin() };
            match feed.after(place) {
                Next::Change(text) => {
                    self.place = Some(FeedPlace { latest: place.latest + 1, ..place });
                    return Some(text);
                }
                // Another model was made, because too much had changed.
                Next::Other => return self.begin(),
                // It does not read fast enough.
                Next::Gone => break,
                Next::None => {}
            }
            match tokio::time::timeout(BEAT_EVERY, self.told.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => break,
                Err(_) if feed.is_alive() => return feed.beat(),
                Err(_) => {}
            }
        }
        None
    }
}

impl Page {
    /// Opens a page. `last` is what it says that it has, if it comes back.
    pub(in crate::http) async fn open(
        shared: Arc<Shared>,
        last: Option<&str>,
    ) -> Result<Self, Closed> {
        {
            let mut state = shared.feed.state();
            if state.pages >= PAGES_MAX {
                return Err(Closed::Full);
            }
            state.pages += 1;
            if !std::mem::replace(&mut state.is_running, true) {
                tokio::spawn(Feed::run(shared.clone()));
            }
        }
        let told = shared.feed.told.subscribe();
        // From here on, its end counts down.
        let mut page = Page { shared, told, place: last.and_then(place), is_over: false };
        let begun = page.told.wait_for(|told| told.epoch > 0);
        match tokio::time::timeout(BEGIN_WITHIN, begun).await {
            Ok(Ok(_)) => {}
            _ => return Err(Closed::Silent),
        }
        if let Some(place) = page.place
            && matches!(page.shared.feed.after(place), Next::Gone | Next::Other)
        {
            page.place = None;
        }
        page.shared.feed.snapshot(&page.shared)?;
        Ok(page)
    }

    fn begin(&mut self) -> Option<Bytes> {
        match self.shared.feed.snapshot(&self.shared) {
            Ok((place, text)) => {
                self.place = Some(place);
                Some(text)
            }
            Err(_) => {
                self.is_over = true;
                None
            }
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.shared.feed.state().pages -= 1;
    }
}

/// The place that the id of an event names.
fn place(id: &str) -> Option<FeedPlace> {
    let (epoch, latest) = id.split_once('-')?;
    Some(FeedPlace { epoch: epoch.parse().ok()?, latest: latest.parse().ok()? })
}
