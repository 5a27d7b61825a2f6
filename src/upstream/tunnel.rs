//! Through a proxy: `CONNECT` (RFC 9110 9.3.6) and SOCKS 5 (RFC 1928, 1929), on a stream that leads to it.
//!
//! Reads not one byte beyond the proxy's answer, for what follows belongs to the upstream. What a proxy
//! says in words is dropped: it may quote the login.

use std::net::IpAddr;

use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::error::BoxError;
use crate::limits::PROXY_HEAD_BYTES_MAX;
use crate::snapshot::{ProxyKind, ProxyServer};

/// Where the proxy shall lead.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// The proxy looks the name up.
    Name(&'a str, u16),
    /// Looked up and judged here.
    Address(IpAddr, u16),
}

/// Makes `stream`, which leads to `proxy`, one that leads to `target`.
pub async fn open<S>(stream: &mut S, proxy: &ProxyServer, target: Target<'_>) -> Result<(), BoxError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match proxy.kind {
        ProxyKind::Http => connect(stream, proxy, target).await,
        ProxyKind::Socks5 => socks(stream, proxy, target).await,
    }
}

/// `Proxy-Authorization` with name and password.
pub fn authorization(proxy: &ProxyServer) -> Option<HeaderValue> {
    let (name, password) = proxy.login.as_ref()?;
    let coded = base64(format!("{}:{}", name.expose(), password.expose()).as_bytes());
    let mut value = HeaderValue::from_str(&format!("Basic {coded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

async fn connect<S>(stream: &mut S, proxy: &ProxyServer, target: Target<'_>) -> Result<(), BoxError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let authority = match target {
        Target::Name(host, port) if host.contains(':') => format!("[{host}]:{port}"),
        Target::Name(host, port) => format!("{host}:{port}"),
        Target::Address(IpAddr::V6(ip), port) => format!("[{ip}]:{port}"),
        Target::Address(IpAddr::V4(ip), port) => format!("{ip}:{port}"),
    };
    let mut head = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n").into_bytes();
    if let Some(value) = authorization(proxy) {
        head.extend_from_slice(b"proxy-authorization: ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    stream.write_all(&head).await?;
    stream.flush().await?;
    // Byte by byte, once per connection: an HTTP/2 upstream may speak first, right behind this head.
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= PROXY_HEAD_BYTES_MAX {
            return Err("the proxy's answer does not end".into());
        }
        answer.push(stream.read_u8().await?);
    }
    match status(&answer) {
        Some(200..=299) => Ok(()),
        Some(407) => Err("the proxy asks for another login".into()),
        Some(status) => Err(format!("the proxy answered {status} to CONNECT").into()),
        None => Err("the proxy does not speak HTTP".into()),
    }
}

fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let rest = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "))?;
    rest.get(..3)?.parse().ok()
}

const SOCKS: u8 = 5;
const NO_LOGIN: u8 = 0;
const LOGIN: u8 = 2;

async fn socks<S>(stream: &mut S, proxy: &ProxyServer, target: Target<'_>) -> Result<(), BoxError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let hello: &[u8] = if proxy.login.is_some() { &[SOCKS, 2, NO_LOGIN, LOGIN] } else { &[SOCKS, 1, NO_LOGIN] };
    stream.write_all(hello).await?;
    stream.flush().await?;
    let [version, method] = read(stream).await?;
    match (version, method, &proxy.login) {
        (SOCKS, NO_LOGIN, _) => {}
        (SOCKS, LOGIN, Some((name, password))) => {
            let mut message = vec![1];
            for part in [name.expose(), password.expose()] {
                message.push(u8::try_from(part.len()).map_err(|_| "a login longer than SOCKS can carry")?);
                message.extend_from_slice(part.as_bytes());
            }
            stream.write_all(&message).await?;
            stream.flush().await?;
            let [_, outcome] = read(stream).await?;
            if outcome != 0 {
                return Err("the proxy refuses the login".into());
            }
        }
        (SOCKS, ..) => return Err("the proxy asks for another login".into()),
        _ => return Err("the proxy does not speak SOCKS 5".into()),
    }
    let mut request = vec![SOCKS, 1, 0];
    let port = match target {
        Target::Address(IpAddr::V4(ip), port) => {
            request.push(1);
            request.extend_from_slice(&ip.octets());
            port
        }
        Target::Address(IpAddr::V6(ip), port) => {
            request.push(4);
            request.extend_from_slice(&ip.octets());
            port
        }
        Target::Name(host, port) => {
            request
                .extend_from_slice(&[3, u8::try_from(host.len()).map_err(|_| "a name longer than SOCKS can carry")?]);
            request.extend_from_slice(host.as_bytes());
            port
        }
    };
    request.extend_from_slice(&port.to_be_bytes());
    stream.write_all(&request).await?;
    stream.flush().await?;
    reply(stream).await
}

async fn reply<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(), BoxError> {
    let [version, outcome, _, kind] = read(stream).await?;
    if version != SOCKS {
        return Err("the proxy does not speak SOCKS 5".into());
    }
    if outcome != 0 {
        let what = match outcome {
            2 => "its rules forbid it",
            3 => "the network is unreachable",
            4 => "the host is unreachable",
            5 => "the connection was refused",
            6 => "it took too long",
            _ => "it did not say why",
        };
        return Err(format!("the proxy could not connect: {what}").into());
    }
    // The address that it connected from, which means nothing to us.
    let length = match kind {
        1 => 4,
        4 => 16,
        3 => usize::from(stream.read_u8().await?),
        _ => return Err("the proxy does not speak SOCKS 5".into()),
    };
    for _ in 0..length + 2 {
        stream.read_u8().await?;
    }
    Ok(())
}

async fn read<S: AsyncRead + Unpin, const N: usize>(stream: &mut S) -> Result<[u8; N], BoxError> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Standard alphabet, padded.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| group.get(at).copied().map_or(0, u32::from);
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let letter = ALPHABET.get((bits >> (18 - 6 * place) & 63) as usize).copied();
            out.push(char::from(letter.filter(|_| place <= group.len()).unwrap_or(b'=')));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;
    use crate::secret::Secret;
    use crate::snapshot::Reach;

    fn proxy(kind: ProxyKind, login: Option<(&str, &str)>) -> ProxyServer {
        let login = login.map(|(name, password)| (Secret::new(name), Secret::new(password)));
        ProxyServer { kind, tls: false, host: "p".into(), port: 1, ca_pem: None, login, reach: Reach::Anywhere }
    }

    /// What is sent in turns, given what is answered in turns; and how it ends.
    async fn talk(proxy: &ProxyServer, target: Target<'_>, turns: &[&[u8]]) -> (Vec<Vec<u8>>, Result<(), String>) {
        let (mut near, mut far) = duplex(64 * 1024);
        let other = async {
            let mut sent = Vec::new();
            for answer in turns {
                let mut said = vec![0; 4096];
                let read = far.read(&mut said).await.unwrap();
                said.truncate(read);
                sent.push(said);
                far.write_all(answer).await.unwrap();
            }
            drop(far);
            sent
        };
        let (sent, ended) = tokio::join!(other, async {
            let ended = open(&mut near, proxy, target).await.map_err(|error| error.to_string());
            let mut rest = Vec::new();
            near.read_to_end(&mut rest).await.unwrap();
            // What stands behind the proxy's answer is the upstream's.
            assert!(ended.is_err() || rest.is_empty() || rest == b"UPSTREAM", "{rest:?}");
            drop(near);
            ended
        });
        (sent, ended)
    }

    const NAME: Target<'_> = Target::Name("api.example", 443);

    #[tokio::test]
    async fn connects() {
        let plain = proxy(ProxyKind::Http, None);
        let (sent, ended) = talk(&plain, NAME, &[b"HTTP/1.1 200 OK\r\nvia: x\r\n\r\nUPSTREAM"]).await;
        assert_eq!(ended, Ok(()));
        assert_eq!(sent[0], b"CONNECT api.example:443 HTTP/1.1\r\nhost: api.example:443\r\n\r\n");
        let known = proxy(ProxyKind::Http, Some(("us", "p:w")));
        let v6 = Target::Address("2001:db8::1".parse().unwrap(), 80);
        let (sent, ended) = talk(&known, v6, &[b"HTTP/1.0 299 \r\n\r\n"]).await;
        assert_eq!(ended, Ok(()));
        let sent = String::from_utf8(sent[0].clone()).unwrap();
        assert!(sent.starts_with("CONNECT [2001:db8::1]:80 HTTP/1.1\r\n"), "{sent}");
        assert!(sent.contains("proxy-authorization: Basic dXM6cDp3\r\n"), "{sent}");
        for (answer, what) in [
            (&b"HTTP/1.1 407 x\r\n\r\n"[..], "login"),
            (b"HTTP/1.1 502 secret words\r\n\r\n", "502"),
            (b"SSH-2.0 hello\r\n\r\n", "HTTP"),
            (b"HTTP/1.1 200 OK\r\n", "end"),
            (b"", "end"),
        ] {
            let error = talk(&plain, NAME, &[answer]).await.1.unwrap_err();
            assert!(error.contains(what) && !error.contains("secret"), "{error}");
        }
        let endless = vec![b'x'; PROXY_HEAD_BYTES_MAX + 10];
        assert!(talk(&plain, NAME, &[&endless]).await.1.is_err());
    }

    #[tokio::test]
    async fn speaks_socks() {
        let open_to_all = proxy(ProxyKind::Socks5, None);
        let good: &[u8] = &[5, 0, 0, 1, 1, 2, 3, 4, 0, 80];
        let (sent, ended) = talk(&open_to_all, NAME, &[&[5, 0], good]).await;
        assert_eq!(ended, Ok(()));
        assert_eq!(sent, [vec![5, 1, 0], [&[5, 1, 0, 3, 11][..], b"api.example", &[1, 187]].concat()]);
        let known = proxy(ProxyKind::Socks5, Some(("us", "pw")));
        let named: &[u8] = &[5, 0, 0, 3, 2, b'h', b'i', 0, 80];
        let (sent, ended) = talk(&known, Target::Address("::1".parse().unwrap(), 1), &[&[5, 2], &[1, 0], named]).await;
        assert_eq!(ended, Ok(()));
        assert_eq!(sent[..2], [vec![5, 2, 0, 2], vec![1, 2, b'u', b's', 2, b'p', b'w']]);
        assert_eq!(sent[2].len(), 4 + 16 + 2);
        for (proxy, turns, what) in [
            (&open_to_all, vec![&[5u8, 0xff][..]], "login"),
            (&open_to_all, vec![&[5, 2]], "login"),
            (&known, vec![&[5, 2], &[1, 1]], "refuses"),
            (&open_to_all, vec![&[4, 0]], "SOCKS"),
            (&open_to_all, vec![&[5, 0], &[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]], "refused"),
            (&open_to_all, vec![&[5, 0], &[5, 0, 0, 9]], "SOCKS"),
            (&open_to_all, vec![&[5, 0], &[5, 0]], "end"),
        ] {
            let mut open_end = turns;
            // The far end may be gone before all of its answer is read.
            open_end.truncate(2);
            let (mut near, mut far) = duplex(4096);
            for turn in &open_end {
                far.write_all(turn).await.unwrap();
            }
            far.shutdown().await.unwrap();
            let error = open(&mut near, proxy, NAME).await.unwrap_err().to_string();
            assert!(error.contains(what) || what == "end" && error.contains("eof"), "{what}: {error}");
        }
    }
}
