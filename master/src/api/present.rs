//! The API of the present session, for those who do not ask over NATS. Never answers what the API would not answer there.

use super::{ApiRefusal, ApiResult, ApiServer};
use bytes::Bytes;
use muster_protocol::api::{Caller, Endpoint, ErrorCode, Request};
use std::sync::{Arc, Mutex, MutexGuard};

/// See the [module](self). Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Present(Arc<Mutex<Option<Arc<ApiServer>>>>);

impl Present {
    /// A session begins to answer.
    pub(super) fn begin(&self, server: Arc<ApiServer>) {
        *self.server() = Some(server);
    }

    /// Answers a request to this fleet, and notes what was decided.
    pub(crate) async fn ask(
        &self,
        endpoint: Endpoint,
        request: Request,
        caller: &Caller,
    ) -> ApiResult<Bytes> {
        let server = self.server().clone();
        let Some(server) = server.filter(|server| server.registry.is_connected()) else {
            let sentence = "the master does not reach the registry";
            return Err(ApiRefusal::new(ErrorCode::Unavailable, sentence));
        };
        let names = server.names.clone();
        server.ask(&names, endpoint, request, caller).await
    }

    fn server(&self) -> MutexGuard<'_, Option<Arc<ApiServer>>> {
        self.0.lock().expect("no holder of this lock panics")
    }
}
