//! A way to PostgreSQL that loses its connection at the worst moment: around COMMIT.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Where the next connection that commits is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cut {
    /// Nowhere.
    Never = 0,
    /// Before the server hears of it.
    BeforeCommit = 1,
    /// When the server has answered, before the client hears of it.
    BeforeTheAnswer = 2,
}

/// Passes connections on to a database.
pub struct Proxy {
    /// The database's URL through it.
    pub url: String,
    cut: Arc<AtomicU8>,
}

impl Proxy {
    /// One before the database at `url`, which names its host by address and port.
    pub async fn before(url: &str) -> Self {
        let target = address_in(url);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let cut = Arc::new(AtomicU8::new(Cut::Never as u8));
        let url = url.replacen(&target.to_string(), &address.to_string(), 1);
        tokio::spawn({
            let cut = cut.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let cut = cut.clone();
                    tokio::spawn(async move {
                        if let Ok(server) = TcpStream::connect(target).await {
                            // A connection that breaks is broken for both.
                            let _ = pass_on(client, server, &cut).await;
                        }
                    });
                }
            }
        });
        Self { url, cut }
    }

    /// Cuts once.
    pub fn cut_once(&self, cut: Cut) {
        self.cut.store(cut as u8, Ordering::SeqCst);
    }

    /// Whether it has cut since it was told to.
    pub fn has_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst) == Cut::Never as u8
    }
}

fn address_in(url: &str) -> SocketAddr {
    let (_, rest) = url.split_once('@').expect("a user in the URL");
    rest.split('/').next().and_then(|it| it.parse().ok()).expect("an address and a port")
}

async fn pass_on(
    mut client: TcpStream,
    mut server: TcpStream,
    cut: &AtomicU8,
) -> std::io::Result<()> {
    let (mut said, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut said) => {
                let said = &said[..read?];
                if said.is_empty() {
                    return Ok(());
                }
                let commits = said.windows(6).any(|it| it == b"COMMIT");
                let how = if commits { cut.swap(Cut::Never as u8, Ordering::SeqCst) } else { 0 };
                if how == Cut::BeforeCommit as u8 {
                    return Ok(());
                }
                server.write_all(said).await?;
                if how == Cut::BeforeTheAnswer as u8 {
                    // However much of it came: the client gets none.
                    let _answered = server.read(&mut answered).await?;
                    return Ok(());
                }
            }
            read = server.read(&mut answered) => {
                let answered = &answered[..read?];
                if answered.is_empty() {
                    return Ok(());
                }
                client.write_all(answered).await?;
            }
        }
    }
}
