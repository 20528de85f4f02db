//! The workers of a group that may be given attempts, and which of them have free slots. Workers with
//! equal offers form a kind and are examined once; kinds are indexed by label. Never knows of tasks.

use super::{Load, Need, Room};
use crate::{WorkerId, lease::Offer};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    sync::Arc,
};

/// The number of a kind, in the order in which the kinds appeared.
type Number = u64;

/// See the [module](self).
#[derive(Debug, Default)]
pub(in crate::fleet) struct Candidates {
    listed: BTreeMap<WorkerId, Listing>,
    kinds: BTreeMap<Number, Kind>,
    numbers: BTreeMap<Arc<Offer>, Number>,
    /// The kinds that carry a label, by the label's key and value.
    labels: BTreeMap<String, BTreeMap<String, BTreeSet<Number>>>,
    /// The least loaded worker of each kind that has a free slot.
    heads: BTreeSet<(Load, WorkerId, Number)>,
    newest: Number,
}

#[derive(Debug)]
struct Listing {
    kind: Number,
    /// The room of the worker, if it has a free slot.
    room: Option<Room>,
}

/// The workers that offer the same.
#[derive(Debug)]
struct Kind {
    offer: Arc<Offer>,
    workers: BTreeSet<WorkerId>,
    /// Those with a free slot by load, and the memory that each has free.
    roomy: BTreeMap<(Load, WorkerId), u64>,
    /// How many of these have so much memory free.
    memory_free: BTreeMap<u64, usize>,
}

impl Kind {
    /// The least loaded worker with a free slot.
    fn head(&self) -> Option<&(Load, WorkerId)> {
        self.roomy.first_key_value().map(|(head, _)| head)
    }

    /// The least loaded worker with a free slot that has so much memory free.
    fn first_with(&self, memory: u64) -> Option<&(Load, WorkerId)> {
        let (&most, _) = self.memory_free.last_key_value()?;
        let has_it = |&(_, &free): &(_, &u64)| free >= memory;
        (most >= memory).then(|| self.roomy.iter().find(has_it))?.map(|(head, _)| head)
    }

    /// One worker fewer with a free slot has so much memory free.
    fn forget_free(&mut self, memory: u64) {
        if let Some(count) = self.memory_free.get_mut(&memory) {
            *count -= 1;
            if *count == 0 {
                self.memory_free.remove(&memory);
            }
        }
    }
}

/// The result for a label that no kind carries.
static NOBODY: BTreeSet<Number> = BTreeSet::new();

impl Candidates {
    /// Whether no worker may be given attempts.
    pub(in crate::fleet) fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// Whether no worker has a free slot.
    pub(super) fn is_full(&self) -> bool {
        self.heads.is_empty()
    }

    /// How many workers may be given attempts.
    pub(super) fn len(&self) -> usize {
        self.listed.len()
    }

    /// Adds or updates a worker; `room` is what it has left if it has a free slot. The offer of a worker does
    /// not change while it is listed: it is removed before.
    pub(super) fn list(&mut self, id: &WorkerId, offer: &Offer, room: Option<Room>) {
        let (kind, old) = match self.listed.get_mut(id) {
            Some(listing) => (listing.kind, core::mem::replace(&mut listing.room, room)),
            None => {
                let kind = self.kind_of(offer);
                if let Some(kind) = self.kinds.get_mut(&kind) {
                    kind.workers.insert(id.clone());
                }
                self.listed.insert(id.clone(), Listing { kind, room });
                (kind, None)
            }
        };
        self.reload(id, kind, old, room);
    }

    /// Removes a worker, if it is listed.
    pub(super) fn unlist(&mut self, id: &WorkerId) {
        let Some(Listing { kind: number, room }) = self.listed.remove(id) else { return };
        self.reload(id, number, room, None);
        let Some(kind) = self.kinds.get_mut(&number) else { return };
        kind.workers.remove(id);
        if kind.workers.is_empty()
            && let Some(kind) = self.kinds.remove(&number)
        {
            self.forget(number, &kind.offer);
        }
    }

    /// The least loaded worker that fits the need, has a free slot, and has the memory free. For a suspect:
    /// one that has no attempt.
    pub(super) fn choose(&self, need: &Need) -> Option<&WorkerId> {
        if need.alone {
            // Those without an attempt come first, except for unwell ones.
            let empty = self.heads.iter().take_while(|((_, held), ..)| *held == 0);
            let mut fitting = empty.filter(|(.., number)| self.kind_for(number, need).is_some());
            return fitting.next().map(|(_, id, _)| id);
        }
        self.least_loaded(need, need.memory_bytes)
    }

