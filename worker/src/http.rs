//! HTTP of a worker: metrics and health for programs. Only reads, and never shows a task, an input or a secret.

use crate::{clock, metrics::Metrics, readiness::Readiness};
use hyper::{Method, Request, StatusCode, body::Incoming};
use muster_wire::http::{
    HttpService, Watched,
    answer::{self, Answer},
};
use std::sync::Arc;

/// What is served.
pub(crate) struct WorkerService {
    pub metrics: Metrics,
    pub readiness: Readiness,
}

impl HttpService for WorkerService {
    async fn answer(self: &Arc<Self>, request: &Request<Incoming>, _: &Arc<Watched>) -> Answer {
        let now = clock::boottime();
        let WorkerService { metrics, readiness } = &**self;
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return answer::only_get();
        }
        match request.uri().path() {
            "/metrics" => answer::metrics(metrics.text(now)),
            "/healthz" if readiness.is_well(now) => answer::plain(StatusCode::OK, "it works\n"),
            "/healthz" => {
                let text = "the worker's loop does not pass\n";
                answer::plain(StatusCode::SERVICE_UNAVAILABLE, text)
            }
            "/readyz" => match readiness.refuses(now) {
                None => answer::plain(StatusCode::OK, "it takes tasks\n"),
                Some(lack) => {
                    let text = format!("{lack}\n");
                    answer::whole(StatusCode::SERVICE_UNAVAILABLE, answer::PLAIN, text)
                }
            },
            _ => answer::plain(
                StatusCode::NOT_FOUND,
                "a worker serves /metrics, /healthz and /readyz; a master has the page\n",
            ),
        }
    }
}
