//! The programs that are ready, within a number of bytes. Never evicts a program that runs or that a
//! caller waits for.

use crate::engine::Program;
use muster_protocol::Digest;
use std::{collections::HashMap, sync::Arc};
use tokio::sync::OnceCell;

/// Programs that are kept or awaited: the number that a shop's worker needs. A hundred small ones take
/// some 50 MB.
const PROGRAMS_MAX: usize = 128;

/// The slot of a program; callers wait on it until the program is ready.
pub(super) type Cell = Arc<OnceCell<Program>>;

/// The programs of a worker.
pub(super) struct ProgramCache {
    size_max: u64,
    programs: HashMap<Digest, CachedProgram>,
    /// A counter of uses; the most recent use has the highest number.
    uses: u64,
}

#[derive(Default)]
struct CachedProgram {
    cell: Cell,
    /// Bytes that the program has or will have; 0 until that is known.
    size: u64,
    used: u64,
}

impl CachedProgram {
    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.cell) == 1
            && self.cell.get().is_none_or(|program| !program.is_shared())
    }
}

/// Why there is no space for a program.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// The program is larger than the whole cache.
    TooLarge,
    /// The programs in use take so many bytes.
    InUse(u64),
}

impl ProgramCache {
    pub(super) fn new(size_max: u64) -> Self {
        ProgramCache { size_max, programs: HashMap::new(), uses: 0 }
    }

    /// A program that is ready; `None` if it is not.
    pub(super) fn ready(&mut self, digest: Digest) -> Option<Program> {
        self.uses += 1;
        let place = self.programs.get_mut(&digest)?;
        place.used = self.uses;
        place.cell.get().cloned()
    }

    /// The slot of a program, which is made if there is none.
    pub(super) fn cell(&mut self, digest: Digest) -> Cell {
        self.uses += 1;
        if self.programs.len() >= PROGRAMS_MAX && !self.programs.contains_key(&digest) {
            self.drop_oldest();
        }
        let place = self.programs.entry(digest).or_default();
        place.used = self.uses;
        place.cell.clone()
    }

    /// Reserves `size` bytes for a program that a caller waits for. Evicts the least recently used
    /// programs as needed, but none that is in use.
    pub(super) fn make_room(&mut self, digest: Digest, size: u64) -> Result<(), NoRoom> {
        if size > self.size_max {
            return Err(NoRoom::TooLarge);
        }
        if let Some(place) = self.programs.get_mut(&digest) {
            place.size = 0;
        }
        while self.size() + size > self.size_max {
            if !self.drop_oldest() {
                return Err(NoRoom::InUse(self.size()));
            }
        }
        if let Some(place) = self.programs.get_mut(&digest) {
            place.size = size;
        }
        Ok(())
    }

    /// Removes the slot of a program that did not become ready, unless other callers still wait on it.
    pub(super) fn give_up(&mut self, digest: Digest, cell: Cell) {
        drop(cell);
        let is_empty = |place: &CachedProgram| {
            Arc::strong_count(&place.cell) == 1 && place.cell.get().is_none()
        };
        if self.programs.get(&digest).is_some_and(is_empty) {
            self.programs.remove(&digest);
        }
    }

    /// Bytes of all programs.
    pub(super) fn size(&self) -> u64 {
        self.programs.values().map(|place| place.size).sum()
    }

    /// Evicts the least recently used program that is not in use; false if there is none.
    fn drop_oldest(&mut self) -> bool {
        let idle = self.programs.iter().filter(|(_, place)| place.is_idle());
        let oldest = idle.min_by_key(|(_, place)| place.used).map(|(digest, _)| *digest);
        oldest.is_some_and(|digest| self.programs.remove(&digest).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;

    fn program(engine: &Engine) -> Program {
        let wasm = wat::parse_str(r#"(module (func (export "_start")))"#).expect("Wasm text");
        engine.compile(&wasm).expect("it compiles")
    }

    fn digest(number: u8) -> Digest {
        Digest([number; 32])
    }

    /// Puts a program into the cache, in the same steps as `Artifacts`.
    fn put(cache: &mut ProgramCache, engine: &Engine, number: u8, size: u64) -> Result<(), NoRoom> {
        let cell = cache.cell(digest(number));
        let room = cache.make_room(digest(number), size);
        match room {
            Ok(()) => assert!(cell.set(program(engine)).is_ok(), "it was empty"),
            Err(_) => cache.give_up(digest(number), cell),
        }
        room
    }

    fn are_ready(cache: &ProgramCache) -> Vec<u8> {
        let mut numbers: Vec<u8> = cache.programs.keys().map(|digest| digest.0[0]).collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let engine = Engine::new(1).expect("an engine");
        let mut cache = ProgramCache::new(10);
        for number in 1..=3 {
            put(&mut cache, &engine, number, 3).expect("there is room");
        }
        assert!(cache.ready(digest(1)).is_some());
        put(&mut cache, &engine, 4, 3).expect("there is room");
        assert_eq!(are_ready(&cache), [1, 3, 4]);
        put(&mut cache, &engine, 5, 7).expect("there is room");
        assert_eq!((are_ready(&cache), cache.size()), (vec![4, 5], 10));
    }

    #[test]
    fn what_is_run_or_waited_for_stays() {
        let engine = Engine::new(1).expect("an engine");
        let mut cache = ProgramCache::new(10);
        put(&mut cache, &engine, 1, 4).expect("there is room");
        let run = cache.ready(digest(1)).expect("it is ready");
        let waited = cache.cell(digest(2));
        cache.make_room(digest(2), 4).expect("there is room");
        assert_eq!(put(&mut cache, &engine, 3, 3), Err(NoRoom::InUse(8)));
        assert_eq!(are_ready(&cache), [1, 2], "what has no room leaves no place");
        drop(run);
        put(&mut cache, &engine, 3, 3).expect("the run is over");
        assert_eq!(are_ready(&cache), [2, 3]);
        drop(waited);
        put(&mut cache, &engine, 4, 10).expect("nobody waits any more");
        assert_eq!(are_ready(&cache), [4]);
    }

    #[test]
    fn what_is_larger_than_all_of_it_costs_nothing() {
        let engine = Engine::new(1).expect("an engine");
        let mut cache = ProgramCache::new(10);
        put(&mut cache, &engine, 1, 10).expect("there is room");
        assert_eq!(put(&mut cache, &engine, 2, 11), Err(NoRoom::TooLarge));
        assert_eq!(are_ready(&cache), [1]);
    }

    #[test]
    fn a_program_counts_once_however_often_room_is_made() {
        let mut cache = ProgramCache::new(10);
        let _cell = cache.cell(digest(1));
        for size in [6, 7, 6] {
            cache.make_room(digest(1), size).expect("there is room");
            assert_eq!(cache.size(), size);
        }
    }

    #[test]
    fn there_are_no_more_than_so_many() {
        let mut cache = ProgramCache::new(10);
        for number in 0..=PROGRAMS_MAX as u8 {
            drop(cache.cell(digest(number)));
        }
        assert_eq!(cache.programs.len(), PROGRAMS_MAX);
        assert!(!cache.programs.contains_key(&digest(0)), "the oldest has gone");
    }
}
