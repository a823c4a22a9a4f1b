//! A proxy before the server that loses answers: it lets a question through, waits until the
//! server has answered, and then closes the connection instead of handing the answer on.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Stops taking connections when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    /// How many more answers pass before one is lost; below zero none is.
    left: Arc<AtomicI64>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn before(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let left = Arc::new(AtomicI64::new(-1));
        let task = {
            let left = left.clone();
            tokio::spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    let left = left.clone();
                    tokio::spawn(async move {
                        let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                        forward(client, server, &left).await;
                    });
                }
            })
        };
        Self {
            address,
            left,
            task,
        }
    }

    /// The address of a database as seen through the proxy.
    pub(crate) fn through(&self, address: &str, port: u16) -> String {
        address.replace(&port.to_string(), &self.address.port().to_string())
    }

    /// Loses one answer, after so many others.
    pub(crate) fn lose_after(&self, answers: i64) {
        self.left.store(answers, Ordering::SeqCst);
    }

    /// Whether the answer was lost.
    pub(crate) fn has_lost(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Hands bytes on until either side ends, or an answer is to be lost. An answer is what the server
/// writes up to the moment it waits for the next question.
async fn forward(mut client: TcpStream, mut server: TcpStream, left: &AtomicI64) {
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => match read {
                Ok(count @ 1..) => server.write_all(&asked[..count]).await.unwrap(),
                _ => return,
            },
            read = server.read(&mut answered) => match read {
                Ok(count @ 1..) => {
                    // `ReadyForQuery`: the transaction is over, its outcome certain.
                    let is_whole = answered[..count].ends_with(b"Z\0\0\0\x05I");
                    if is_whole && left.fetch_sub(1, Ordering::SeqCst) == 0 {
                        return;
                    }
                    if client.write_all(&answered[..count]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
        }
    }
}
