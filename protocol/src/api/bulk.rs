//! What does not fit one message: objects in pieces, and streams in pages. A master keeps nothing between two
//! such requests, so each may reach another one.

use crate::{Digest, Nonce, TaskId, base64_text, message::ObjectStore, registry::ServerId};
use alloc::{string::String, vec::Vec};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The most bytes of a piece. In JSON it is a third larger, and fits the largest message that a NATS server
/// accepts by default, which is 1 MiB.
pub const PIECE_BYTES_MAX: usize = 384 * 1024;

/// Looks for an object. One that would expire soon is kept for as long as a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindObject {
    /// Where.
    pub store: ObjectStore,
    /// The SHA-256 of its bytes.
    pub digest: Digest,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundObject {
    /// The object's size in bytes; absent if there is no such object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// Stores a piece of an object. The pieces of an upload are sent one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutPiece {
    /// Where.
    pub store: ObjectStore,
    /// The SHA-256 of the whole object.
    pub digest: Digest,
    /// A random number for this upload.
    pub upload: Nonce,
    /// The place of the piece before this one, as [`PieceStored`] had it; 0 for the first.
    pub after: u64,
    /// At most [`PIECE_BYTES_MAX`], and at least one unless the object is empty.
    #[serde(with = "base64_text")]
    pub bytes: Bytes,
    /// With the last piece, the size of the whole in bytes. The master compares the whole with the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<u64>,
}

/// A piece is stored; after the last one, the object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceStored {
    /// The place of the piece.
    pub at: u64,
}

/// Reads a piece of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetPiece {
    /// Where.
    pub store: ObjectStore,
    /// The SHA-256 of the whole object.
    pub digest: Digest,
    /// The end of the piece before this one; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<PiecePlace>,
}

/// The place of a piece in an object as it was stored once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PiecePlace {
    /// Tells apart the times at which the object was stored.
    pub copy: String,
    /// The place of the piece.
    pub at: u64,
}

/// A piece of an object. The client compares the whole with the digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Its place.
    pub place: PiecePlace,
    /// Its bytes.
    #[serde(with = "base64_text")]
    pub bytes: Bytes,
    /// The size of the whole object in bytes.
    pub whole: u64,
}

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PageStart {
    /// With the oldest message that is kept.
    First,
    /// With the first one that comes from now on. Such a page is empty.
    New,
    /// With messages that are at most this old, in milliseconds.
    SinceMs(u64),
    /// After this place.
    After(StreamPlace),
}

/// A place in a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamPlace {
    /// The sequence number of a message; 0 for the place before all.
    pub sequence: u64,
    /// When the stream was created, in milliseconds since 1970: another stream counts anew.
    pub created_ms: u64,
    /// The process of the server that keeps the stream, if it is the only one: the next process may lack what
    /// was not on its disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerId>,
}

/// Reads a page of the events of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadEvents {
    /// Where the page begins.
    pub from: PageStart,
}

/// Reads a page of the logs of a task's runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadLogs {
    /// The task.
    pub task: TaskId,
    /// Where the page begins.
    pub from: PageStart,
}

/// Reads a page of the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadAudit {
    /// Where the page begins.
    pub from: PageStart,
}

/// A page of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The messages, oldest first.
    pub messages: Vec<PageMessage>,
    /// Where the next page begins.
    pub next: StreamPlace,
    /// How many messages followed when this page was read.
    pub left: u64,
    /// Whether messages between the start and this page are gone, or may be.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub has_gap: bool,
}

/// A message of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageMessage {
    /// Its subject.
    pub subject: String,
    /// When the registry stored it, in milliseconds since 1970; 0 in the answer of an older master.
    #[serde(default)]
    pub at_ms: u64,
    /// Its body.
    #[serde(with = "base64_text")]
    pub body: Bytes,
}
