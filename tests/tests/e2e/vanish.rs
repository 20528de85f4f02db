//! Streams that somebody deletes while the fleet runs: masters create them again, say so, and let no task
//! run beside a run of which the registry knows nothing any more.

use async_nats::jetstream;
use muster_protocol::subject::Bucket;
use muster_tests::{
    Fleet,
    chaos::{checker, now_ns, run_log::RunLog},
    fleet::{text, wait_for},
    net::Net,
};
use tokio::runtime::Runtime;

/// The outage tolerance of the masters, in seconds: the least, since the wait after a loss is longer by it.
const TOLERANCE_S: u64 = 2;

/// Masters compare every five seconds. The rest is for a busy machine; the look at the streams that nobody
/// follows comes later.
const NOTICED_WITHIN_MS: u64 = 15_000;

/// A task that outlasts the test.
const ENDLESS: &str = r#"{"for_ms":300000,"every_us":10000,"rest":true}"#;

/// Whether the registry has a stream; or deletes it.
struct Streams {
    runtime: Runtime,
    context: jetstream::Context,
}

impl Streams {
    fn of(fleet: &Fleet) -> Self {
        let runtime = Runtime::new().expect("threads");
        let context = runtime.block_on(async {
            jetstream::new(
                async_nats::connect(fleet.nats_url()).await.expect("nats-server answers"),
            )
        });
        Streams { runtime, context }
    }

    fn has(&self, name: &str) -> bool {
        self.runtime.block_on(self.context.get_stream(name)).is_ok()
    }

    fn delete(&self, name: &str) {
        self.runtime.block_on(self.context.delete_stream(name)).expect("an operator may");
    }
}

/// Events of losses. None while all masters are between two sessions.
fn rewinds(fleet: &Fleet) -> Vec<String> {
    let ran = fleet.run(&["events", "--since", "10m"]);
    if ran.err.contains("no master answers") {
        return Vec::new();
    }
    let events = ran.ok().text();
    events.lines().filter(|line| line.contains("registry.rewound")).map(Into::into).collect()
}

/// A bucket that masters follow vanishes under a lone master, which may not follow the tasks just then, or
/// under two.
fn a_followed_bucket_vanishes(bucket: Bucket, masters: &[&str]) {
    let mut fleet = Fleet::within(Net::Plain, Some("standard"));
    fleet.tolerate_outages_of(TOLERANCE_S);
    masters.iter().for_each(|master| fleet.start_master(master));
    let journals = ["w1", "w2"].map(|worker| fleet.path(&format!("{worker}.journal")));
    for (worker, journal) in ["w1", "w2"].into_iter().zip(&journals) {
        fleet.start_worker(worker, &["--slots", "2", "--journal", text(journal)]);
    }
    fleet.push("heart");
    let mut runs = RunLog::new(journals);
    let submit = ["task", "run", "heart", "--input", ENDLESS, "--id", "same"];
    let task = fleet.run(&submit).ok().text();
    wait_for("it to run", || {
        runs.look().expect("journals are readable");
        runs.runs(&task).iter().any(|run| run.called_ns.is_some()).then_some(())
    });

    let (streams, name) = (Streams::of(&fleet), fleet.names().stream(bucket));
    streams.delete(&name);
    let deleted_ns = now_ns();
    let after_ms = |ns: u64| (ns - deleted_ns) / 1_000_000;
    wait_for("it to be made again", || streams.has(&name).then_some(()));
    println!("{name} was there again after {} ms", after_ms(now_ns()));
    wait_for("the loss to be noticed", || (!rewinds(&fleet).is_empty()).then_some(()));
    let noticed_ms = after_ms(now_ns());
    println!("the loss was noticed after {noticed_ms} ms");
    assert!(noticed_ms < NOTICED_WITHIN_MS, "{noticed_ms} ms");
    // The client does not know whether the registry still has it.
    wait_for("a master to answer", || (fleet.run(&submit).code == 0).then_some(()));
    wait_for("it to run again", || {
        runs.look().expect("journals are readable");
        let mut all = runs.runs(&task).iter();
        all.any(|run| run.first_ns > deleted_ns && run.called_ns.is_some()).then_some(())
    });
    let overlaps = checker::overlaps(&runs);
    assert!(overlaps.is_empty(), "{overlaps:?}");
    let [old, new] = runs.runs(&task) else { panic!("{:?}", runs.runs(&task)) };
    println!(
        "it ended after {} ms, and ran after {} ms",
        after_ms(old.last_ns),
        after_ms(new.first_ns)
    );
    assert!(fleet.run(&["task", "run", "heart", "--wait"]).code == 0, "the fleet works");
}

#[test]
fn the_tasks_vanish_under_a_lone_master() {
    a_followed_bucket_vanishes(Bucket::Tasks, &["m1"]);
}

#[test]
fn the_leases_of_workers_vanish() {
    a_followed_bucket_vanishes(Bucket::Workers, &["m1", "m2"]);
}

#[test]
fn the_leases_of_masters_vanish() {
    a_followed_bucket_vanishes(Bucket::Masters, &["m1", "m2"]);
}

#[test]
fn what_no_master_follows_is_made_again_and_the_loss_is_told() {
    let fleet = Fleet::start(1, 1);
    fleet.push("upper");
    let (streams, names) = (Streams::of(&fleet), fleet.names());
    let vanished = [
        names.stream(Bucket::Checkpoints),
        names.event_stream(),
        names.log_stream(),
        format!("OBJ_{}", names.data_store()),
        format!("OBJ_{}", names.module_store()),
    ];
    vanished.iter().for_each(|name| streams.delete(name));
    let deleted_ns = now_ns();
    for name in &vanished {
        wait_for("it to be made again", || streams.has(name).then_some(()));
        wait_for("the loss to be told", || {
            rewinds(&fleet).iter().any(|line| line.contains(name)).then_some(())
        });
    }
    println!("all were there after {} ms", (now_ns() - deleted_ns) / 1_000_000);
    fleet.run(&["check"]).ok();
    // The module is gone with its store, and the input is larger than a record.
    fleet.push("upper");
    let input = fleet.path("input");
    std::fs::write(&input, vec![b'x'; 100_000]).expect("a file");
    let input = format!("@{}", text(&input));
    let output = fleet.run(&["task", "run", "upper", "--input", &input, "--wait"]).ok().out;
    assert_eq!(output.len(), 100_000);
}
