//! The token of an invitation, which has its secret. Never shows the secret but in the token's own text.

use super::{ADDRESSES_MAX, SECRET_SIZE, TOKEN_SIZE_MAX};
use crate::{Digest, GroupName, WorkerId};
use alloc::{string::String, vec::Vec};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Serialize};

/// What an operator gives to the host of a worker.
///
/// As text: `muster-join.` and the base64 (RFC 4648, section 5) of its JSON.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The fleet.
    pub fleet: GroupName,
    /// Where masters listen, as `HOST:PORT`; at most [`ADDRESSES_MAX`].
    pub masters: Vec<String>,
    /// The SHA-256 of the authority's certificate, by which the worker knows its masters.
    pub authority: Digest,
    /// The secret.
    pub secret: [u8; SECRET_SIZE],
    /// The worker that is invited; any name if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
}

/// A text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not a whole token of `muster worker invite`")]
pub struct NotAToken;

const TOKEN_PREFIX: &str = "muster-join.";

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_vec(self).map_err(|_| fmt::Error)?;
        write!(f, "{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }
}

/// Without the secret.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a token of fleet {} for {:?} at {:?}", self.fleet, self.worker, self.masters)
    }
}

impl FromStr for Token {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let text = text.trim();
        if text.len() > TOKEN_SIZE_MAX {
            return Err(NotAToken);
        }
        let text = text.strip_prefix(TOKEN_PREFIX).ok_or(NotAToken)?;
        let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| NotAToken)?;
        let token: Token = serde_json::from_slice(&json).map_err(|_| NotAToken)?;
        let is_whole = !token.masters.is_empty() && token.masters.len() <= ADDRESSES_MAX;
        if is_whole { Ok(token) } else { Err(NotAToken) }
    }
}
