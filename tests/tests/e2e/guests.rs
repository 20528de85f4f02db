//! Real guests with real input, from the command line and back.

use muster_tests::{Fleet, fleet::text, fleet::wait_for, place};

#[test]
fn the_examples_give_their_results() {
    let fleet = Fleet::start(1, 2);
    let licence = "/usr/share/common-licenses/GPL-3";
    let words = std::fs::read_to_string(licence).expect("every Debian has it");
    let wordcount = place::guest("wordcount");
    let counted =
        fleet.run(&["task", "run", text(&wordcount), "--input", &format!("@{licence}"), "--wait"]);
    assert_eq!(counted.ok().json()["lines"], words.lines().count());

    let picture = fleet.path("picture.png");
    let drawn =
        std::process::Command::new(place::root().join("setup/picture")).arg(&picture).output();
    assert!(drawn.expect("python3 runs").status.success());
    fleet.push("thumbnail");
    let input = format!("@{}", text(&picture));
    let small = fleet.run(&["task", "run", "thumbnail", "--input", &input, "--wait"]).ok();
    assert!(small.out.starts_with(b"\x89PNG"), "a picture comes back");
    assert!(small.out.len() < std::fs::metadata(&picture).expect("a file").len() as usize);

    fleet.push("primes");
    let primes =
        fleet.run(&["task", "run", "primes", "--input", r#"{"from":1,"to":1000}"#, "--wait"]);
    assert_eq!(primes.ok().json()["count"], 168);
}

#[test]
fn a_plain_program_gives_its_exit_code_and_its_standard_error() {
    let fleet = Fleet::start(1, 1);
    fleet.push("upper");
    let loud = fleet.run_with(&["task", "run", "upper", "--input", "-", "--wait"], b"quiet\n");
    assert_eq!(loud.ok().text(), "QUIET");
    let empty = fleet.run(&["task", "run", "upper", "--wait"]);
    assert_eq!(empty.code, 3, "{empty:?}");
    assert!(empty.err.contains("the input is empty"), "{empty:?}");
}

#[test]
fn large_inputs_and_outputs_go_through_the_data_store() {
    let fleet = Fleet::start(1, 1);
    fleet.push("upper");
    let input = "abcdefg\n".repeat(300_000).into_bytes();
    let ran = fleet.run_with(&["task", "run", "upper", "--input", "-", "--wait"], &input).ok();
    assert!(ran.out == input.to_ascii_uppercase(), "{} bytes came back", ran.out.len());
}

#[test]
fn what_a_guest_writes_to_standard_error_can_be_read_afterwards() {
    let fleet = Fleet::start(1, 1);
    fleet.push("upper");
    let task = fleet.run(&["task", "run", "upper"]).ok().text();
    fleet.until("its end", &task, |record| !record["state"]["done"].is_null());
    wait_for("its log", || {
        fleet.run(&["task", "logs", &task]).text().contains("the input is empty").then_some(())
    });
}

#[test]
fn progress_is_told_while_a_run_goes_on() {
    let fleet = Fleet::start(1, 1);
    fleet.push("primes");
    let task = fleet
        .run(&["task", "run", "primes", "--input", r#"{"from":1,"to":4000000000}"#])
        .ok()
        .text();
    wait_for("its progress", || {
        fleet.run(&["task", "get", &task]).text().contains("of 4000000000").then_some(())
    });
    fleet.run(&["task", "cancel", &task]).ok();
}

#[test]
fn a_push_says_what_the_module_needs_and_its_version_stays() {
    let fleet = Fleet::start(1, 1);
    let push = |guest: &str, name: &str| {
        let guest = place::guest(guest);
        fleet.run(&["module", "push", text(&guest), "--name", name, "-o", "json"]).ok().json()
    };
    let first = push("wordcount", "count:1.2");
    assert_eq!((&first["name"], &first["version"]), (&"count".into(), &"1.2".into()));
    // The guest has a hash map, whose hashes need a random seed.
    assert_eq!(first["needs"][0]["grant"], "--random", "{first}");
    assert_eq!(push("upper", "count:1.3")["version"], "1.3");

    let run =
        |module: &str| fleet.run(&["task", "run", module, "--input", "a b", "--wait"]).ok().text();
    assert_eq!(run("count"), "A B", "a bare name is the newest version");
    let counted = run("count:1.2");
    assert!(counted.starts_with("{\"lines\":1,\"words\":2"), "{counted}");
    assert_eq!(run(first["digest"].as_str().expect("a digest")), counted);

    for what in ["count:1.2", text(&place::guest("wordcount"))] {
        let shown = fleet.run(&["-o", "json", "module", "inspect", what]).ok().json();
        assert_eq!(shown["needs"], first["needs"], "{what}");
    }
    let shown = fleet.run(&["module", "inspect", "count:1.2"]).ok().text();
    assert!(shown.contains("--random: it takes random numbers"), "{shown}");
}
