//! Retired terms do not come back. Never a judge of ordinary English: a word with an ordinary meaning
//! is retired only as a whole name, or as a whole phrase.

use super::{ROOMS, docs, sources};
use std::{collections::BTreeSet, path::Path};

/// Retired wherever they are a part of a name, and the term that is meant.
const PARTS: [(&str, &str); 14] = [
    ("mind", "state machine: `Fleet`, `Attempts`, `LeaseLoop`"),
    ("minds", "state machines"),
    ("shelf", "object store, or program cache"),
    ("tenure", "lease clock"),
    ("bulletin", "publisher"),
    ("elder", "previous session"),
    ("elders", "previous sessions"),
    ("confess", "resync"),
    ("condemn", "begin_declare_lost"),
    ("condemned", "lost_sent"),
    ("bereave", "on_worker_lost"),
    ("bereaves", "moved_from"),
    ("alike", "intern"),
    ("buried", "tombstones"),
];

/// Retired as whole names, and the term that is meant.
const NAMES: [(&str, &str); 32] = [
    ("Told", "StreamReply"),
    ("Hands", "Executor"),
    ("Ears", "LinkDeps"),
    ("Road", "LinkHandle"),
    ("Keeper", "LeaseThread"),
    ("News", "Publisher"),
    ("Standing", "LeaseState"),
    ("OrderAsked", "CommandAsked"),
    ("OrderWorker", "CommandWorker"),
    ("order_asked", "command_asked"),
    ("ORDERS_MAX", "COMMANDS_MAX"),
    ("BURIED_MAX", "TOMBSTONES_MAX"),
    ("HOLD_MAX", "MASS_SILENCE_MAX"),
    ("HOLD_WORKERS_MIN", "MASS_SILENCE_WORKERS_MIN"),
    ("REST_MAX", "BACKOFF_MAX"),
    ("REST_MIN", "BACKOFF_MIN"),
    ("WANTS_MAX", "SHORTAGES_MAX"),
    ("must_hold", "failovers_paused_until"),
    ("line_up", "enqueue"),
    ("change_line", "change_queue"),
    ("place_line", "place_queue"),
    ("place_left", "place_others"),
    ("step_out", "dequeue"),
    ("refit", "reindex"),
    ("greet_all", "send_hello_all"),
    ("settle_one", "reconcile_one"),
    ("settle_dispatched", "reconcile_dispatched"),
    ("bereaves_from", "moved_from"),
    ("elders_run_out", "previous_sessions_run_out"),
    ("reconsider_elders", "reconsider_previous_sessions"),
    ("born_ns", "created_ns"),
    ("rest_due", "backoff_due"),
];

/// Retired in the text of pages, and the term that is meant.
const PHRASES: [(&str, &str); 14] = [
    ("mind", "state machine"),
    ("minds", "state machines"),
    ("shelf", "object store"),
    ("tenure", "session"),
    ("bulletin", "publisher"),
    ("elders", "previous sessions"),
    ("new life", "new session, or new process"),
    ("next life", "next session, or next process"),
    ("second life", "second process"),
    ("earlier life", "earlier session"),
    ("earlier lives", "earlier sessions"),
    ("another life", "another session"),
    ("life of a process", "session"),
    ("life of a master", "session of a master"),
];

/// The names in a source file: not comments, strings and characters.
fn names(source: &str) -> Vec<&str> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(hashes) = raw_text(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let begin = hashes + 2;
            rest[begin..].find(&end).map_or(rest.len(), |at| begin + at + end.len())
        } else if first == '"' {
            text_size(rest)
        } else if first == '\'' {
            character_size(rest)
        } else if is_part(first) {
            let size = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            found.push(&rest[..size]);
            size
        } else {
            first.len_utf8()
        };
        rest = &rest[skipped..];
    }
    found
}

/// How many `#` the raw string that begins here has.
fn raw_text(source: &str) -> Option<usize> {
    let after = source.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some(hashes)
}

/// The length in bytes of the string that begins here.
fn text_size(source: &str) -> usize {
    let mut is_escaped = false;
    let end = source.char_indices().skip(1).find(|&(_, c)| {
        let ends = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        ends
    });
    end.map_or(source.len(), |(at, _)| at + 1)
}

/// The length in bytes of the character that begins here; 1 for a lifetime.
fn character_size(source: &str) -> usize {
    let mut chars = source.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let after = at + escaped.len_utf8();
            source[after..].find('\'').map_or(1, |end| after + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

/// The parts of a name in snake case or camel case, in small letters.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut was_small = false;
    for c in name.chars() {
        if c == '_' || (c.is_uppercase() && was_small) {
            parts.push(String::new());
        }
        if c != '_' {
            parts.last_mut().expect("there is a first").extend(c.to_lowercase());
        }
        was_small = c.is_lowercase() || c.is_ascii_digit();
    }
    parts
}

/// Whether a text has this phrase, on its own and not as a part of another word.
fn has_phrase(text: &str, phrase: &str) -> bool {
    text.match_indices(phrase).any(|(at, _)| {
        !text[..at].ends_with(char::is_alphanumeric)
            && !text[at + phrase.len()..].starts_with(char::is_alphanumeric)
    })
}

/// What is wrong with a name, if anything.
fn retired(name: &str) -> Option<&'static str> {
    let whole = NAMES.iter().find(|(retired, _)| *retired == name);
    let parts = parts(name);
    let part = PARTS.iter().find(|(retired, _)| parts.iter().any(|part| part == retired));
    whole.or(part).map(|(_, meant)| *meant)
}

#[test]
fn no_name_in_the_code_is_a_retired_term() {
    let mut found = BTreeSet::new();
    for (path, text) in ROOMS.iter().flat_map(|room| sources(room)) {
        for name in names(&text) {
            if let Some(meant) = retired(name) {
                found.insert(format!("{}: {name}; the glossary says {meant}", path.display()));
            }
        }
    }
    assert!(found.is_empty(), "retired names: {found:#?}");
}

#[test]
fn no_page_uses_a_retired_term() {
    let mut found = BTreeSet::new();
    for (page, text) in docs::pages() {
        // This page quotes the terms of the past.
        if page == Path::new("CHANGELOG.md") {
            continue;
        }
        let outside = text.split("```").step_by(2).flat_map(|text| text.split('`').step_by(2));
        let outside = outside.collect::<Vec<_>>().join(" ").to_lowercase();
        let outside = outside.split_whitespace().collect::<Vec<_>>().join(" ");
        for (phrase, meant) in PHRASES {
            if has_phrase(&outside, phrase) {
                found.insert(format!("{}: \"{phrase}\"; say {meant}", page.display()));
            }
        }
    }
    assert!(found.is_empty(), "retired terms: {found:#?}");
}

#[test]
fn a_retired_term_is_found_in_names_and_only_there() {
    let found = |source: &str| names(source).into_iter().find_map(retired).is_some();
    assert!(found("let mind_due = 1;") && found("struct TheMind;") && found("use a::Told;"));
    assert!(found("fn f<'a>(shelf: &'a str) {}"), "a lifetime is no character");
    assert!(!found("let told = remind(2); // the mind\n"), "other words, and a comment");
    assert!(!found(r##"let a = ["the mind", r#"a "shelf" "#, "\"mind"]; let b = '"';"##));
    assert!(has_phrase("the mind, alone", "mind") && !has_phrase("minded to remind", "mind"));
}
