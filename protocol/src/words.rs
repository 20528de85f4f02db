//! The macro for enums whose values have words. Never defines a word itself.

use alloc::{format, string::String};

/// Defines an enum with `ALL`, `word()` and `meaning()`, from which records, subjects, tables and `--help`
/// take the words. The meaning of a value is its documentation.
macro_rules! words {
    (
        $(#[$doc:meta])*
        pub enum $name:ident {
            $($(#[doc = $meaning:literal])+ $variant:ident = $word:literal),+ $(,)?
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[doc = $meaning])+ $variant),+ }

        impl $name {
            /// Every value.
            pub const ALL: [$name; [$($word),+].len()] = [$($name::$variant),+];

            /// The word for it.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }

            /// What it means, as Markdown.
            pub const fn meaning(self) -> &'static str {
                match self { $($name::$variant => concat!($($meaning),+).trim_ascii()),+ }
            }
        }
    };
}
pub(crate) use words;

/// The rows of a table of words and their meanings, with links of the code's docs reduced to their names.
pub(crate) fn rows<'a>(words: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    words.map(|(word, meaning)| format!("| `{word}` | {} |\n", unlinked(meaning))).collect()
}

/// The text with `[name](target)` replaced by `name`.
fn unlinked(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[')
        && let Some((name, target)) = link.split_once("](")
        && let Some((_, after)) = target.split_once(')')
    {
        out.push_str(before);
        out.push_str(name);
        rest = after;
    }
    out.push_str(rest);
    out
}
