//! Which objects a worker may read.

use super::*;
use crate::message::ObjectStore;

#[test]
fn a_worker_may_read_what_the_tasks_name_that_it_was_given() {
    let mut w = World::new();
    w.join("w1", 1, 11, |_| ());
    w.join("w2", 2, 12, |lease| lease.offer.slots = 0);
    let (module, input, other) = (spec().module.digest, Digest([2; 32]), Digest([3; 32]));
    let access = |w: &World, worker: &str, store, digest| {
        w.fleet.object_access(&name(worker), store, digest)
    };
    let nothing = || ObjectAccess::IfStateOf(Vec::new());
    assert_eq!(access(&w, "w1", ObjectStore::Modules, module), nothing());
    w.run(1, |spec| spec.input = Data::Blob { digest: input, size: 9 });
    for (worker, store, digest, want) in [
        ("w1", ObjectStore::Modules, module, ObjectAccess::Named),
        ("w1", ObjectStore::Data, input, ObjectAccess::Named),
        ("w1", ObjectStore::Modules, input, nothing()),
        ("w1", ObjectStore::Data, module, ObjectAccess::IfStateOf(vec![TaskId(1)])),
        ("w1", ObjectStore::Data, other, ObjectAccess::IfStateOf(vec![TaskId(1)])),
        ("w2", ObjectStore::Modules, module, nothing()),
        ("w2", ObjectStore::Data, input, nothing()),
        ("w3", ObjectStore::Data, input, nothing()),
    ] {
        assert_eq!(access(&w, worker, store, digest), want, "{worker} {store:?} {digest}");
    }
    // Not once the attempt has ended.
    w.finish("w1", 11, w.key(1, 'A'), outcome(Verdict::Completed));
    w.ok(1);
    assert_eq!(access(&w, "w1", ObjectStore::Modules, module), nothing());
}
