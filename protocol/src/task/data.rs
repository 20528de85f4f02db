//! A byte string: small ones inline, large ones by digest. Never fetches anything.

use crate::Digest;
use alloc::string::String;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A byte string: inline if it is small, otherwise by the digest of an object.
///
/// JSON: `{"text": "…"}`, `{"base64": "…"}` where they are not UTF-8, or
/// `{"blob": {"digest": "sha256:…", "size": 12}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// The bytes themselves, at most [`crate::limit::INLINE_SIZE_MAX`].
    Inline(Bytes),
    /// An object in the fleet's data store.
    Blob {
        /// The SHA-256 of the object's bytes.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
    },
}

impl Data {
    /// No bytes.
    pub const EMPTY: Data = Data::Inline(Bytes::new());

    /// The length in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Data::Inline(bytes) => bytes.len() as u64,
            Data::Blob { size, .. } => *size,
        }
    }
}

impl Default for Data {
    fn default() -> Self {
        Data::EMPTY
    }
}

/// [`Data`] as JSON is written.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Shown<'a> {
    Text(&'a str),
    Base64(String),
    Blob { digest: Digest, size: u64 },
}

/// The same as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum DataText {
    Text(String),
    Base64(String),
    Blob { digest: Digest, size: u64 },
}

/// [`Data`] as frames have it.
#[derive(Serialize, Deserialize)]
enum DataBinary {
    Inline(Bytes),
    Blob { digest: Digest, size: u64 },
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match (self, s.is_human_readable()) {
            (Data::Inline(bytes), true) => match core::str::from_utf8(bytes) {
                Ok(text) => Shown::Text(text).serialize(s),
                Err(_) => Shown::Base64(STANDARD.encode(bytes)).serialize(s),
            },
            (&Data::Blob { digest, size }, true) => Shown::Blob { digest, size }.serialize(s),
            (Data::Inline(bytes), false) => DataBinary::Inline(bytes.clone()).serialize(s),
            (&Data::Blob { digest, size }, false) => DataBinary::Blob { digest, size }.serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(if d.is_human_readable() {
            match DataText::deserialize(d)? {
                DataText::Text(text) => Data::Inline(text.into_bytes().into()),
                DataText::Base64(text) => {
                    Data::Inline(STANDARD.decode(text).map_err(de::Error::custom)?.into())
                }
                DataText::Blob { digest, size } => Data::Blob { digest, size },
            }
        } else {
            match DataBinary::deserialize(d)? {
                DataBinary::Inline(bytes) => Data::Inline(bytes),
                DataBinary::Blob { digest, size } => Data::Blob { digest, size },
            }
        })
    }
}
