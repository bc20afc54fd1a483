//! Listening: HTTP or HTTPS, bounds on connections, and an end that lets requests finish.

use axum::Router;
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::future::{Ready, ready};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{Config, Tls};

/// How long requests may take to finish once the server is told to stop.
pub const DRAIN: Duration = Duration::from_secs(10);
/// How long a new connection may take to send its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// How long a connection may idle, or take to send a request's head.
const HEAD: Duration = Duration::from_secs(75);
/// Most connections at once.
const CONNECTIONS: usize = 8192;
/// Most requests at once of one HTTP/2 connection.
const STREAMS: u32 = 128;

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address can't be had.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The certificate or its key.
    #[error("can't serve HTTPS with {} and {}: {source}", tls.cert.display(), tls.key.display())]
    Tls {
        /// The files.
        tls: Tls,
        /// Why.
        source: io::Error,
    },
    /// Something else.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Serves `app` until `stop`, then until its requests are finished, at most for [`DRAIN`]. Tells
/// `listening` the scheme and the address as soon as connections are taken.
pub async fn run(
    config: &Config,
    app: Router,
    listening: impl FnOnce(&str, SocketAddr),
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    raise_file_limit();
    let refused = |source| ServeError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).map_err(refused)?;
    let address = listener.local_addr()?;
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let bound = Bound { places: Arc::new(Semaphore::new(CONNECTIONS)) };

    let handle = Handle::new();
    let stopping = handle.clone();
    let stopper = tokio::spawn(async move {
        stop.await;
        stopping.graceful_shutdown(Some(DRAIN));
    });

    let served = match &config.tls {
        None => {
            let server = axum_server::from_tcp(listener)?.acceptor(bound);
            listening("http", address);
            bounded(server, handle).serve(app).await
        }
        Some(tls) => {
            let failed = |source| ServeError::Tls { tls: tls.clone(), source };
            let rustls = RustlsConfig::from_pem_file(&tls.cert, &tls.key).await.map_err(failed)?;
            let reloading = tokio::spawn(reload_on_hangup(rustls.clone(), tls.clone()));
            let acceptor = RustlsAcceptor::new(rustls).acceptor(bound);
            let server = axum_server::from_tcp(listener)?.acceptor(acceptor);
            listening("https", address);
            let served = bounded(server, handle).serve(app).await;
            reloading.abort();
            served
        }
    };
    stopper.abort();
    Ok(served?)
}

/// With the bounds on what a connection may take.
fn bounded<A>(
    mut server: Server<SocketAddr, A>,
    handle: Handle<SocketAddr>,
) -> Server<SocketAddr, A> {
    server.http_builder().http1().header_read_timeout(HEAD);
    server
        .http_builder()
        .http2()
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(HEAD)
        .keep_alive_timeout(FIRST_REQUEST);
    server
        .first_request_timeout(FIRST_REQUEST)
        .accept_error_handler(|peer, error| {
            tracing::debug!(?peer, %error, "a connection was not accepted");
        })
        .handle(handle)
}

/// Tells the address on standard output: scripts and tests read this line.
pub fn announce(scheme: &str, address: SocketAddr) {
    let mut stdout = io::stdout();
    // Nobody may be listening to standard output.
    let _ = writeln!(stdout, "GateKey listens on {scheme}://{address}");
    let _ = stdout.flush();
    tracing::info!(%address, scheme, "listening");
}

/// Listens from now on for being told to stop (SIGTERM, SIGINT); the future ends when it is.
pub fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Reads the certificate and key again at every SIGHUP; what can't be used is not taken.
async fn reload_on_hangup(rustls: RustlsConfig, tls: Tls) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            tracing::warn!(%error, "the certificate is not read again on SIGHUP");
            return;
        }
    };
    while hangup.recv().await.is_some() {
        match rustls.reload_from_pem_file(&tls.cert, &tls.key).await {
            Ok(()) => tracing::info!("the certificate was read again"),
            Err(error) => tracing::error!(%error, "the certificate could not be read again"),
        }
    }
}

