//! Requests about secrets that the registry keeps for workers. No answer has a value, not even an encrypted one.

use crate::{
    WorkerId, base64_text,
    enrolment::Recipient,
    grant::{SecretName, SecretRule},
    time::WallMillis,
};
use alloc::{string::String, vec::Vec};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Keep a secret for a worker, in place of the one of this name that it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetSecret {
    /// The worker.
    pub worker: WorkerId,
    /// The name of the secret.
    pub name: SecretName,
    /// The key of the worker to which the value is encrypted.
    pub recipient: Recipient,
    /// The modules that may have it; every module if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<SecretRule>,
    /// The value, encrypted: a file of age, of at most [`SEALED_SIZE_MAX`](crate::limit::SEALED_SIZE_MAX) bytes.
    #[serde(with = "base64_text")]
    pub file: Bytes,
}

/// Names a secret of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameSecret {
    /// The worker.
    pub worker: WorkerId,
    /// The name of the secret.
    pub name: SecretName,
}

/// A secret that the registry keeps for a worker, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretView {
    /// The worker.
    pub worker: WorkerId,
    /// The name of the secret.
    pub name: SecretName,
    /// The modules that may have it; every module if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<SecretRule>,
    /// When it was set, on a master's wall clock.
    pub set_at: WallMillis,
    /// Who set it.
    pub set_by: String,
    /// Whether the worker can have it: it has the same key as when the secret was set, and has not joined anew.
    pub usable: bool,
}

/// The secrets that the registry keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretViews {
    /// In the order of their keys in the registry: worker, then name.
    pub secrets: Vec<SecretView>,
    /// The key of the last one of this part, if others follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<String>,
}
