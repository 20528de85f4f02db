//! Objects in pieces and streams in pages, for clients that have no access to the registry. Never stores an
//! object whose bytes do not have its digest, and holds few whole objects at a time.

use super::{ApiRefusal, ApiResult, ApiServer};
use crate::registry::{ObjectError, PageError};
use muster_protocol::{
    api::{
        ErrorCode, FindObject, FoundObject, GetPiece, Page, PageStart, Piece, PieceStored,
        PutPiece, ReadLogs,
    },
    role::{Rights, Role},
    subject::Names,
};
use muster_wire::objects::ReadError;

impl From<ObjectError> for ApiRefusal {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::Unavailable(_) | ObjectError::NotNamed(_) => {
                ApiRefusal::unavailable(error)
            }
            // To ask again at once does not help.
            ObjectError::Corrupt(_) | ObjectError::Full | ObjectError::OfWorker => {
                ApiRefusal::bad(error.to_string())
            }
        }
    }
}

impl From<PageError> for ApiRefusal {
    fn from(error: PageError) -> Self {
        match error {
            PageError::Unavailable(_) => ApiRefusal::unavailable(error),
            PageError::Missing(_) => ApiRefusal::new(ErrorCode::NotFound, error.to_string()),
        }
    }
}

impl ApiServer {
    pub(super) async fn find(&self, asked: FindObject) -> ApiResult<FoundObject> {
        let size = self.registry.find(asked.store, asked.digest).await?;
        Ok(FoundObject { size })
    }

    pub(super) async fn put(&self, asked: PutPiece) -> ApiResult<PieceStored> {
        let PutPiece { store, digest, upload, after, whole, .. } = asked;
        let has_bytes = !asked.bytes.is_empty();
        let at = if has_bytes { self.registry.put_piece(asked).await? } else { after };
        if let Some(size) = whole {
            let _place = self.whole_object().await?;
            self.registry.end_upload(store, digest, upload, size).await?;
        }
        Ok(PieceStored { at })
    }

    pub(super) async fn fetch(&self, asked: GetPiece) -> ApiResult<Piece> {
        let (store, digest) = (asked.store, asked.digest);
        match self.registry.piece(&asked).await {
            Ok(Some(piece)) => Ok(piece),
            Ok(None) => {
                let sentence = format!("{digest} is not stored in {store:?}");
                Err(ApiRefusal::new(ErrorCode::NotFound, sentence))
            }
            Err(ReadError::Unavailable(error)) => Err(ApiRefusal::unavailable(error)),
            Err(error) => Err(ApiRefusal::new(ErrorCode::Conflict, error.to_string())),
        }
    }

    /// Reads events of this fleet, as far as the user may see them, or of a site.
    pub(super) async fn read_events(
        &self,
        names: &Names,
        from: PageStart,
        rights: &Rights,
    ) -> ApiResult<Page> {
        if names.fleet() != self.names.fleet() {
            rights.demand_everywhere(Role::Read)?;
        }
        let mut page = self.registry.page(&names.event_stream(), names.events(), from).await?;
        page.messages.retain(|message| {
            let group = Names::group_of_event(&message.subject);
            group.is_none_or(|group| rights.has(Role::Read, group))
        });
        Ok(page)
    }

    /// Reads the logs of a task whose group the user may see.
    pub(super) async fn read_logs(&self, asked: ReadLogs, rights: &Rights) -> ApiResult<Page> {
        if rights.demand_everywhere(Role::Read).is_err() {
            match self.record(asked.task).await? {
                Some(record) => rights.demand(Role::Read, record.spec.group.as_str())?,
                None => rights.demand_everywhere(Role::Read)?,
            }
        }
        let (names, from) = (&self.names, asked.from);
        Ok(self.registry.page(&names.log_stream(), names.logs(asked.task), from).await?)
    }

    /// Reads the audit.
    pub(super) async fn read_audit(&self, from: PageStart) -> ApiResult<Page> {
        Ok(self.registry.page(&self.names.audit_stream(), self.names.audit(), from).await?)
    }
}
