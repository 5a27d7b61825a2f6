//! `keyway healthcheck`: asks a running gateway, for container images without curl.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use super::complain;

/// Longest that a health check may take; orchestrators give about this much.
const TIMEOUT: Duration = Duration::from_secs(3);
/// A status line is all that is read.
const ANSWER_BYTES_MAX: usize = 64;

#[derive(clap::Args)]
pub struct Args {
    #[arg(long, default_value = "http://127.0.0.1:8080/readyz", value_name = "URL")]
    url: String,
}

pub fn run(args: &Args) -> ExitCode {
    match ask(&args.url) {
        Ok(200) => ExitCode::SUCCESS,
        Ok(status) => {
            complain(&format!("{} answered {status}", args.url));
            ExitCode::FAILURE
        }
        Err(text) => {
            complain(&format!("{}: {text}", args.url));
            ExitCode::FAILURE
        }
    }
}

/// The status of a GET. Plain HTTP/1.1 on purpose: the probe runs beside the gateway, and a client
/// library would be most of its cost.
fn ask(url: &str) -> Result<u16, String> {
    let uri: http::Uri = url.parse().map_err(|_| "not a URL".to_owned())?;
    if uri.scheme_str() != Some("http") {
        return Err("only http:// is asked; point it at a plain listener on loopback".to_owned());
    }
    let authority = uri.authority().ok_or("the URL names no host")?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let address = (host, authority.port_u16().unwrap_or(80))
        .to_socket_addrs()
        .map_err(|error| error.to_string())?
        .next()
        .ok_or("the host has no address")?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).map_err(|error| error.to_string())?;
    stream
        .set_read_timeout(Some(TIMEOUT))
        .and_then(|()| stream.set_write_timeout(Some(TIMEOUT)))
        .map_err(|e| e.to_string())?;
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let request = format!("GET {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = Vec::with_capacity(ANSWER_BYTES_MAX);
    stream.take(ANSWER_BYTES_MAX as u64).read_to_end(&mut answer).map_err(|error| error.to_string())?;
    let line = String::from_utf8_lossy(&answer);
    let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
    status.ok_or_else(|| "the answer is not HTTP/1.1".to_owned())
}
