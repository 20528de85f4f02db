//! The files of the page, which are a part of this program. Never reads a file.

use hyper::StatusCode;
use muster_wire::http::answer::{self, Answer, PLAIN};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// A path, its media type, and its bytes.
type File = (&'static str, &'static str, &'static [u8]);

macro_rules! files {
    ($($kind:ident $path:literal,)+) => {
        [$((concat!("/", $path), $kind, include_bytes!(concat!("../../../web/", $path)))),+]
    };
}

/// Every file of `web/` but its tests and what is for developers.
#[rustfmt::skip]
const FILES: &[File] = &files![
    CSS "css/base.css",
    CSS "css/frame.css",
    CSS "css/lists.css",
    CSS "css/task.css",
    SVG "icon.svg",
    HTML "index.html",
    SCRIPT "js/api.js",
    SCRIPT "js/clock.js",
    SCRIPT "js/format.js",
    SCRIPT "js/html.js",
    SCRIPT "js/main.js",
    SCRIPT "js/route.js",
    SCRIPT "js/state.js",
    SCRIPT "js/store.js",
    SCRIPT "js/stream.js",
    SCRIPT "js/text.js",
    SCRIPT "js/theme.js",
    SCRIPT "js/ticker.js",
    SCRIPT "js/token.js",
    SCRIPT "js/view/age.js",
    SCRIPT "js/view/app.js",
    SCRIPT "js/view/dialogs.js",
    SCRIPT "js/view/fleet.js",
    SCRIPT "js/view/groups.js",
    SCRIPT "js/view/lease_bar.js",
    SCRIPT "js/view/list.js",
    SCRIPT "js/view/log.js",
    SCRIPT "js/view/modules.js",
    SCRIPT "js/view/state_word.js",
    SCRIPT "js/view/task.js",
    SCRIPT "js/view/task_facts.js",
    SCRIPT "js/view/tasks.js",
    SCRIPT "js/view/theme_button.js",
    SCRIPT "js/view/throughput.js",
    SCRIPT "js/view/timeline.js",
    SCRIPT "js/view/timeline_model.js",
    SCRIPT "js/view/worker.js",
    SCRIPT "js/view/workers.js",
    PLAIN "vendor/htm.LICENSE",
    SCRIPT "vendor/htm.module.js",
    PLAIN "vendor/preact.LICENSE",
    SCRIPT "vendor/preact.mjs",
    PLAIN "vendor/uPlot.LICENSE",
    SCRIPT "vendor/uPlot.iife.min.js",
    CSS "vendor/uPlot.min.css",
];

/// The file at this path.
pub(super) fn answer(path: &str) -> Answer {
    let path = if path == "/" { "/index.html" } else { path };
    match FILES.iter().find(|(name, ..)| *name == path) {
        Some((_, kind, bytes)) => answer::whole(StatusCode::OK, kind, *bytes),
        None => answer::failure(StatusCode::NOT_FOUND, "There is no such page.", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs, path::Path};

    fn walk(dir: &Path, below: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).expect("a folder").flatten() {
            let name = format!("{below}/{}", entry.file_name().to_string_lossy());
            if !entry.path().is_dir() {
                found.insert(name);
            } else if name != "/test" {
                walk(&entry.path(), &name, found);
            }
        }
    }

    #[test]
    fn every_file_of_the_page_is_served_with_its_type() {
        let mut files = BTreeSet::new();
        let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web");
        walk(&web, "", &mut files);
        files.retain(|path| !path.ends_with("README.md"));
        let served: BTreeSet<String> = FILES.iter().map(|(path, ..)| path.to_string()).collect();
        assert_eq!(served, files);
        for (path, kind, bytes) in FILES {
            let ending = path.rsplit('.').next().unwrap_or_default();
            let want = match ending {
                "html" => HTML,
                "css" => CSS,
                "js" | "mjs" => SCRIPT,
                "svg" => SVG,
                _ => PLAIN,
            };
            assert_eq!(*kind, want, "{path}");
            assert!(!bytes.is_empty(), "{path}");
        }
        for (path, status) in [
            ("/", 200),
            ("/index.html", 200),
            ("/js", 404),
            ("/test/mock.py", 404),
            ("/../Cargo.toml", 404),
            ("//index.html", 404),
        ] {
            assert_eq!(answer(path).status(), status, "{path}");
        }
    }
}