    /// The least loaded worker that would fit the need if all its attempts had ended.
    pub(super) fn choose_to_keep(&self, need: &Need) -> Option<&WorkerId> {
        self.least_loaded(need, 0)
    }

    /// The least loaded worker that fits the need, has a free slot, and so much memory free.
    fn least_loaded(&self, need: &Need, memory: u64) -> Option<&WorkerId> {
        let first_of = |number| self.kind_for(number, need)?.first_with(memory);
        let bearers = self.bearers(need);
        // The first worker that fits is mostly near the front. Where few kinds can fit, look at those
        // instead.
        let enough = bearers.map_or(usize::MAX, BTreeSet::len);
        let mut best: Option<&(Load, WorkerId)> = None;
        for (at, (load, id, number)) in self.heads.iter().enumerate() {
            // No worker of this kind, or of those behind it, is less loaded.
            if best.is_some_and(|(least, first)| (least, first) < (load, id)) {
                break;
            }
            if at == enough {
                best = bearers?.iter().filter_map(first_of).min();
                break;
            }
            let found = first_of(number);
            best = best.into_iter().chain(found).min();
        }
        best.map(|(_, id)| id)
    }

    fn kind_for(&self, number: &Number, need: &Need) -> Option<&Kind> {
        self.kinds.get(number).filter(|kind| need.fits(&kind.offer))
    }