/// Every connection takes a file; the usual soft limit of 1,024 is for programs that use select.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit on open files stays as it is");
    }
}

/// Takes a place for every connection, and turns away what finds none.
#[derive(Clone)]
struct Bound {
    places: Arc<Semaphore>,
}

impl<S> Accept<TcpStream, S> for Bound {
    type Stream = Placed;
    type Service = S;
    type Future = Ready<io::Result<(Placed, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        ready(match self.places.clone().try_acquire_owned() {
            // Answers are small: waiting to fill a packet would only delay them.
            Ok(place) => {
                stream.set_nodelay(true).map(|()| (Placed { stream, _place: place }, service))
            }
            Err(_) => Err(io::Error::other("too many connections")),
        })
    }
}

/// A connection and the place that it takes.
struct Placed {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Options;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::{Notify, oneshot};
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    const BOUND: Duration = Duration::from_secs(8);

    struct Running {
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        server: JoinHandle<Result<(), ServeError>>,
    }

    async fn start(app: Router) -> Running {
        let options = Options::from_toml("listen = '127.0.0.1:0'").unwrap();
        let config = Config::complete(options).unwrap();
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        let server = tokio::spawn(async move {
            let listening = |_: &str, address| tell.send(address).unwrap();
            run(&config, app, listening, async { stopped.await.unwrap() }).await
        });
        Running { address: told.await.unwrap(), stop, server }
    }

    async fn ask(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        stream
    }

    async fn answer(stream: &mut TcpStream) -> String {
        let mut buffer = vec![0; 4096];
        let length = timeout(BOUND, stream.read(&mut buffer)).await.unwrap().unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[tokio::test]
    async fn a_request_under_way_is_finished_and_an_idle_connection_holds_nothing_up() {
        let (begun, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (has_begun, may_finish) = (begun.clone(), finish.clone());
        let app = Router::new().route(
            "/",
            get(move || async move {
                has_begun.notify_one();
                may_finish.notified().await;
                "done"
            }),
        );
        let running = start(app).await;
        let idle = TcpStream::connect(running.address).await.unwrap();
        let mut stream = ask(running.address).await;
        timeout(BOUND, begun.notified()).await.unwrap();
        running.stop.send(()).unwrap();
        finish.notify_one();
        let answered = answer(&mut stream).await;
        assert!(answered.starts_with("HTTP/1.1 200") && answered.ends_with("done"), "{answered}");
        timeout(BOUND, running.server).await.unwrap().unwrap().unwrap();
        assert!(TcpStream::connect(running.address).await.is_err());
        drop(idle);
    }

    #[tokio::test]
    async fn handlers_know_the_peer() {
        let app = Router::new().route(
            "/",
            get(
                |info: axum::extract::ConnectInfo<SocketAddr>| async move { info.ip().to_string() },
            ),
        );
        let running = start(app).await;
        let answered = answer(&mut ask(running.address).await).await;
        assert!(answered.ends_with("127.0.0.1"), "{answered}");
        running.stop.send(()).unwrap();
        timeout(BOUND, running.server).await.unwrap().unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_address_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let toml = format!("listen = '{address}'");
        let config = Config::complete(Options::from_toml(&toml).unwrap()).unwrap();
        let stop = std::future::pending();
        let error = run(&config, Router::new(), |_, _| (), stop).await.unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[tokio::test]
    async fn a_place_is_given_back_when_its_connection_ends() {
        let bound = Bound { places: Arc::new(Semaphore::new(1)) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (first, _) = listener.accept().await.unwrap();
        let _other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (second, _) = listener.accept().await.unwrap();
        let (placed, ()) = bound.accept(first, ()).await.unwrap();
        assert!(bound.accept(second, ()).await.is_err());
        drop(placed);
        assert_eq!(bound.places.available_permits(), 1);
    }
}
