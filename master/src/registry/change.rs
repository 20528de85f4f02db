//! Changes a value by compare-and-set, again for as long as others are faster. Never writes what was decided on
//! another value than the one that it replaces.

use super::Registry;
use muster_protocol::{ABSENT, lease::CasAnswer, record::Record};
use muster_wire::cas;
use std::time::Duration;

/// How often a change is tried when other writers win the race.
const TRIES_MAX: usize = 8;

/// Why a value was not changed, as far as is known.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It could not be read. Nothing was written.
    #[error(transparent)]
    Unread(#[from] cas::ReadError),
    /// The registry did not answer the write.
    #[error("it is not known whether it was written; ask again")]
    Unknown,
    /// Others have written each time. Nothing was written.
    #[error("others keep changing the same; ask again")]
    Contended,
}

impl Registry {
    /// Writes what `change` makes of the present value, or nothing if that is the same. `keep` is how long the
    /// registry keeps the new value; for ever if absent.
    pub(super) async fn change<T: Record + PartialEq, E: From<ChangeError>>(
        &self,
        key: cas::Key,
        keep: impl Fn(&T) -> Option<Duration>,
        mut change: impl FnMut(Option<&T>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut gone = ABSENT;
        for _ in 0..TRIES_MAX {
            let found = cas::read(&self.context, &key).await.map_err(ChangeError::from)?;
            let (known, revision) = found.unzip();
            let changed = change(known.as_ref())?;
            if known.as_ref() == Some(&changed) {
                return Ok(changed);
            }
            let expect = revision.unwrap_or(gone);
            match self.write(key.clone(), expect, &changed, keep(&changed)).await {
                CasAnswer::Written(_) => return Ok(changed),
                CasAnswer::Conflict(_) => {}
                // An operator has deleted the key by hand: the write must replace the tombstone.
                CasAnswer::Gone(mark) => gone = mark,
                CasAnswer::Unknown => return Err(ChangeError::Unknown.into()),
            }
        }
        Err(ChangeError::Contended.into())
    }
}
