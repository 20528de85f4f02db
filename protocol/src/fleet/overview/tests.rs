//! What a master shows at a glance.

use super::*;
use crate::{
    fleet::tests::{SECOND, World},
    task::TaskSpec,
};

fn in_group(name: &str) -> impl Fn(&mut TaskSpec) {
    move |spec| spec.group = name.parse().expect("a name")
}

#[test]
fn groups_have_their_tasks_and_the_leases_of_their_workers() {
    let mut w = World::new();
    let busy = |lease: &mut Lease| lease.offer.group = "busy".parse().expect("a name");
    w.join("w1", 1, 11, busy);
    w.join("w2", 2, 22, busy);
    for task in 1..=3 {
        w.run(task, in_group("busy"));
    }
    for (task, name) in [(4, "a"), (5, "b"), (6, "c")] {
        w.run(task, in_group(name));
    }
    while let Some((&TaskId(id), _)) = w.writes.first_key_value() {
        w.ok(id);
    }
    w.now = w.now + SECOND * 2;
    w.renews("w2", 2, |lease| {
        busy(lease);
        lease.state = LeaseState::Cordoned;
    });
    w.watch_lease("w2");
    w.unlink("w2", 22);
    let overview = w.fleet.overview(w.now + SECOND, 2);
    let names: Vec<_> = overview.groups.iter().map(|view| view.group.as_str()).collect();
    assert_eq!(names, ["a", "b", "busy"], "the groups without workers are bounded");
    let busy = &overview.groups[2];
    assert_eq!((busy.tasks.queued, busy.tasks.dispatched), (1, 2));
    assert_eq!(busy.leases, [(LeaseState::Live, 1), (LeaseState::Cordoned, 1)].into());
    assert_eq!((busy.linked, busy.unwell), (1, 0));
    assert_eq!(busy.lease_age, Some(SECOND * 3), "that of w1");
    assert_eq!(overview.groups[0].tasks, TaskCounts { queued: 1, dispatched: 0 });
    assert_eq!(overview.groups[0].lease_age, None);
    assert_eq!(overview.others, TaskCounts { queued: 1, dispatched: 0 });
    assert_eq!(overview.groups[0].next.as_ref().map(|record| record.id), Some(TaskId(4)));
    assert!(overview.groups[0].oldest.is_some());
    let wall = |after_ms| WallMillis(overview.groups[0].oldest.expect("one waits").0 + after_ms);
    let load = w.fleet.load(w.now + SECOND, wall(1_500), busy);
    assert_eq!((load.queued, load.dispatched, load.linked, load.slots), (1, 2, 1, 2));
    assert_eq!(load.workers, [(LeaseState::Live, 1), (LeaseState::Cordoned, 1)].into());
    let load = w.fleet.load(w.now + SECOND, wall(1_500), &overview.groups[0]);
    assert_eq!(load.waited_ms, Some(1_500));
    let next = load.next.expect("one waits");
    assert_eq!(next.task, TaskId(4));
    assert!(next.why.starts_with("no worker of group a"), "{}", next.why);
    let glances: Vec<_> = w.fleet.glances().collect();
    let seen = |at: usize| (glances[at].linked, glances[at].running, glances[at].lasts);
    assert_eq!(seen(0), (true, 1, SECOND * 4), "the profile `standard`");
    assert_eq!((glances[1].linked, glances[1].renewed), (false, w.now));
    assert!(w.fleet.open_task(TaskId(4)).is_some() && w.fleet.open_task(TaskId(9)).is_none());
}
