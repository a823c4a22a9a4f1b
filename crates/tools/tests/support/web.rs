//! A web of one server at 127.0.0.2, which stands for a public address. Everything else of
//! 127/8 is what must not be reached.
#![expect(
    dead_code,
    clippy::expect_used,
    reason = "each test file uses some of it; a test fails by panicking"
)]

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use lyceum_tools::{Resolver, WebRules};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// What stands for a public address.
pub(crate) const PUBLIC: &str = "127.0.0.2";

/// What a path answers.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn html(body: impl Into<Vec<u8>>) -> Self {
        Self::of("text/html; charset=utf-8", body)
    }

    pub(crate) fn json(body: impl Into<Vec<u8>>) -> Self {
        Self::of("application/json", body)
    }

    pub(crate) fn of(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body: body.into(),
        }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self::status(302).with("location", to)
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A server that keeps what it was asked.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Site {
    /// Serves these paths, queries aside; others are 404.
    pub(crate) async fn serve(address: &str, pages: Vec<(&str, Reply)>) -> Self {
        let listener = TcpListener::bind((address, 0)).await.expect("an address");
        let port = listener.local_addr().expect("an address").port();
        let pages: HashMap<String, Reply> = pages
            .into_iter()
            .map(|(path, reply)| (path.to_owned(), reply))
            .collect();
        let (pages, asked) = (Arc::new(pages), Arc::new(Mutex::default()));
        let kept: Arc<Mutex<Vec<String>>> = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (pages, kept) = (Arc::clone(&pages), Arc::clone(&kept));
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    loop {
                        let mut more = vec![0; 8_192];
                        match socket.read(&mut more).await {
                            Ok(0) | Err(_) => return,
                            Ok(length) => request.extend_from_slice(&more[..length]),
                        }
                        if whole(&request) {
                            break;
                        }
                    }
                    let text = String::from_utf8_lossy(&request).into_owned();
                    let path = text.split(' ').nth(1).unwrap_or("/");
                    let path = path.split('?').next().unwrap_or("/").to_owned();
                    kept.lock().expect("no panic under the lock").push(text);
                    let reply = pages.get(&path).cloned();
                    let reply = reply.unwrap_or_else(|| Reply::status(404));
                    let mut head = format!(
                        "HTTP/1.1 {} X\r\ncontent-length: {}\r\nconnection: close\r\n",
                        reply.status,
                        reply.body.len()
                    );
                    for (name, value) in &reply.headers {
                        head.push_str(&format!("{name}: {value}\r\n"));
                    }
                    head.push_str("\r\n");
                    // Who asked may have gone away.
                    let _ = socket.write_all(head.as_bytes()).await;
                    let _ = socket.write_all(&reply.body).await;
                });
            }
        });
        Self { port, asked }
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic under the lock").clone()
    }

    /// Rules that let this server be read, and no other of this machine.
    pub(crate) fn rules(&self) -> WebRules {
        WebRules {
            ports: vec![80, 443, self.port],
            networks: vec!["127.0.0.2/32".parse().expect("a network")],
            ..WebRules::default()
        }
    }
}

/// Whether a request has all of its body.
fn whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|l| l.strip_prefix("content-length:"));
    let length: usize = length.map_or(0, |l| l.trim().parse().expect("a length"));
    body.len() >= length
}

/// Answers with these addresses, one set after the other; the last one stays.
#[derive(Debug, Default)]
pub(crate) struct Script {
    answers: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
}

impl Script {
    pub(crate) fn new(answers: &[(&str, &[&[&str]])]) -> Arc<Self> {
        let parse = |set: &&[&str]| {
            let addresses = set.iter().map(|a| a.parse().expect("an address"));
            addresses.collect::<Vec<IpAddr>>()
        };
        let answers = answers.iter().map(|(host, sets)| {
            let mut sets: Vec<Vec<IpAddr>> = sets.iter().map(parse).collect();
            sets.reverse();
            ((*host).to_owned(), sets)
        });
        Arc::new(Self {
            answers: Mutex::new(answers.collect()),
        })
    }
}

#[async_trait]
impl Resolver for Script {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let mut answers = self.answers.lock().expect("no panic under the lock");
        let sets = answers.get_mut(host);
        let sets = sets.ok_or_else(|| io::Error::other("no such host"))?;
        let set = if sets.len() > 1 {
            sets.pop()
        } else {
            sets.first().cloned()
        };
        Ok(set.unwrap_or_default())
    }
}
