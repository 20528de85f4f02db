//! The imports among the top-level modules of each crate: exactly those in [`MAP`], without a circle.
//! Tests may import anything.

use super::{root, sources};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// A crate, then each of its modules with what it imports. A module that imports none is not named.
const MAP: &[(&str, &str)] = &[
    (
        "protocol",
        "
        advisory: id words
        api: base64_text enrolment entitlement grant group id lease limit message record registry role sealed signature subject task time upgrade words
        attempts: frame id lease limit message occupancy registry run_estimate task time
        audit: id record role time
        checkpoint: id lease limit message record task time
        enrolment: entitlement id record
        entitlement: id lease
        fleet: advisory api attempts entitlement grant id lease limit message occupancy registry run_estimate subject task time trace
        frame: frame_range grant id lease limit message record registry task time
        frame_range: task
        grant: id limit signature
        group: id record signature
        health: lease time
        lease: grant id limit record registry task time upgrade words
        message: enrolment frame_range grant id lease limit occupancy record registry signature subject task trace upgrade
        record: limit
        registry: id record subject time
        role: id record words
        sealed: base64_text enrolment entitlement grant id lease limit message record signature task time
        sessions: fleet id lease registry subject
        signature: id limit
        site: advisory limit time
        subject: id words
        task: advisory grant id limit occupancy record registry signature time trace words
        upgrade: id limit record signature task time
        watch: id limit registry subject time
        ",
    ),
    (
        "module",
        "
        convert: refusal
        entry: kind refusal scan
        known: refusal
        needs: known scan
        scan: features known refusal
        ",
    ),
    (
        "wire",
        "
        authority: tls
        cas: nats
        frames: link
        process: log
        state: process
        tls: link
        ",
    ),
    (
        "master",
        "
        api: audit config enrol groups inbox registry users
        audit: registry
        config: registry
        connection: api config inbox registry sites upkeep
        enrol: config registry
        executor: changes enrol inbox metrics publisher registry
        http: api changes config inbox metrics
        inbox: registry
        link: inbox registry
        publisher: registry
        sites: registry
        upkeep: inbox registry
        ",
    ),
    (
        "worker",
        "
        artifact: code compile engine
        checkpoint: gate link links object retry
        code: compile shortage
        compile: policy shortage
        compile_child: compile confine engine supervisor
        config: journal memory policy programs
        confine: config policy
        engine: code sandbox shortage
        executor: artifact checkpoint code compile deadman engine gate inbox inputs journal link links object policy retry run sandbox sealed shortage signatures tracer
        health: journal shortage
        http: metrics readiness
        identity: config dial seal_key
        inputs: artifact
        journal: shortage
        lease_thread: deadman inbox journal links upgrade
        limits: engine policy sandbox
        link: dial identity inbox journal links
        local: checkpoint compile engine gate journal policy run sandbox
        mask: policy
        metrics: readiness
        object: link links
        readiness: links
        retry: gate link links
        run: engine gate mask policy sandbox shortage
        sandbox: checkpoint gate journal mask policy
        sealed: gate link links policy seal_key signatures
        signatures: artifact
        supervisor: config programs
        upgrade: compile inbox link links local object policy programs
        worker_loop: config confine executor inbox metrics readiness supervisor upgrade
        ",
    ),
    (
        "cli",
        "
        audit: client exit output quantity stream_reader
        blob: client exit quantity terminal
        build: exit language module output quantity terminal
        cert: entitlement exit output
        check: accounts client exit output quantity
        client: exit ids
        completions: client exit
        config: output
        debug: check client exit output quantity stream_reader terminal
        dev: cert check exit init nats output
        events: client output quantity stream_reader terminal
        exit: output terminal
        group: client exit output quantity
        ids: exit
        init: cert nats output
        language: exit
        map: blob client completions exit ids module output quantity request submit terminal
        module: blob client exit output quantity terminal
        nats: accounts exit output
        new: build exit language output
        output: quantity terminal
        request: exit quantity trace
        secret: client exit output terminal
        stream_reader: client exit
        submit: client exit
        task: blob client completions events exit ids module output quantity request stream_reader submit terminal
        top: client events exit output quantity stream_reader task terminal worker
        user: client exit output
        worker: blob client entitlement exit module output quantity terminal
        ",
    ),
];

/// What each module of a crate imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// A source as tokens, without comments, strings and the test module at its end.
fn tokens(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut tokens: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("r#\"") {
            rest.find("\"#").map_or(rest.len(), |end| end + 2)
        } else if first == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            end.map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") {
            rest[1..].find('\'').map_or(rest.len(), |end| end + 2)
        } else {
            let length = match rest.find(|c| !word(c)) {
                Some(0) if rest.starts_with("::") => 2,
                Some(0) => first.len_utf8(),
                Some(end) => end,
                None => rest.len(),
            };
            if !first.is_whitespace() {
                tokens.push(rest[..length].into());
            }
            length
        };
        rest = &rest[length..];
    }
    tokens
}

