//! How the node is, over HTTP on this machine alone, for what watches over it.
//!
//! ```text
//! GET /metrics    counters and gauges in OpenMetrics' form (`crate::metrics`)
//! GET /healthz    200 while the process answers
//! GET /readyz     200 if it should be sent questions now, else 503 and why, a line each
//! ```
//!
//! Without keys: what is told names nobody and moves nothing. The address is a loopback one (`Config::validate`), and a request whose Host header is neither an address nor
//! `localhost` is refused, so that a page somebody opens in a browser here cannot read it under a name of its own. One reading costs a few milliseconds: books' counts, the
//! overlay's and the engine's word, one read of /proc.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
    middleware::{self, Next},
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::front::{Front, resident_bytes};
use crate::{
    api::{
        is_own_page, is_this_machine,
        server::{Manner, serve_routes},
    },
    metrics::{EngineFacts, Facts, MEDIA_TYPE},
};

const MANNER: Manner = Manner {
    connections_max: 16,
    head_wait: Duration::from_secs(10),
    reader_wait: Duration::from_secs(10),
    stop_wait: Duration::from_secs(1),
};
const TEXT: &str = "text/plain; charset=utf-8";

/// Serves until `stop`.
pub(super) async fn serve(front: Arc<Front>, listener: TcpListener, stop: CancellationToken) {
    serve_routes(router(front), listener, MANNER, &TaskTracker::new(), stop).await;
}

fn router(front: Arc<Front>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || say(StatusCode::OK, TEXT, "ok\n")))
        .route("/readyz", get(ready))
        .fallback(async || say(StatusCode::NOT_FOUND, TEXT, "there is no such path: GET /metrics, /healthz, /readyz\n"))
        .method_not_allowed_fallback(async || say(StatusCode::METHOD_NOT_ALLOWED, TEXT, "this path is not used by this method\n"))
        .layer(middleware::from_fn(guard))
        .with_state(front)
}

async fn guard(request: Request, next: Next) -> Response<Body> {
    match strange(request.headers()) {
        Some(why) => say(StatusCode::FORBIDDEN, TEXT, why),
        None => next.run(request).await,
    }
}

/// Why a request with these headers is not this machine's own, if it is not.
fn strange(headers: &HeaderMap) -> Option<&'static str> {
    let said = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let (host, origin) = (said(header::HOST), said(header::ORIGIN));
    if !host.is_some_and(|host| is_this_machine(host, &[])) {
        return Some("the Host header names another machine: use the address that the node printed\n");
    }
    origin.filter(|origin| !is_own_page(origin, host, &[])).map(|_| "the page of another machine asks (Origin)\n")
}

async fn metrics(State(front): State<Arc<Front>>) -> Response<Body> {
    match facts(&front).await {
        Ok(facts) => say(StatusCode::OK, MEDIA_TYPE, front.metrics.render(&facts)),
        Err(error) => failed(&error),
    }
}

async fn ready(State(front): State<Arc<Front>>) -> Response<Body> {
    match facts(&front).await.map(|facts| facts.unready()) {
        Ok(why) if why.is_empty() => say(StatusCode::OK, TEXT, "ready\n"),
        Ok(why) => say(StatusCode::SERVICE_UNAVAILABLE, TEXT, why.join("\n") + "\n"),
        Err(error) => failed(&error),
    }
}

async fn facts(front: &Front) -> anyhow::Result<Facts> {
    let (receipts, posted) = front.books.counts()?;
    let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
    let engine = match &front.answering {
        None => None,
        Some(answering) => {
            let stats = answering.engine.stats().await?;
            Some(EngineFacts {
                pages: count(stats.pages),
                pages_free: count(stats.pages_available),
                running: count(stats.running),
                waiting: count(stats.waiting),
                adapters: count(stats.adapters),
                preempted: stats.preempted,
            })
        }
    };
    let snapshot = Arc::clone(&front.settling.snapshots.borrow());
    let blocks = snapshot.heads.map_or((0, 0, 0), |heads| (heads.latest.number, heads.safe.number, heads.finalized.number));
    let block_age = snapshot.heads.map(|heads| {
        let made = SystemTime::UNIX_EPOCH + Duration::from_secs(heads.timestamp);
        SystemTime::now().duration_since(made).unwrap_or_default()
    });
    // Nothing is borrowed while others are asked.
    let running = u64::from(*front.running.borrow());
    Ok(Facts {
        uptime: front.started.elapsed(),
        memory_bytes: resident_bytes()?,
        peers: count(front.overlay.peers().await?.len()),
        providers: count(front.overlay.ads().await?.len()),
        running,
        manifests: count(front.offers.read().await.len()),
        waiting: front.why_waiting(),
        receipts,
        receipts_unposted: receipts.saturating_sub(posted),
        is_halted: snapshot.is_halted,
        is_leaving: front.is_leaving.load(Ordering::Relaxed),
        blocks,
        block_age,
        store_free_bytes: front.keeping.store.free_bytes()?,
        engine,
    })
}

fn failed(error: &anyhow::Error) -> Response<Body> {
    tracing::warn!(error = format!("{error:#}"), "how this node is was asked and not known");
    say(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the node could not read its own state: see its log\n")
}

fn say(status: StatusCode, media: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
