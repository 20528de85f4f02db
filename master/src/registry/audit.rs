//! The audit in the registry. Never writes an entry that does not follow the newest one.

use super::Registry;
use async_nats::{HeaderMap, jetstream::stream::LastRawMessageErrorKind};
use muster_protocol::{
    Revision,
    audit::{Entry, Place},
    lease::CasAnswer,
    record,
};
use muster_wire::{
    cas::{self, ReadError},
    tls,
};

/// The newest entry of the audit, and what the next one needs of it.
pub(crate) struct Newest {
    pub entry: Entry,
    pub place: Place,
    pub revision: Revision,
}

impl Registry {
    /// Reads the newest entry of the audit from the stream's leader.
    pub(crate) async fn newest_of_audit(&self) -> Result<Option<Newest>, ReadError> {
        let unavailable = |error: String| ReadError::Unavailable(error);
        let stream = self.context.get_stream_no_info(self.names.audit_stream()).await;
        let stream = stream.map_err(|error| unavailable(error.to_string()))?;
        let subject = self.names.audit();
        let found = match stream.get_last_raw_message_by_subject(&subject).await {
            Ok(found) => found,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                return Ok(None);
            }
            Err(error) => return Err(unavailable(error.to_string())),
        };
        let entry: Entry = record::read(&found.payload)
            .map_err(|cause| ReadError::Malformed { subject, cause })?;
        let place = Place { number: entry.number, digest: tls::fingerprint(&found.payload) };
        Ok(Some(Newest { entry, place, revision: found.sequence }))
    }

    /// Writes an entry after the one with this revision, or as the first one after revision 0. Returns its place
    /// and its revision; `None` if another entry is there by now, or if that is not known.
    pub(crate) async fn write_audit(
        &self,
        after: Revision,
        entry: &Entry,
    ) -> Option<(Place, Revision)> {
        let value = record::write(entry).ok()?;
        let place = Place { number: entry.number, digest: tls::fingerprint(&value) };
        let key = cas::Key { stream: self.names.audit_stream(), subject: self.names.audit() };
        let sent = cas::send(&self.context, key, after, value.into(), None, HeaderMap::new()).await;
        match sent.answer::<Entry>(&self.context).await {
            CasAnswer::Written(revision) => Some((place, revision)),
            CasAnswer::Conflict(_) | CasAnswer::Gone(_) | CasAnswer::Unknown => None,
        }
    }
}
