//! Proxies as they stand in companies: HTTP with `CONNECT` and absolute form, SOCKS 5, with a login or
//! without, over TLS or in clear. Each notes what it was asked, and leads every name to this machine.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::upstream::Upstream;

/// A running proxy; gone when it is dropped.
pub struct Proxy {
    server: Upstream,
    asked: Arc<Mutex<Vec<String>>>,
}

/// A certificate for `names`, as PEM, and a server that shows it and offers these protocols.
pub fn tls(names: &[&str], protocols: &[&[u8]]) -> (String, TlsAcceptor) {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let signed = rcgen::generate_simple_self_signed(names).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    server.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    (signed.cert.pem(), TlsAcceptor::from(Arc::new(server)))
}

impl Proxy {
    /// `login`: what `Proxy-Authorization` must say, if anything is asked for.
    pub fn http(login: Option<&'static str>) -> Self {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let notes = Arc::clone(&asked);
        let server = Upstream::raw(move |socket, _| {
            let notes = Arc::clone(&notes);
            async move { drop(http(socket, &notes, login).await) }
        });
        Self { server, asked }
    }

    /// The same behind TLS.
    pub fn https(acceptor: TlsAcceptor) -> Self {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let notes = Arc::clone(&asked);
        let server = Upstream::raw(move |socket, _| {
            let (notes, acceptor) = (Arc::clone(&notes), acceptor.clone());
            async move {
                if let Ok(stream) = acceptor.accept(socket).await {
                    drop(http(stream, &notes, None).await);
                }
            }
        });
        Self { server, asked }
    }

    pub fn socks(login: Option<(&'static str, &'static str)>) -> Self {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let notes = Arc::clone(&asked);
        let server = Upstream::raw(move |socket, _| {
            let notes = Arc::clone(&notes);
            async move { drop(socks(socket, &notes, login).await) }
        });
        Self { server, asked }
    }

    /// `SCHEME://127.0.0.1:PORT`.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.server.address())
    }

    pub fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// What it was asked so far, one line each: `CONNECT host:port`, `POST http://…`, `SOCKS host:port`.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn here(authority: &str) -> std::io::Result<TcpStream> {
    let port = authority.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()).unwrap_or(80);
    TcpStream::connect(("127.0.0.1", port)).await
}

async fn http<S>(mut caller: S, notes: &Mutex<Vec<String>>, login: Option<&str>) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(caller.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    notes.lock().unwrap().push(format!("{method} {target}"));
    let said = head.lines().find_map(|line| line.strip_prefix("proxy-authorization: "));
    if login.is_some() && said != login {
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        return caller.write_all(refusal.as_bytes()).await;
    }
    if method == "CONNECT" {
        let mut upstream = here(target).await?;
        caller.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
        copy_bidirectional(&mut caller, &mut upstream).await?;
        return Ok(());
    }
    let rest = target.strip_prefix("http://").unwrap_or(target);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut upstream = here(authority).await?;
    let lines = head.lines().skip(1).filter(|line| !line.starts_with("proxy-"));
    let forwarded =
        format!("{method} /{path} HTTP/1.1\r\n{}\r\n\r\n", lines.collect::<Vec<_>>().join("\r\n").trim_end());
    upstream.write_all(forwarded.as_bytes()).await?;
    copy_bidirectional(&mut caller, &mut upstream).await?;
    Ok(())
}

async fn socks(mut caller: TcpStream, notes: &Mutex<Vec<String>>, login: Option<(&str, &str)>) -> std::io::Result<()> {
    let mut hello = [0; 2];
    caller.read_exact(&mut hello).await?;
    let mut methods = vec![0; usize::from(hello[1])];
    caller.read_exact(&mut methods).await?;
    match login {
        None => caller.write_all(&[5, 0]).await?,
        Some(_) if !methods.contains(&2) => return caller.write_all(&[5, 0xff]).await,
        Some((name, password)) => {
            caller.write_all(&[5, 2]).await?;
            assert_eq!(caller.read_u8().await?, 1);
            let mut said = Vec::new();
            for _ in 0..2 {
                let mut part = vec![0; usize::from(caller.read_u8().await?)];
                caller.read_exact(&mut part).await?;
                said.push(part);
            }
            let good = said == [name.as_bytes(), password.as_bytes()];
            caller.write_all(&[1, u8::from(!good)]).await?;
            if !good {
                return Ok(());
            }
        }
    }
    let mut request = [0; 4];
    caller.read_exact(&mut request).await?;
    let host = match request[3] {
        3 => {
            let mut name = vec![0; usize::from(caller.read_u8().await?)];
            caller.read_exact(&mut name).await?;
            String::from_utf8_lossy(&name).into_owned()
        }
        _ => {
            let mut ip = [0; 4];
            caller.read_exact(&mut ip).await?;
            std::net::Ipv4Addr::from(ip).to_string()
        }
    };
    let target = format!("{host}:{}", caller.read_u16().await?);
    notes.lock().unwrap().push(format!("SOCKS {target}"));
    let mut upstream = here(&target).await?;
    caller.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    copy_bidirectional(&mut caller, &mut upstream).await?;
    Ok(())
}
