//! The token with which a page may change something. Never keeps the token itself.

use anyhow::Context as _;
use hyper::{HeaderMap, header::AUTHORIZATION};
use muster_module::digest;
use muster_protocol::{
    Digest,
    api::Caller,
    role::{Actor, Rights, Role},
};
use std::path::Path;

/// The shortest token, in bytes: nobody guesses 16 random letters over a network.
const SIZE_MIN: usize = 16;

/// The longest, in bytes: headers have a limit.
const SIZE_MAX: usize = 1_024;

/// What the audit calls whoever shows the token, and whoever shows none.
const USER: &str = "http";

/// The SHA-256 of the token.
pub(super) struct Token(Digest);

impl Token {
    /// Reads the first line of a file.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("the token {} cannot be read", path.display()))?;
        let token = text.lines().next().unwrap_or_default().trim();
        anyhow::ensure!(
            (SIZE_MIN..=SIZE_MAX).contains(&token.len())
                && token.bytes().all(|byte| byte.is_ascii_graphic()),
            "the first line of {} is no token: it has to have {SIZE_MIN} to {SIZE_MAX} letters, digits or signs, without \
             spaces (--http-token-file)",
            path.display()
        );
        Ok(Token(digest(token.as_bytes())))
    }

    /// Whether the headers show this token. The time that it takes says nothing about the token: it compares digests,
    /// and what a wrong token shares with the digest of the right one cannot be chosen.
    fn is_shown(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let shown = shown.and_then(|value| value.strip_prefix("Bearer "));
        shown.is_some_and(|token| digest(token.trim().as_bytes()) == self.0)
    }
}

/// Who asks: everybody may read, and whoever shows the token may cancel tasks and command workers.
pub(super) fn caller(token: Option<&Token>, headers: &HeaderMap) -> Caller {
    let may_change = token.is_some_and(|token| token.is_shown(headers));
    let role = if may_change { Role::Operate } else { Role::Read };
    let actor = Actor { user: Some(USER.into()), ..Actor::default() };
    Caller { actor, rights: Rights::everywhere(role) }
}

/// Whether this caller may change something.
pub(super) fn may_change(caller: &Caller) -> bool {
    caller.rights.demand_everywhere(Role::Operate).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;
    use std::io::Write as _;

    fn token(text: &str) -> anyhow::Result<Token> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(text.as_bytes())?;
        Token::read(file.path())
    }

    #[test]
    fn the_first_line_is_the_token_and_it_may_not_be_short() {
        for (text, is_token) in [
            ("0123456789abcdef\n", true),
            ("  0123456789abcdef  \nmore\n", true),
            ("0123456789abcde\n", false),
            ("\n0123456789abcdef\n", false),
            ("0123456789 abcdef\n", false),
            ("", false),
        ] {
            assert_eq!(token(text).is_ok(), is_token, "{text:?}");
        }
        assert!(token(&"x".repeat(SIZE_MAX + 1)).is_err());
    }

    #[test]
    fn only_the_token_itself_permits_changes() {
        let token = token("0123456789abcdef\n").expect("a token");
        for (header, may) in [
            (Some("Bearer 0123456789abcdef"), true),
            (Some("Bearer 0123456789abcdeF"), false),
            (Some("Bearer 0123456789abcdef0"), false),
            (Some("Bearer "), false),
            (Some("Basic 0123456789abcdef"), false),
            (Some("0123456789abcdef"), false),
            (None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert(AUTHORIZATION, HeaderValue::from_static(header));
            }
            assert_eq!(may_change(&caller(Some(&token), &headers)), may, "{header:?}");
            assert!(!may_change(&caller(None, &headers)), "a master without a token");
        }
    }
}
