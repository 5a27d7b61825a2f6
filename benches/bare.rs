//! The reference: the least that a reverse proxy on hyper does.
//!
//! hyper's HTTP/1.1 server, hyper-util's pooled client, one current-thread runtime. No JSON, no
//! policy, no logging; the URI gets the upstream's authority and bodies pass as they are.

use std::net::SocketAddr;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// Serves until the process is killed.
pub fn run(upstream: SocketAddr) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("listening on http://{}", listener.local_addr().unwrap());
        let proxy = Proxy::new(upstream);
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            let proxy = proxy.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| proxy.forward(request));
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
}

#[derive(Clone)]
struct Proxy {
    client: Client<HttpConnector, Incoming>,
    authority: Authority,
    host: HeaderValue,
}

impl Proxy {
    fn new(upstream: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let authority: Authority = upstream.to_string().parse().unwrap();
        let host = HeaderValue::from_str(authority.as_str()).unwrap();
        Self { client: Client::builder(TokioExecutor::new()).build(connector), authority, host }
    }

    async fn forward(&self, mut request: Request<Incoming>) -> Result<Response<Incoming>, Error> {
        let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        let uri = Uri::builder().scheme(Scheme::HTTP).authority(self.authority.clone()).path_and_query(path);
        *request.uri_mut() = uri.build().unwrap();
        request.headers_mut().insert(header::HOST, self.host.clone());
        self.client.request(request).await
    }
}
