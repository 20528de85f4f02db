//! What a program and a master say when the program joins the fleet as a worker, or renews its certificate.
//! They speak over a connection of their own, on which the program shows no certificate.

use crate::{WorkerId, enrolment::Recipient};
use alloc::{string::String, vec::Vec};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The name of this protocol in the TLS handshake (ALPN).
pub const JOIN_ALPN: &[u8] = b"muster-join/1";

/// The longest [`Join`], in bytes.
pub const JOIN_SIZE_MAX: usize = 8 * 1024;

/// A request for a certificate. Answered by [`JoinReply`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The secret of an invitation; absent in a worker that has joined before and needs another
    /// certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Bytes>,
    /// The name that it wants; that of the invitation if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// A request for a certificate (PKCS #10, DER). It proves that the worker has the key.
    pub request: Bytes,
    /// The key to which secrets for it are to be encrypted; a worker of an earlier version tells none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Recipient>,
    /// The version of the worker's program.
    pub version: String,
}

/// The answer to a [`Join`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinReply {
    /// The worker has joined.
    Joined(Joined),
    /// An operator has to approve it; ask again later.
    Wait,
    /// It may not join, for this reason. Asking again does not help.
    Refused(String),
    /// It could not be decided now, for this reason; ask again, or ask another master.
    Unavailable(String),
}

/// What a worker that has joined needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Its name.
    pub worker: WorkerId,
    /// Its certificate, as PEM.
    pub cert: String,
    /// The certificate of the authority, as PEM.
    pub authority: String,
    /// Where the masters listen, as `HOST:PORT`, as far as they have said so.
    pub masters: Vec<String>,
}
