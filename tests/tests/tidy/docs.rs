//! The places and links in the pages exist. Never a matter of style.

use muster_tests::place::root;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The pages of the tree by their paths from its root; not what was built or fetched.
pub fn pages() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("a folder").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules"
            {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found.sort();
    assert!(found.len() >= 8, "only {found:?}");
    let page = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a page");
        (path.strip_prefix(root()).expect("below the root").to_owned(), text)
    };
    found.into_iter().map(page).collect()
}

/// The texts between backticks, outside of code blocks.
pub fn quotes(page: &str) -> Vec<&str> {
    let outside = page.split("```").step_by(2);
    outside.flat_map(|text| text.split('`').skip(1).step_by(2)).collect()
}

/// Whether a source file defines something of this name.
fn defines(source: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    ["fn", "struct", "enum", "trait", "const", "static", "type", "mod"].iter().any(|keyword| {
        let definition = format!("{keyword} {name}");
        source.match_indices(&definition).any(|(at, found)| {
            !source[..at].ends_with(is_part) && !source[at + found.len()..].starts_with(is_part)
        })
    })
}

/// Whether a text is the path of one file. Paths with a name in capitals stand for any file, as `NOUN.rs`.
fn is_path(text: &str) -> bool {
    let endings = [".rs", ".md", ".toml", ".wat", ".wit", ".service"];
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let name = text.rsplit('/').next().unwrap_or(text);
    let stem = name.split('.').next().unwrap_or(name);
    let stands_for_any = name.ends_with(".rs") && stem.chars().all(|c| c.is_ascii_uppercase());
    is_plain
        && text.contains('/')
        && endings.iter().any(|ending| text.ends_with(ending))
        && !stands_for_any
}

#[test]
fn the_code_that_pages_name_exists() {
    let mut hops = 0;
    for (page, text) in pages() {
        for quote in quotes(&text) {
            let (file, name) = match quote.split_once(".rs::") {
                Some((file, name)) => (format!("{file}.rs"), Some(name)),
                None => (quote.to_owned(), None),
            };
            if !is_path(&file) {
                continue;
            }
            let path = root().join(&file);
            assert!(path.is_file(), "{} names {quote}, and there is no such file", page.display());
            if let Some(name) = name {
                let source = fs::read_to_string(path).expect("a source file");
                assert!(
                    defines(&source, name),
                    "{} names {quote}: {file} has none",
                    page.display()
                );
                hops += 1;
            }
        }
    }
    assert!(hops > 60, "a task, a renewal and the recipes have more than {hops} places");
}

#[test]
fn the_walks_and_the_recipes_name_places_in_the_code() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("a page");
    for (heading, least) in [("Follow a task", 20), ("Follow a renewal", 15), ("Recipes", 10)] {
        let section = text.split("\n## ").find(|section| section.starts_with(heading));
        let section = section.unwrap_or_else(|| panic!("there is no section {heading}"));
        let places = quotes(section).iter().filter(|quote| quote.contains(".rs::")).count();
        assert!(
            places >= least,
            "{heading} names {places} places, and at least {least} are wanted"
        );
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        for row in rows {
            assert!(row.contains(".rs::"), "{heading} has a hop without file and function: {row}");
        }
    }
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn the_links_of_pages_lead_somewhere() {
    let mut links = 0;
    for (page, text) in pages() {
        let outside: String = text.split("```").step_by(2).collect();
        for target in outside.split("](").skip(1) {
            let target = target.split([')', ' ']).next().unwrap_or(target);
            if target.contains("://") {
                continue;
            }
            let (path, section) = target.split_once('#').unwrap_or((target, ""));
            let dir = root().join(page.parent().expect("a page is in a folder"));
            let there = if path.is_empty() { root().join(&page) } else { dir.join(path) };
            assert!(there.exists(), "{} links to {target}, which is not there", page.display());
            links += 1;
            if !section.is_empty() {
                let linked = fs::read_to_string(&there).expect("a page");
                let mut headings = linked.lines().filter(|line| line.starts_with('#'));
                let found = headings.any(|line| anchor(line.trim_start_matches('#')) == section);
                assert!(found, "{} links to {target}, which has no such section", page.display());
            }
        }
    }
    assert!(links >= 10, "only {links} links were found");
}
