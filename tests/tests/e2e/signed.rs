//! Secrets that are for some modules only, and workers on which only signed modules run: what a client tries
//! with modules of its own, and what the right module is given.

use muster_protocol::api::Endpoint;
use muster_tests::{
    Fleet,
    fleet::{Ran, text, wait_for},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// The value of the secret in these tests.
const VALUE: &str = "correct-horse-battery";

/// A worker with this policy, in which `FILE` stands for the file of the secret.
fn start(fleet: &mut Fleet, worker: &str, policy: &str) {
    let (file, secret) = (fleet.path(&format!("{worker}.toml")), fleet.path("secret"));
    std::fs::write(&secret, format!("{VALUE}\n")).expect("a file");
    std::fs::write(&file, policy.replace("FILE", text(&secret))).expect("a file");
    fleet.start_worker(worker, &["--slots", "2", "--policy", text(&file)]);
    wait_for("the master to know its policy", || {
        let found = fleet.run(&["-o", "json", "worker", "get", worker]);
        (found.code == 0 && found.json()["linked"] == true).then_some(())
    });
}

/// Pushes a guest under a name, with the arguments `how`. Returns the answer.
fn push(fleet: &Fleet, guest: &str, name: &str, how: &[&str]) -> Value {
    let file = muster_tests::place::guest(guest);
    let push = ["-o", "json", "module", "push", text(&file), "--name", name];
    fleet.run(&[&push[..], how].concat()).ok().json()
}

/// Makes a key. Returns its file, its public key and its id.
fn key(fleet: &Fleet, name: &str) -> (String, String, String) {
    let file = text(&fleet.path(name)).to_string();
    let made = fleet.run(&["-o", "json", "module", "key", &file]).ok().json();
    let word = |name: &str| made[name].as_str().expect("a text").to_string();
    (file, word("public"), word("id"))
}

fn run(fleet: &Fleet, module: &str, options: &[&str]) -> Ran {
    fleet.run(&[&["task", "run", module, "--wait"], options].concat())
}

#[test]
fn a_secret_is_given_only_to_the_modules_that_its_policy_names() {
    let mut fleet = Fleet::start(0, 0);
    let (file, public, _) = key(&fleet, "shop.key");
    let (strange, ..) = key(&fleet, "strange.key");
    let right = push(&fleet, "inventory", "right", &[]);
    let digest = right["digest"].as_str().expect("a digest").to_string();
    push(&fleet, "upper", "own", &[]);
    push(&fleet, "upper", "own-signed", &["--sign", &strange]);
    push(&fleet, "upper", "signed", &["--sign", &file]);
    let policy = format!(
        "[secrets]\nKEY = {{ file = 'FILE', modules = ['{digest}'], signers = ['{public}'] }}\n\
         OTHER = {{ file = 'FILE', groups = ['shops'] }}\n"
    );
    start(&mut fleet, "w1", &policy);

    for module in ["own", "own-signed"] {
        let ran = run(&fleet, module, &["--secret", "KEY"]);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(
            ran.err.contains("the policy of w1 keeps the secret KEY for other modules"),
            "{ran:?}"
        );
        assert!(!ran.err.contains(VALUE), "{ran:?}");
        run(&fleet, module, &["--input", "it runs"]).ok();
    }
    let ran = run(&fleet, "right", &["--secret", "OTHER"]);
    assert!(ran.code == 2 && ran.err.contains("has no secret OTHER"), "its group: {ran:?}");
    run(&fleet, "signed", &["--secret", "KEY", "--input", "it runs"]).ok();
    let ran = run(&fleet, "right", &["--secret", "KEY"]).ok();
    // The guest prints what it was given; it is masked in the output.
    assert!(ran.text().lines().any(|line| line == "variable KEY=***"), "{ran:?}");
}

/// Gives a name to a stored module, with a signature that the command would not make.
fn register(fleet: &Fleet, name: &str, digest: &Value, signature: &str) -> String {
    let asked = fleet.names().api(Endpoint::ModuleRegister);
    let body = json!({ "name": name, "version": "1", "digest": digest, "signature": signature });
    let runtime = Runtime::new().expect("threads");
    runtime.block_on(async {
        let client = async_nats::connect(fleet.nats_url()).await.expect("it answers");
        let answer = client.request(asked, body.to_string().into()).await.expect("an answer");
        let refusal = answer.headers.as_ref().and_then(|headers| headers.get("Nats-Service-Error"));
        refusal.map(ToString::to_string).unwrap_or_default()
    })
}

#[test]
fn a_worker_that_demands_signatures_verifies_them_itself() {
    let mut fleet = Fleet::start(0, 0);
    let (file, public, id) = key(&fleet, "shop.key");
    let (strange, ..) = key(&fleet, "strange.key");
    push(&fleet, "noop", "plain", &[]);
    push(&fleet, "noop", "strange", &["--sign", &strange]);
    let good = push(&fleet, "upper", "good", &["--sign", &file]);
    let signature = good["signature"].as_str().expect("a signature");
    let other = push(&fleet, "inventory", "other", &[]);
    // A signature by the right key, of other bytes; and one that was changed. A master cannot tell.
    let line = signature.lines().nth(1).expect("a line");
    let changed = signature.replace(line, &format!("{}AAAAAAAA{}", &line[..20], &line[28..]));
    assert_eq!(register(&fleet, "moved", &other["digest"], signature), "");
    assert_eq!(register(&fleet, "changed", &good["digest"], &changed), "");
    let refusal = register(&fleet, "none", &good["digest"], "a signature");
    assert!(refusal.contains("not a signature in minisign's format"), "{refusal}");
    let policy = format!(
        "[modules]\nsigners = ['{public}']\n[secrets]\nKEY = {{ file = 'FILE', signers = ['{public}'] }}\n"
    );
    start(&mut fleet, "w1", &policy);

    let demand = format!("demands a module that is signed by one of the keys {id}");
    for module in ["plain", "strange", "moved", "changed"] {
        let ran = run(&fleet, module, &["--secret", "KEY"]);
        assert!(ran.code != 0 && ran.err.contains(&demand), "{module}: {ran:?}");
        // Masters believe the id of the key; the worker does not.
        let by_worker = ran.err.contains("the policy of this worker");
        assert_eq!(by_worker, ["moved", "changed"].contains(&module), "{module}: {ran:?}");
        assert!(!ran.text().contains(VALUE), "{module}: {ran:?}");
    }
    for _ in 0..2 {
        let ran = run(&fleet, "good", &["--secret", "KEY", "--input", "it runs"]).ok();
        assert_eq!(ran.text(), "IT RUNS");
        // It is compiled already; the signature is verified again.
        fleet.crash("w1");
        wait_for("its next process", || fleet.is_ready("w1").then_some(()));
    }
    let listed = fleet.run(&["module", "ls"]).ok().text();
    assert!(listed.lines().any(|line| line.contains("good") && line.contains(&id)), "{listed}");
    let shown = fleet.run(&["worker", "get", "w1"]).ok().text();
    assert!(shown.contains(&format!("only modules that are signed by {id}")), "{shown}");

    // Signing a version that exists makes another version.
    let again = push(&fleet, "noop", "plain", &["--sign", &file]);
    assert_eq!(again["version"], "2", "{again}");
    run(&fleet, "plain", &[]).ok();
    let noop = muster_tests::place::guest("noop");
    let taken = ["module", "push", text(&noop), "--name", "plain:1", "--sign", &file];
    let taken = fleet.run(&taken);
    assert!(taken.code != 0 && taken.err.contains("exists with another signature"), "{taken:?}");
}

#[test]
fn a_group_that_demands_signatures_refuses_other_modules() {
    let fleet = Fleet::start(1, 1);
    let (file, public, id) = key(&fleet, "shop.key");
    let (strange, ..) = key(&fleet, "strange.key");
    push(&fleet, "noop", "plain", &[]);
    push(&fleet, "noop", "strange", &["--sign", &strange]);
    let good = push(&fleet, "upper", "good", &["--sign", &file]);
    let other = push(&fleet, "inventory", "other", &[]);
    let signature = good["signature"].as_str().expect("a signature");
    assert_eq!(register(&fleet, "moved", &other["digest"], signature), "");
    let before = run(&fleet, "plain", &["--id", "before"]).ok();

    fleet.run(&["group", "set", "default", "--signer", &public]).ok();
    let listed = fleet.run(&["group", "ls"]).ok().text();
    assert!(
        listed.lines().any(|line| line.starts_with("default") && line.contains(&id)),
        "{listed}"
    );
    let demand = format!("only modules that are signed by one of the keys {id}");
    for module in ["plain", "strange", "moved"] {
        // The second time, the verdict is known already.
        for _ in 0..2 {
            let ran = run(&fleet, module, &[]);
            assert!(ran.code == 2 && ran.err.contains(&demand), "{module}: {ran:?}");
        }
    }
    for _ in 0..2 {
        assert_eq!(run(&fleet, "good", &["--input", "it runs"]).ok().text(), "IT RUNS");
    }
    // Other groups do not demand it, and a submission that was accepted may be repeated.
    fleet.run(&["task", "run", "plain", "--group", "other"]).ok();
    assert_eq!(run(&fleet, "plain", &["--id", "before"]).ok().text(), before.text());
    fleet.run(&["group", "set", "default", "--any-module"]).ok();
    run(&fleet, "plain", &[]).ok();
    let groups = fleet.run(&["-o", "json", "group", "ls"]).ok().json();
    let group = &groups["groups"][0];
    assert!(group["group"] == "default" && group.get("signers").is_none(), "{groups}");
    let refused = fleet.run(&["group", "set", "default", "--signer", "RWQf6"]);
    assert!(refused.code == 2 && refused.err.contains("a public key (RW"), "{refused:?}");
}