/// The paths that a source imports, or names in full.
fn paths(text: &str) -> Vec<Vec<String>> {
    let tokens = tokens(text);
    let token = |at: usize| tokens.get(at).map_or(";", String::as_str);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let begins = at == 0 || [";", "}", "{", "]", ")", "pub"].contains(&token(at - 1));
        if token(at) == "use" && begins && token(at + 1) != "<" {
            at = tree(&tokens, at + 1, &[], &mut found);
        } else if ["crate", "super"].contains(&token(at)) && token(at + 1) == "::" {
            let mut path = vec![tokens[at].clone()];
            at += 1;
            while token(at) == "::" && token(at + 1).starts_with(char::is_alphabetic) {
                path.push(tokens[at + 1].clone());
                at += 2;
            }
            found.push(path);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one tree of a `use`, with nested groups; returns where it ends.
fn tree(
    tokens: &[String],
    mut at: usize,
    prefix: &[String],
    found: &mut Vec<Vec<String>>,
) -> usize {
    let token = |at: usize| tokens.get(at).map_or(";", String::as_str);
    let mut path = prefix.to_vec();
    loop {
        if token(at) == "{" {
            at += 1;
            while token(at) != "}" && token(at) != ";" {
                at = tree(tokens, at, &path, found);
                at += usize::from(token(at) == ",");
            }
            return at + 1;
        }
        path.push(token(at).into());
        at += 1;
        if token(at) != "::" {
            break;
        }
        at += 1;
    }
    found.push(path);
    if token(at) == "as" { at + 2 } else { at }
}

/// The top-level module that a path in a module leads to; `None` if the path leaves the crate.
fn resolved(module: &[&str], path: &[String]) -> Option<Vec<String>> {
    let mut base: Vec<String> = module.iter().map(|part| part.to_string()).collect();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => {
            base.clear();
            rest = &path[1..];
        }
        "super" => {
            while let [first, more @ ..] = rest
                && first == "super"
            {
                base.pop();
                rest = more;
            }
        }
        _ => return None,
    }
    base.extend_from_slice(rest);
    Some(base)
}

/// The parts of a module's path, from its file; `None` for the root of a crate, another program, or
/// tests.
fn module_of(file: &Path, src: &Path) -> Option<Vec<String>> {
    let path = file.strip_prefix(src).ok()?.with_extension("");
    let parts: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let is_root = ["lib", "main", "bin"].contains(&parts[0].as_str());
    (!is_root && !parts.iter().any(|part| part == "tests")).then_some(parts)
}

/// The imports among the top-level modules of a crate, and what is imported from its root.
fn imports(room: &str) -> (Imports, Vec<String>) {
    let src = root().join(room).join("src");
    let files = sources(&format!("{room}/src"));
    let modules: Vec<(Vec<String>, &String)> =
        files.iter().filter_map(|(file, text)| Some((module_of(file, &src)?, text))).collect();
    let tops: BTreeSet<&str> = modules.iter().map(|(parts, _)| parts[0].as_str()).collect();
    // A name that the root re-exports counts for the module that defines it; names of other crates do
    // not count.
    let mut handed_on: BTreeMap<String, String> = BTreeMap::new();
    let roots = ["lib.rs", "main.rs"].map(|name| src.join(name));
    for (_, text) in files.iter().filter(|(file, _)| roots.contains(file)) {
        for path in paths(text).iter().filter(|path| path.len() > 1) {
            let (Some(first), Some(name)) = (path.first(), path.last()) else { continue };
            handed_on.insert(name.clone(), first.clone());
        }
    }
    let (mut imports, mut upward) = (Imports::new(), Vec::new());
    for (parts, text) in &modules {
        let module: Vec<&str> = parts.iter().map(String::as_str).collect();
        for path in paths(text) {
            let Some(target) = resolved(&module, &path) else { continue };
            let Some(first) = target.first() else { continue };
            let first = match handed_on.get(first) {
                Some(from) if !tops.contains(first.as_str()) => from,
                _ => first,
            };
            if first == module[0] {
            } else if tops.contains(first.as_str()) {
                imports.entry(module[0].into()).or_default().insert(first.clone());
            } else if !first.starts_with("muster_") {
                upward.push(format!("{room}: {} imports {}", parts.join("::"), path.join("::")));
            }
        }
    }
    (imports, upward)
}

/// The modules of a circle, if there is one.
fn circle(imports: &Imports) -> Option<Vec<String>> {
    // A module that imports none of the remaining ones is in no circle.
    let mut left = imports.clone();
    loop {
        let names: BTreeSet<String> = left.keys().cloned().collect();
        left.values_mut().for_each(|whom| whom.retain(|name| names.contains(name)));
        let before = left.len();
        left.retain(|_, whom| !whom.is_empty());
        if left.len() == before {
            break;
        }
    }
    // Each remaining module imports another remaining one: following the imports returns to one that
    // was met.
    let mut way = vec![left.keys().next()?.clone()];
    loop {
        let next = left.get(way.last()?)?.first()?.clone();
        if let Some(begin) = way.iter().position(|name| *name == next) {
            return Some(way.split_off(begin));
        }
        way.push(next);
    }
}

fn map_of(text: &str) -> Imports {
    let line = |line: &str| {
        let (module, whom) = line.split_once(':')?;
        let whom = whom.split_whitespace().map(str::to_string).collect();
        Some((module.trim().to_string(), whom))
    };
    text.lines().filter_map(line).collect()
}

fn text_of(imports: &Imports) -> String {
    let line = |(module, whom): (&String, &BTreeSet<String>)| {
        let whom: Vec<&str> = whom.iter().map(String::as_str).collect();
        format!("        {module}: {}\n", whom.join(" "))
    };
    imports.iter().map(line).collect()
}

/// The paragraph of ARCHITECTURE.md.
fn paragraph() -> String {
    let mut text = String::new();
    for (room, map) in MAP {
        let modules = map_of(map).into_iter().map(|(module, whom)| {
            let whom: Vec<String> = whom.iter().map(|name| format!("`{name}`")).collect();
            format!("`{module}` → {}", whom.join(" "))
        });
        let modules: Vec<String> = modules.collect();
        text.push_str(&format!("- `{room}/`: {}.\n", modules.join("; ")));
    }
    text
}

#[test]
fn modules_import_whom_the_map_lets_them() {
    let mut wrong = String::new();
    for (room, map) in MAP {
        let found = imports(room).0;
        if map_of(map) != found {
            wrong.push_str(&format!("{room} imports:\n{}", text_of(&found)));
        }
    }
    assert!(wrong.is_empty(), "the map says otherwise.\n{wrong}");
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    for (room, _) in MAP {
        assert_eq!(circle(&imports(room).0), None, "{room}");
    }
}

#[test]
fn nothing_is_imported_from_the_root_of_a_crate() {
    let upward: Vec<String> = MAP.iter().flat_map(|(room, _)| imports(room).1).collect();
    assert!(upward.is_empty(), "put these into a module:\n{}", upward.join("\n"));
}

#[test]
fn the_map_of_imports_is_in_the_docs() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("a file");
    assert!(text.contains(&paragraph()), "put this into ARCHITECTURE.md:\n{}", paragraph());
}

