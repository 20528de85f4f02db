//! Records with fields of a later version are read, and the fields are kept. Requests with an unknown
//! name are refused.

use async_nats::jetstream;
use muster_protocol::{
    api::Endpoint,
    subject::{Bucket, Names},
};
use muster_tests::{Fleet, fleet::wait_for};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// The buckets, as an operator reads and writes them.
pub(crate) struct Buckets {
    runtime: Runtime,
    client: async_nats::Client,
    names: Names,
}

impl Buckets {
    pub(crate) fn of(fleet: &Fleet) -> Self {
        let runtime = Runtime::new().expect("threads");
        let client = runtime.block_on(async_nats::connect(fleet.nats_url()));
        Buckets { runtime, client: client.expect("nats-server answers"), names: fleet.names() }
    }

    pub(crate) fn read(&self, bucket: Bucket, key: &str) -> Value {
        self.change(bucket, key, |_| false)
    }

    /// Changes a value; returns the new value.
    fn change(&self, bucket: Bucket, key: &str, change: impl Fn(&mut Value) -> bool) -> Value {
        self.runtime.block_on(async {
            let context = jetstream::new(self.client.clone());
            let values = context.get_key_value(self.names.bucket(bucket)).await.expect("a bucket");
            loop {
                let entry = values.entry(key).await.expect("it answers").expect("a value");
                let mut value = serde_json::from_slice(&entry.value).expect("JSON");
                if !change(&mut value) {
                    return value;
                }
                let text = serde_json::to_vec(&value).expect("JSON");
                if values.update(key, text.into(), entry.revision).await.is_ok() {
                    return value;
                }
            }
        })
    }

    /// A master's answer to a request, or the sentence with which it refuses.
    fn ask(&self, endpoint: Endpoint, body: &Value) -> Result<Value, String> {
        let body = serde_json::to_vec(body).expect("JSON");
        let asked = self.client.request(self.names.api(endpoint), body.into());
        let answer = self.runtime.block_on(asked).expect("a master answers");
        let header = answer.headers.as_ref().and_then(|headers| headers.get("Nats-Service-Error"));
        match header {
            Some(sentence) => Err(sentence.to_string()),
            None => Ok(serde_json::from_slice(&answer.payload).expect("JSON")),
        }
    }
}

/// Adds fields that a later version might have.
fn add(value: &mut Value, places: &[&str]) -> bool {
    for place in places {
        value.pointer_mut(place).expect("a place")["new_field"] = json!({"of": [0.2, "x"]});
    }
    true
}

fn has(value: &Value, places: &[&str]) -> bool {
    places.iter().all(|place| value.pointer(place).is_some_and(|at| at.get("new_field").is_some()))
}

#[test]
fn records_of_a_later_version_are_read_and_written_back_with_all_they_have() {
    let mut fleet = Fleet::start(0, 0);
    fleet.push("upper");
    let buckets = Buckets::of(&fleet);
    let places = ["", "/spec", "/spec/limits", "/spec/module", "/spec/retry"];
    let submit = || {
        let task = fleet.run(&["task", "run", "upper", "--input", "a"]).ok().text();
        buckets.change(Bucket::Tasks, &task, |record| add(record, &places));
        task
    };
    let (runs, cancelled) = (submit(), submit());
    assert_eq!(fleet.record(&runs)["id"], runs.as_str());
    fleet.run(&["task", "cancel", &cancelled]).ok();
    fleet.start_worker("w1", &[]);
    fleet.until("its end", &runs, |record| {
        record["state"]["done"]["outcome"]["verdict"] == "completed"
    });
    for task in [&runs, &cancelled] {
        let record = buckets.read(Bucket::Tasks, task);
        assert!(!record["state"]["done"].is_null() && has(&record, &places), "{record}");
    }
    // Another version is added to a module.
    let module = ["", "/versions/0"];
    buckets.change(Bucket::Modules, "upper", |entry| add(entry, &module));
    let guest = muster_tests::place::guest("upper");
    let guest = muster_tests::fleet::text(&guest);
    fleet.run(&["module", "push", guest, "--name", "upper:next"]).ok();
    let entry = buckets.read(Bucket::Modules, "upper");
    assert!(entry["versions"][1].is_object() && has(&entry, &module), "{entry}");
    // A master declares a worker lost.
    let lease = ["", "/offer", "/offer/policy"];
    fleet.kill("w1");
    buckets.change(Bucket::Workers, "w1", |value| add(value, &lease));
    let lost = wait_for("it to be lost", || {
        Some(buckets.read(Bucket::Workers, "w1")).filter(|value| value["standing"] == "lost")
    });
    assert!(has(&lost, &lease), "{lost}");
}

#[test]
fn a_request_with_a_misspelt_name_is_refused_by_that_name() {
    let mut fleet = Fleet::registry();
    fleet.start_master("m1");
    let buckets = Buckets::of(&fleet);
    let id = "01m7y31ehbzwpzdmwrs5vq8rjp";
    let module = json!({"digest": format!("sha256:{}", "0".repeat(64))});
    let spec = json!({"module": module, "limits": {"new_limit": 1}});
    for (endpoint, body, path) in [
        (
            Endpoint::TaskSubmit,
            json!({"tasks": [{"id": id, "spec": spec}]}),
            "tasks.0.spec.limits.new_limit",
        ),
        (Endpoint::TaskGet, json!({"ids": [id], "id": id}), "id"),
        (Endpoint::TaskList, json!({"groop": "default"}), "groop"),
        (Endpoint::TaskCancel, json!({"ids": [id], "why": ""}), "why"),
        (Endpoint::WorkerList, json!({"group": "default"}), "group"),
        (Endpoint::WorkerOrder, json!({"worker": "w1", "order": "cordon", "now": true}), "now"),
        (Endpoint::MasterList, json!({"group": "default"}), "group"),
        (Endpoint::ModuleRegister, json!({"name": "x", "digest": module["digest"], "v": "1"}), "v"),
        (Endpoint::ModuleList, json!({"name": "x"}), "name"),
        (Endpoint::ModuleRemove, json!({"name": "x", "v": "1"}), "v"),
    ] {
        let refused = buckets.ask(endpoint, &body).expect_err("a name is wrong");
        assert!(refused.contains(&format!("unknown field `{path}`")), "{endpoint:?}: {refused}");
        assert!(refused.contains("correct the name"), "{endpoint:?}: {refused}");
    }
    for endpoint in [Endpoint::WorkerList, Endpoint::MasterList, Endpoint::ModuleList] {
        assert!(buckets.ask(endpoint, &json!({})).is_ok(), "{endpoint:?}");
    }
}
