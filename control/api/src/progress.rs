//! What tasks tell of their progress, for those who watch.

use actix_web::{HttpResponse, web};
use farshore_runtime::handle::ControlHandle;
use farshore_schemas::envelope::Wire;

/// Progress of tasks as lines of JSON, as long as the client listens. Lossy, for eyes only.
pub(crate) fn lines(control: &ControlHandle) -> HttpResponse {
    let listening = control.progress();
    let lines = futures_util::stream::unfold(listening, |mut listening| async move {
        loop {
            match listening.recv().await {
                Ok(Wire::Progress { task, done, total, note }) => {
                    let line = serde_json::json!({ "task": task.to_string(), "owner": task.owner.to_string(), "done": done, "total": total, "note": note });
                    return Some((Ok::<_, actix_web::Error>(web::Bytes::from(format!("{line}\n"))), listening));
                }
                Ok(Wire::Deliver(_) | Wire::Ack { .. } | Wire::Probe { .. } | Wire::Fork { .. }) => {}
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return None,
            }
        }
    });
    HttpResponse::Ok().content_type("application/x-ndjson").streaming(lines)
}
