//! Connections of the HTTP API: how long a client may keep one waiting for a request, and how they end with the server.
//!
//! A connection is busy from the end of a request's head until all of the answer is with the kernel. When the server leaves,
//! one that is not busy ends at once, whatever part of a head it has; a busy one ends with its answer.

use std::{
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body};
use bytes::Bytes;
use hyper::{
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long no connections are taken after one could not be. Most often there are no descriptors left, and those of
/// connections that end meanwhile come free.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The server's side of all connections.
pub(super) struct Connections {
    router: Router,
    head_limit: Duration,
    leaving: CancellationToken,
    tasks: TaskTracker,
    busy: Arc<AtomicUsize>,
}

impl Connections {
    /// Connections that this router answers. One on which no head of a request is complete within `head_limit`, counted from
    /// its beginning or from the answer before, is closed.
    pub(super) fn new(router: Router, head_limit: Duration, leaving: CancellationToken) -> Connections {
        Connections { router, head_limit, leaving, tasks: TaskTracker::new(), busy: Arc::default() }
    }

    /// Takes connections for ever.
    ///
    /// # Cancel safety
    /// Those that were taken go on when the future is dropped, and no more are.
    pub(super) async fn accept_all(&self, listener: TcpListener) {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
        loop {
            match listener.accept().await {
                Ok((stream, _)) => self.serve(stream),
                // The client has gone away before it was its turn.
                Err(error)
                    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) => {}
                Err(error) => {
                    tracing::error!("cannot take a connection: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// How many connections are busy with a request.
    pub(super) fn busy(&self) -> usize {
        self.busy.load(Ordering::Relaxed)
    }

    /// Waits until all connections have ended, at most so long, and returns how many are still busy then. Called when the
    /// server leaves.
    pub(super) async fn farewell(&self, limit: Duration) -> usize {
        self.tasks.close();
        match timeout(limit, self.tasks.wait()).await {
            Ok(()) => 0,
            Err(_) => self.busy(),
        }
    }

    fn serve(&self, stream: TcpStream) {
        let connection = Arc::new(Connection { work: AtomicUsize::new(0), busy: Arc::clone(&self.busy) });
        let stream = Noted { stream, connection: Arc::clone(&connection), unsent: None };
        let router = TowerToHyperService::new(self.router.clone());
        let requests = Arc::clone(&connection);
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let work = Work::begin(&requests);
            let response = router.call(request);
            async move {
                let answered = response.await;
                answered.map(|response| response.map(|body| Answer { body, _work: work }))
            }
        });
        let (leaving, head_limit) = (self.leaving.clone(), self.head_limit);
        self.tasks.spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(head_limit);
            let mut serving = pin!(http.serve_connection(TokioIo::new(stream), service));
            let served = tokio::select! {
                served = &mut serving => served,
                () = leaving.cancelled() => {
                    if connection.is_idle() {
                        return;
                    }
                    serving.as_mut().graceful_shutdown();
                    serving.await
                }
            };
            if let Err(error) = served {
                // A client that goes away, or sends no request, is no fault of ours.
                tracing::debug!("connection: {error}");
            }
        });
    }
}

/// What a connection has to do. Its parts all run in its one task, so the order of the two counters does not matter.
struct Connection {
    work: AtomicUsize,
    /// How many connections have any work.
    busy: Arc<AtomicUsize>,
}

impl Connection {
    fn is_idle(&self) -> bool {
        self.work.load(Ordering::Relaxed) == 0
    }
}

/// A piece of a connection's work, until it is dropped.
struct Work(Arc<Connection>);

impl Work {
    fn begin(connection: &Arc<Connection>) -> Work {
        if connection.work.fetch_add(1, Ordering::Relaxed) == 0 {
            connection.busy.fetch_add(1, Ordering::Relaxed);
        }
        Work(Arc::clone(connection))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.0.work.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.busy.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The body of an answer, which is work until hyper has taken all of it.
struct Answer {
    body: Body,
    _work: Work,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(ctx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that knows whether something waits to be sent: hyper has taken an answer long before a slow client has.
struct Noted {
    stream: TcpStream,
    connection: Arc<Connection>,
    unsent: Option<Work>,
}

impl Noted {
    fn note<T>(&mut self, written: Poll<T>) -> Poll<T> {
        if written.is_ready() {
            self.unsent = None;
        } else if self.unsent.is_none() {
            self.unsent = Some(Work::begin(&self.connection));
        }
        written
    }
}

impl AsyncRead for Noted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(ctx, buffer)
    }
}

impl AsyncWrite for Noted {
    fn poll_write(mut self: Pin<&mut Self>, ctx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(ctx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(ctx, parts);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(ctx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(ctx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        sync::Semaphore,
        task::JoinHandle,
    };

    use super::*;

    /// Reached only when something hangs.
    const LONG: Duration = Duration::from_secs(60);
    /// More than the buffers of both sides of a connection hold.
    const LARGE: usize = 32 << 20;

    struct Server {
        connections: Arc<Connections>,
        address: SocketAddr,
        accepting: JoinHandle<()>,
        /// What `/slow` waits for.
        go: Arc<Semaphore>,
    }

    async fn server(head_limit: Duration) -> Server {
        let go = Arc::new(Semaphore::new(0));
        let slow = Arc::clone(&go);
        let router = Router::new()
            .route("/quick", get(|| async { "quick" }))
            .route("/large", get(|| async { vec![7_u8; LARGE] }))
            .route(
                "/slow",
                get(move || async move {
                    slow.acquire().await.unwrap().forget();
                    "slow"
                }),
            );
        let connections = Arc::new(Connections::new(router, head_limit, CancellationToken::new()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = Arc::clone(&connections);
        let accepting = tokio::spawn(async move { accepting.accept_all(listener).await });
        Server { connections, address, accepting, go }
    }

    impl Server {
        async fn send(&self, text: &str) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            stream
        }

        /// Returns when so many connections were taken and so many of them are busy.
        async fn until(&self, taken: usize, busy: usize) {
            let reached = async {
                while (self.connections.tasks.len(), self.connections.busy()) != (taken, busy) {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(LONG, reached).await.expect("they are not taken up");
        }
    }

    async fn rest(stream: &mut TcpStream) -> Vec<u8> {
        let mut rest = Vec::new();
        let read = timeout(LONG, stream.read_to_end(&mut rest)).await;
        // What was not yet read when a connection is closed is answered with a reset.
        let _ = read.expect("the connection stays open");
        rest
    }

    #[tokio::test]
    async fn a_connection_without_a_whole_head_is_closed_at_the_limit() {
        let server = server(Duration::from_millis(500)).await;
        for head in ["", "GET /quick HT", "GET /quick HTTP/1.1\r\nHost: x\r\n"] {
            assert_eq!(rest(&mut server.send(head).await).await, b"", "{head:?}");
        }
        // One that was answered gets the same time for its next request. An answer may take longer.
        let mut kept = server.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
        server.until(1, 1).await;
        sleep(Duration::from_millis(900)).await;
        server.go.add_permits(1);
        let answer = rest(&mut kept).await;
        assert!(answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(b"slow"), "{answer:?}");
    }

    #[tokio::test]
    async fn only_requests_in_progress_are_waited_for() {
        let server = server(LONG).await;
        let mut idle = vec![server.send("").await, server.send("GET /quick HTTP/1.1\r\nHo").await];
        let mut kept = server.send("GET /quick HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let mut first = [0; 12];
        kept.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        idle.push(kept);
        let mut slow = server.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
        server.until(4, 1).await;
        server.connections.leaving.cancel();
        server.accepting.abort();
        for mut stream in idle {
            rest(&mut stream).await;
        }
        server.until(1, 1).await;
        assert_eq!(server.connections.farewell(Duration::from_millis(50)).await, 1);
        server.go.add_permits(1);
        assert_eq!(server.connections.farewell(LONG).await, 0);
        let answer = rest(&mut slow).await;
        assert!(answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(b"slow"), "{answer:?}");
    }

    #[tokio::test]
    async fn an_answer_that_is_still_to_be_sent_is_work() {
        let server = server(LONG).await;
        let mut large = server.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await;
        server.until(1, 1).await;
        server.connections.leaving.cancel();
        assert_eq!(server.connections.farewell(Duration::from_millis(50)).await, 1);
        let answer = rest(&mut large).await;
        assert!(answer.len() > LARGE && answer.ends_with(&[7; 100]), "{} bytes", answer.len());
        assert_eq!(server.connections.farewell(LONG).await, 0);
        server.accepting.abort();
    }
}
