//! The mutants of how a master follows the streams. Each breaks one rule.

use super::{Edit, edits::edit};

const WATCH: &str = "protocol/src/watch.rs";
const WATERMARK: &str = "protocol/src/watch/watermark.rs";

/// Every edit of this file.
pub(super) const EDITS: &[Edit] = &[
    edit(
        WATCH,
        "        let is_alone = self.bucket == Bucket::Tasks && !self.company;",
        "        let is_alone = self.bucket == Bucket::Tasks
            && (ON[a-watch-pauses-although-others-write] || !self.company);",
    ),
    edit(
        WATCH,
        "        if is_stuck { Compared::Behind",
        "        if is_stuck && !ON[a-dead-watch-is-trusted] { Compared::Behind",
    ),
    edit(
        WATCH,
        "        if has_more {
            return false;",
        "        if has_more && !ON[loaded-before-all-is-shown] {
            return false;",
    ),
    edit(
        WATCH,
        "        match self.watermark.begin() {",
        "        match self.watermark.begin() {
            upto if ON[a-new-watch-begins-too-late] && upto > 0 => Start::After(upto + 1),",
    ),
    edit(
        WATCH,
        "        let is_own = shown.writer == Some(self.session);",
        "        let is_own = if ON[what-other-masters-wrote-is-no-news] {
            shown.writer.is_some()
        } else {
            shown.writer == Some(self.session)
        };",
    ),
    edit(
        WATCH,
        "            return if is_certain { Compared::WentBack } else { Compared::Lagging };",
        "            let is_certain = is_certain || ON[a-lagging-answer-is-a-loss];
            return if ON[a-stream-that-went-back-is-followed] {
                Compared::Fine
            } else if is_certain {
                Compared::WentBack
            } else {
                Compared::Lagging
            };",
    ),
    edit(
        WATERMARK,
        "        self.beyond.insert(revision);
",
        "        if ON[a-gap-is-no-write-of-others] {
            self.upto = revision;
        }
        self.beyond.insert(revision);
",
    ),
];