    /// The offers that fit, whether or not slots are free, and the workers of each.
    pub(super) fn fitting<'a>(
        &'a self,
        need: &'a Need,
    ) -> impl Iterator<Item = (&'a Offer, &'a BTreeSet<WorkerId>)> {
        let bearers = self.bearers(need);
        let all = bearers.is_none().then(|| self.kinds.keys()).into_iter().flatten();
        let kinds = all.chain(bearers.into_iter().flatten());
        kinds
            .filter_map(|number| self.kinds.get(number))
            .filter(|kind| need.fits(&kind.offer))
            .map(|kind| (&*kind.offer, &kind.workers))
    }

    /// The kinds that carry the rarest of the required labels; `None` where no label is required.
    fn bearers(&self, need: &Need) -> Option<&BTreeSet<Number>> {
        let kinds = need.selector.iter().map(|(key, value)| {
            self.labels.get(key).and_then(|values| values.get(value)).unwrap_or(&NOBODY)
        });
        kinds.min_by_key(|kinds| kinds.len())
    }

    /// The load of a worker has changed, or whether it has a free slot.
    fn reload(&mut self, id: &WorkerId, number: Number, old: Option<Room>, new: Option<Room>) {
        let Some(kind) = self.kinds.get_mut(&number) else { return };
        if old == new {
            return;
        }
        let head = kind.head().cloned();
        if let Some(room) = old {
            kind.roomy.remove(&(room.load, id.clone()));
            kind.forget_free(room.memory_free);
        }
        if let Some(room) = new {
            kind.roomy.insert((room.load, id.clone()), room.memory_free);
            *kind.memory_free.entry(room.memory_free).or_default() += 1;
        }
        let new_head = kind.head();
        if head.as_ref() == new_head {
            return;
        }
        if let Some((load, id)) = new_head {
            self.heads.insert((*load, id.clone(), number));
        }
        if let Some((load, id)) = head {
            self.heads.remove(&(load, id, number));
        }
    }

    fn kind_of(&mut self, offer: &Offer) -> Number {
        if let Some(&number) = self.numbers.get(offer) {
            return number;
        }
        self.newest += 1;
        let (number, offer) = (self.newest, Arc::new(offer.clone()));
        for (key, value) in &offer.labels {
            let values = self.labels.entry(key.clone()).or_default();
            values.entry(value.clone()).or_default().insert(number);
        }
        self.numbers.insert(offer.clone(), number);
        let (workers, roomy, memory_free) = Default::default();
        self.kinds.insert(number, Kind { offer, workers, roomy, memory_free });
        number
    }

    /// No worker offers this any more.
    fn forget(&mut self, number: Number, offer: &Offer) {
        self.numbers.remove(offer);
        for (key, value) in &offer.labels {
            let Some(values) = self.labels.get_mut(key) else { continue };
            let Some(kinds) = values.get_mut(value) else { continue };
            kinds.remove(&number);
            if kinds.is_empty() {
                values.remove(value);
            }
            if values.is_empty() {
                self.labels.remove(key);
            }
        }
    }

    /// The invariants.
    #[cfg(test)]
    pub(in crate::fleet) fn audit(&self) {
        let mut heads = BTreeSet::new();
        for (&number, kind) in &self.kinds {
            assert_eq!(self.numbers.get(&kind.offer), Some(&number));
            assert!(!kind.workers.is_empty(), "a kind of which there is none");
            for id in &kind.workers {
                let place = &self.listed[id];
                assert_eq!(place.kind, number);
                let has_room = |room: &Room| {
                    kind.roomy.get(&(room.load, id.clone())) == Some(&room.memory_free)
                };
                assert!(place.room.as_ref().is_none_or(has_room));
            }
            for (key, value) in &kind.offer.labels {
                assert!(self.labels[key][value].contains(&number));
            }
            let free: usize = kind.memory_free.values().sum();
            assert_eq!(free, kind.roomy.len());
            let head = kind.head();
            heads.extend(head.map(|(load, id)| (*load, id.clone(), number)));
        }
        assert_eq!(heads, self.heads);
        let with_room = self.listed.values().filter(|place| place.room.is_some()).count();
        assert_eq!(with_room, self.kinds.values().map(|kind| kind.roomy.len()).sum::<usize>());
        let of_kinds = self.kinds.values().map(|kind| kind.workers.len()).sum::<usize>();
        assert_eq!(self.listed.len(), of_kinds);
        assert_eq!(self.kinds.len(), self.numbers.len());
        let bearers = self.labels.values().flat_map(BTreeMap::values).map(BTreeSet::len);
        let labels = self.kinds.values().map(|kind| kind.offer.labels.len());
        assert_eq!(bearers.sum::<usize>(), labels.sum::<usize>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{grant::RequestedGrants, task::mix};
    use alloc::format;

    /// The offer of worker `number` and the matching need: one of four zones, and a host label of its
    /// own.
    fn label(number: u64) -> (String, String) {
        match number % 3 {
            0 => ("zone".into(), format!("z{}", number % 4)),
            _ => ("host".into(), format!("h{}", number % 7)),
        }
    }

    #[test]
    fn the_least_loaded_that_fits_is_chosen() {
        let mut candidates = Candidates::default();
        let mut all: BTreeMap<WorkerId, (Offer, Option<Room>)> = BTreeMap::new();
        for step in 0..5_000 {
            let drawn = mix(step);
            let id: WorkerId = format!("w{}", drawn % 20).parse().expect("a name");
            let labels = [label(drawn >> 8), label(drawn >> 16)].into();
            let offer = Offer { labels, memory_bytes: drawn >> 62, ..Offer::default() };
            let load = (drawn & 0x40_000_000 == 0, drawn >> 40 & 7);
            let room = Room { load, memory_free: drawn >> 44 & 1 };
            let room = (drawn & 0x10_000 == 0).then_some(room);
            if all.get(&id).is_none_or(|(known, _)| *known != offer) || drawn & 0x20_000 == 0 {
                candidates.unlist(&id);
                all.remove(&id);
            }
            if drawn & 0xc0_000 != 0 {
                candidates.list(&id, &offer, room);
                all.insert(id, (offer, room));
            }
            candidates.audit();
            let wanted = [label(drawn >> 24), label(drawn >> 32)];
            let selector = wanted.into_iter().take((drawn >> 60) as usize % 3).collect();
            let memory_bytes = drawn >> 61 & 1;
            let alone = drawn >> 36 & 3 == 0;
            let need = Need { memory_bytes, alone, selector, wants: RequestedGrants::default() };
            let fitting = all.iter().filter(|(_, (offer, _))| need.fits(offer));
            let roomy = fitting.clone().filter_map(|(id, &(_, room))| Some((room?, id)));
            let enough = roomy.filter(|(room, _)| alone || room.memory_free >= memory_bytes);
            let least = enough.min_by_key(|&(room, id)| (room.load, id));
            if alone {
                // An unwell worker may be missed behind others that have attempts.
                let chosen = candidates.choose(&need);
                let is_empty = |id: &&WorkerId| all[*id].1.is_some_and(|room| room.load.1 == 0);
                assert!(chosen.is_none_or(|id| is_empty(&id) && need.fits(&all[id].0)));
                let well = least.filter(|(room, _)| room.load == (false, 0));
                assert!(well.is_none_or(|(_, id)| chosen == Some(id)));
            } else {
                assert_eq!(candidates.choose(&need), least.map(|(_, id)| id));
            }
            let count: usize = candidates.fitting(&need).map(|(_, workers)| workers.len()).sum();
            assert_eq!(count, fitting.count());
        }
    }
}
