//! Pages hear what has changed, once, and nothing else.

use super::*;
use crate::{changes::Changes, http::view::Clocks};
use muster_protocol::{
    SessionId, Time,
    fleet::{Config, Event, Fleet, Loaded},
    lease::{Lease, LeaseState, LeaseTiming},
};
use serde_json::Value;
use std::time::Duration;

struct World {
    fleet: Fleet,
    changes: Changes,
    model: Model,
    now: Time,
    revision: u64,
}

impl World {
    fn new() -> Self {
        let me = "m1".parse().expect("a name");
        let mut fleet = Fleet::new(Config::new(me, SessionId(1), LeaseTiming::STANDARD));
        let now = Time::ZERO + Duration::from_secs(100);
        fleet.observe(now, Event::Loaded(Loaded::default()));
        World { fleet, changes: Changes::default(), model: Model::default(), now, revision: 0 }
    }

    fn renews(&mut self, worker: &str, change: impl FnOnce(&mut Lease)) {
        self.revision += 1;
        let mut lease = Lease::new(worker.parse().expect("a name"), SessionId(3));
        change(&mut lease);
        self.fleet.observe(self.now, Event::LeaseSeen(lease, self.revision));
    }

    /// What pages are told, without the time.
    fn told(&mut self) -> Value {
        let clocks = Clocks { boot: Time::ZERO, wall_ms: 1_000_000 };
        let mut seen = Seen::of(&self.fleet, &self.changes, self.now, clocks, u64::MAX);
        seen.points.clear();
        let told = self
            .model
            .take(7, seen)
            .map_or(Value::Null, |text| serde_json::from_str(&text).expect("JSON"));
        assert!(told.is_null() || told["now_ms"] == 7);
        told
    }
}

#[test]
fn renewals_are_told_without_the_workers_and_what_has_not_changed_is_not_told() {
    let mut w = World::new();
    w.renews("w1", |_| ());
    w.renews("w2", |_| ());
    let told = w.told();
    assert_eq!(told["workers"].as_array().map(Vec::len), Some(2));
    assert_eq!(told["workers"][0]["standing"], "live");
    assert_eq!(told["workers"][0]["renewed_at"], 1_100_000);
    assert_eq!(told["groups"][0]["workers"], 2);
    assert_eq!(w.told(), Value::Null);
    w.now = w.now + Duration::from_secs(1);
    assert_eq!(w.told(), Value::Null, "time alone is no change");
    w.renews("w1", |_| ());
    w.renews("w2", |lease| lease.state = LeaseState::Cordoned);
    let told = w.told();
    assert_eq!(told["renewed"], serde_json::json!([["w1", 1_101_000]]));
    assert_eq!(told["workers"].as_array().map(Vec::len), Some(1));
    assert_eq!(told["workers"][0]["standing"], "cordoned");
    assert_eq!(told["groups"], Value::Null);
}

#[test]
fn while_the_registry_is_away_nothing_vanishes() {
    let mut w = World::new();
    w.renews("w1", |_| ());
    w.told();
    // A new session has loaded nothing yet.
    let me = "m1".parse().expect("a name");
    w.fleet = Fleet::new(Config::new(me, SessionId(2), LeaseTiming::STANDARD));
    assert_eq!(w.told(), Value::Null);
    w.fleet.observe(w.now, Event::Loaded(Loaded::default()));
    assert_eq!(w.told()["workers_gone"], serde_json::json!(["w1"]));
}
