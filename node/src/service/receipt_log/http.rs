//! The log and the witness over HTTP, for anybody and without keys: what is served is public, and what is taken is bounded and signed by a staked operator.
//!
//! ```text
//! GET  /checkpoint                      the newest head with its witnesses' signatures, never cached
//! GET  /tile/<L>/<N>[.p/<W>]            hashes; never change
//! GET  /tile/entries/<N>[.p/<W>]        entries; never change
//! POST /add-checkpoint                  a cosignature, or why not: 400, 403, 404, 409 with the size cosigned last, 413, 422
//! ```

use std::{sync::Arc, time::Duration};

use attribution::log::{
    tile::Resource,
    witness::{REQUEST_BYTES_MAX, Refusal},
};
use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderValue, Response, StatusCode, header},
    routing::{get, post},
};
use futures::StreamExt as _;
use tokio::{net::TcpListener, task::spawn_blocking, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use types::{amount::Amount, id::NodeId};

use super::{ReceiptLog, WitnessError, witnesses::Witnesses};
use crate::{
    api::server::{Manner, serve_routes},
    books::BooksError,
    chain::Snapshots,
    when::now,
};

/// Each answer is a few kilobytes and takes a few milliseconds of disk.
const MANNER: Manner = Manner {
    connections_max: 128,
    head_wait: Duration::from_secs(10),
    reader_wait: Duration::from_secs(10),
    stop_wait: Duration::from_secs(2),
};
/// How long a request's body may take.
const BODY_WAIT: Duration = Duration::from_secs(10);
const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";
/// Of a conflict's body.
const SIZE: &str = "text/x.tlog.size";
/// What never changes.
const FOREVER: &str = "public, max-age=31536000, immutable";

/// What requests are answered from.
#[derive(Debug, Clone)]
struct Served {
    log: Arc<ReceiptLog>,
    witnesses: Arc<Witnesses>,
    snapshots: Snapshots,
}

/// Serves until `stop`.
pub async fn serve(log: Arc<ReceiptLog>, witnesses: Witnesses, snapshots: Snapshots, listener: TcpListener, stop: CancellationToken) {
    let served = Served { log, witnesses: Arc::new(witnesses), snapshots };
    serve_routes(router(served), listener, MANNER, &TaskTracker::new(), stop).await;
}

fn router(served: Served) -> Router {
    Router::new()
        .route("/checkpoint", get(checkpoint))
        .route("/tile/{*path}", get(tile))
        .route("/add-checkpoint", post(add))
        .fallback(async || {
            say(StatusCode::NOT_FOUND, "there is no such path: GET /checkpoint, /tile/<L>/<N>, /tile/entries/<N>, POST /add-checkpoint\n")
        })
        .method_not_allowed_fallback(async || say(StatusCode::METHOD_NOT_ALLOWED, "this path is not used by this method\n"))
        .with_state(served)
}

async fn checkpoint(State(served): State<Served>) -> Response<Body> {
    let log = Arc::clone(&served.log);
    match blocking(move || log.checkpoint()).await {
        Ok(signed) => {
            let signed = served.witnesses.cosigned(&served.log, signed).await;
            respond(StatusCode::OK, TEXT, "no-cache", signed.note.to_string())
        }
        Err(error) => failed(&error),
    }
}

async fn tile(State(served): State<Served>, Path(path): Path<String>) -> Response<Body> {
    let none = || {
        say(
            StatusCode::NOT_FOUND,
            "no such tile: paths are /tile/<L>/<N> and /tile/entries/<N>, with .p/<W> at the right edge of the head last asked for\n",
        )
    };
    let Some(resource) = Resource::parse(&path) else { return none() };
    match blocking(move || served.log.resource(resource)).await {
        Ok(Some(bytes)) => respond(StatusCode::OK, BYTES, FOREVER, bytes),
        Ok(None) => none(),
        Err(error) => failed(&error),
    }
}

async fn add(State(served): State<Served>, request: Request) -> Response<Body> {
    let body = match timeout(BODY_WAIT, read(request.into_body())).await {
        Err(_) => return say(StatusCode::REQUEST_TIMEOUT, "the body did not come in time: send it at once\n"),
        Ok(Err(status)) => return say(status, "the body broke off, or is longer than any request\n"),
        Ok(Ok(body)) => body,
    };
    let cosigned = spawn_blocking(move || {
        let latest = Arc::clone(&served.snapshots.borrow().latest);
        let is_witnessed = |node: NodeId| latest.operator_of(node).is_some_and(|operator| operator.active > Amount::ZERO);
        served.log.cosign(&body, now(), is_witnessed)
    });
    match cosigned.await {
        Ok(Ok(line)) => respond(StatusCode::OK, TEXT, "no-store", line),
        Ok(Err(WitnessError::Refused(refusal))) => refused(&refusal),
        Ok(Err(WitnessError::Books(error))) => failed(&error),
        Err(_) => say(StatusCode::INTERNAL_SERVER_ERROR, "the node failed\n"),
    }
}

fn refused(refusal: &Refusal) -> Response<Body> {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    match refusal {
        Refusal::Conflict(size) => respond(status, SIZE, "no-store", format!("{size}\n")),
        refusal => respond(status, TEXT, "no-store", format!("{refusal}\n")),
    }
}

/// Reads a body up to the longest request.
async fn read(body: Body) -> Result<Vec<u8>, StatusCode> {
    let (mut all, mut stream) = (Vec::new(), body.into_data_stream());
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| StatusCode::BAD_REQUEST)?;
        if all.len() + chunk.len() > REQUEST_BYTES_MAX {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

/// The books wait for the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, BooksError> + Send + 'static) -> anyhow::Result<T> {
    Ok(spawn_blocking(work).await??)
}

fn failed(error: &dyn std::fmt::Display) -> Response<Body> {
    tracing::warn!(%error, "the receipt log was not read");
    say(StatusCode::INTERNAL_SERVER_ERROR, "the log cannot be read: the node's own log says why\n")
}

fn say(status: StatusCode, text: &'static str) -> Response<Body> {
    respond(status, TEXT, "no-store", text)
}

fn respond(status: StatusCode, media: &'static str, cache: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
