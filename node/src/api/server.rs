//! Connections: so many at once, each with a time for its heads, until the gateway is told to stop. One that asks nothing gives way where there is no
//! room (`Silent`).

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    http::Response,
    middleware::{Next, from_fn_with_state},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Bounds, Gateway,
    patient::Patient,
    silent::{Silent, Spoken, Voice},
    source::Answers,
};

/// What the kernel keeps for a reader that lags behind. It doubles what it is told.
const SEND_BUFFER_BYTES: u32 = 32 << 10;
/// What a connection's own buffers may hold: more than the longest head.
const BUFFER_BYTES: usize = 64 << 10;
/// Headers of a request: OpenAI's client sends 20.
const HEADERS_MAX: usize = 64;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;
/// After a failed accept (no file descriptor left): the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a new connection waits for a place before the silent ones are looked through again.
const PLACE_LOOK: Duration = Duration::from_millis(100);

/// A listening socket whose connections keep little for slow readers.
///
/// # Errors
/// If the address cannot be bound.
pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// What bounds connections, whatever they ask for.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Connections at once; more wait to be accepted.
    pub connections_max: usize,
    /// How long a request's head may take, and how long a connection may stay open without a request.
    pub head_wait: Duration,
    /// How long a reader may take nothing of what is said to it.
    pub reader_wait: Duration,
    /// How long answers under way may still take at a stop.
    pub stop_wait: Duration,
}

/// Serves until `stop`; then no connection is accepted, answers under way may end within [`super::Bounds::stop_wait`], and the rest is dropped.
pub async fn serve<S: Answers>(gateway: Arc<Gateway<S>>, listener: TcpListener, stop: CancellationToken) {
    let Bounds { connections_max, head_wait, reader_wait, stop_wait, .. } = gateway.bounds;
    serve_routes(gateway.router(), listener, Manner { connections_max, head_wait, reader_wait, stop_wait }, &gateway.tasks, stop).await;
}

/// Serves any routes so; `tasks` are what answers under way have beside their connections.
pub async fn serve_routes(router: axum::Router, listener: TcpListener, manner: Manner, tasks: &TaskTracker, stop: CancellationToken) {
    let (places, connections, cut) = (Arc::new(Semaphore::new(manner.connections_max)), TaskTracker::new(), CancellationToken::new());
    let silent = Arc::new(Silent::default());
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places, &silent) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let (stop, cut) = (stop.clone(), cut.child_token());
                let voice = silent.voice(cut.clone());
                let service = TowerToHyperService::new(router.clone().layer(from_fn_with_state(voice, heard)));
                connections.spawn(async move {
                    tokio::select! {
                        () = connection(stream, service, manner, stop) => {}
                        () = cut.cancelled() => {}
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    tasks.close();
    let ended = async { tokio::join!(connections.wait(), tasks.wait()) };
    if timeout(manner.stop_wait, ended).await.is_err() {
        tracing::warn!("answers that had not ended in time are cut off");
        cut.cancel();
        connections.wait().await;
        tasks.wait().await;
    }
}

/// The next connection, with a place that is free or that a silent one leaves to it; while all have something under way, it waits.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>, silent: &Silent) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let (stream, _) = listener.accept().await?;
    let place = loop {
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            break place;
        }
        silent.let_go();
        // Where none was silent, one may be in a moment.
        if let Ok(freed) = timeout(PLACE_LOOK, Arc::clone(places).acquire_owned()).await {
            break freed.map_err(io::Error::other)?;
        }
    };
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

/// Notes that the connection asks something, until its answer is sent.
async fn heard(State(voice): State<Arc<Voice>>, request: Request, next: Next) -> Response<Body> {
    let asking = voice.asks();
    next.run(request).await.map(|body| Body::new(Spoken::new(body, asking)))
}

async fn connection(stream: TcpStream, service: TowerToHyperService<axum::Router>, manner: Manner, stop: CancellationToken) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(manner.head_wait).max_buf_size(BUFFER_BYTES).max_headers(HEADERS_MAX);
    let stream = Patient::new(stream, manner.reader_wait);
    let mut served = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