#[test]
fn every_form_of_an_import_is_read() {
    let text = r#"
        //! See crate::comment::X.
        use crate::{a, b::c, d::{self, e::{f, g as h}}, i::*};
        use super::super::j;
        pub(crate) use muster_protocol::Time;
        fn k(x: impl Sized + use<'_>) -> crate::l::M { super::n::o(x, "crate::string::X", '"') }
        #[cfg(test)]
        use crate::p;
    "#;
    let all: Vec<String> = paths(text).iter().map(|path| path.join("::")).collect();
    let expected = [
        "crate::a",
        "crate::b::c",
        "crate::d::self",
        "crate::d::e::f",
        "crate::d::e::g",
        "crate::i::*",
        "super::super::j",
        "muster_protocol::Time",
        "crate::l::M",
        "super::n::o",
        "crate::p",
    ];
    assert_eq!(all, expected);
    let resolve = |path: &str| {
        let path: Vec<String> = path.split("::").map(str::to_string).collect();
        resolved(&["top", "inner"], &path).map(|path| path.join("::"))
    };
    assert_eq!(resolve("crate::d::e").as_deref(), Some("d::e"));
    assert_eq!(resolve("super::super::j").as_deref(), Some("j"));
    assert_eq!(resolve("super::j").as_deref(), Some("top::j"));
    assert_eq!(resolve("muster_protocol::Time"), None);
}

#[test]
fn a_circle_is_found() {
    let map = |text| circle(&map_of(text)).map(|way| way.join(" "));
    assert_eq!(map("a: b c\nb: c\n"), None);
    assert_eq!(map("a: b\nb: c d\nc: b\nd: e\n").as_deref(), Some("b c"));
    assert_eq!(map("a: b\nb: c\nc: a x\n").as_deref(), Some("a b c"));
}
