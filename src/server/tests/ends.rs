//! How requests end that nobody meant to end: by a panic, or because the process does.

use super::*;

#[tokio::test]
async fn a_panic_costs_its_own_caller_alone() {
    let mut server = Running::plain(limits());
    let mut neighbour = server.connect().await;
    assert_eq!(ask(&mut neighbour, &get("/")).await.0, 200);
    assert_eq!(server.began().await, "/");
    assert_eq!(server.saw.recv().await.unwrap(), Saw::Dropped);
    for round in 0..20 {
        let mut io = server.connect().await;
        assert_eq!(ask(&mut io, &get("/panic")).await, (500, "Panicked".into()));
        assert_eq!(server.began().await, "/panic");
        assert_eq!(server.saw.recv().await.unwrap(), Saw::Dropped, "what the handler held is given back");
        assert_eq!(server.saw.recv().await.unwrap(), Saw::Panicked);
        // The connection is as good as before, and so is everybody else's.
        assert_eq!(ask(&mut io, &get("/")).await.0, 200, "round {round}");
        assert_eq!(ask(&mut neighbour, &get("/")).await.0, 200);
        for _ in 0..4 {
            server.saw.recv().await.unwrap();
        }
    }
    let mut io = server.connect().await;
    io.write_all(get("/panic-in-body").as_bytes()).await.unwrap();
    let answer = String::from_utf8(until_closed(&mut io).await).unwrap();
    assert!(!answer.ends_with("0\r\n\r\n") && !answer.contains("canary"), "no clean end: {answer}");
    let mut told = Vec::new();
    while told.last() != Some(&Saw::Panicked) {
        told.push(server.saw.recv().await.unwrap());
    }
    assert_eq!(ask(&mut neighbour, &get("/")).await.0, 200);
    server.finish().await;
}

#[tokio::test]
async fn a_panic_over_http2_resets_no_other_stream() {
    let mut server = Running::plain(limits());
    let io = TokioIo::new(server.connect().await);
    let (mut sender, driver) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let driver = tokio::spawn(driver);
    let ask = |path: &str| Request::get(format!("http://x{path}")).body(Empty::<Bytes>::new()).unwrap();
    let mut open = sender.send_request(ask("/stream")).await.unwrap();
    assert_eq!(open.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    assert_eq!(sender.send_request(ask("/panic")).await.unwrap().status(), 500);
    // The reset may overtake the head.
    if let Ok(broken) = sender.send_request(ask("/panic-in-body")).await {
        assert!(broken.into_body().collect().await.is_err());
    }
    assert_eq!(sender.send_request(ask("/")).await.unwrap().status(), 200);
    let mut panics = 0;
    while let Ok(saw) = server.saw.try_recv() {
        panics += usize::from(saw == Saw::Panicked);
    }
    assert_eq!(panics, 2);
    drop(open);
    driver.abort();
    server.finish().await;
}

/// At the bound, over both protocols: a stream says its last words and breaks off, a handler that
/// waits is answered for.
#[tokio::test]
async fn last_words_at_the_end_of_a_drain() {
    let server = Running::plain(limits());
    let mut stream = server.connect().await;
    stream.write_all(get("/stream").as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while !read.ends_with(b"first\r\n") {
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0);
    }
    let io = TokioIo::new(server.connect().await);
    let (mut sender, driver) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let driver = tokio::spawn(driver);
    let ask = |path: &str| Request::get(format!("http://x{path}")).body(Empty::<Bytes>::new()).unwrap();
    let mut open = sender.send_request(ask("/stream")).await.unwrap();
    assert_eq!(open.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    let waiting = tokio::spawn(sender.send_request(ask("/hang")));
    tokio::task::yield_now().await;
    server.drain.begin(Duration::from_millis(50));
    let rest = String::from_utf8(until_closed(&mut stream).await).unwrap();
    assert_eq!(rest, "A\r\nlast words\r\n", "said, and no clean end");
    assert_eq!(open.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "last words");
    assert!(open.body_mut().frame().await.unwrap().is_err(), "no clean end");
    // It was sent before the connection learnt of the drain, or it was refused unserved.
    if let Ok(answer) = waiting.await.unwrap() {
        assert_eq!(answer.status(), 503);
    }
    drop(sender);
    driver.abort();
    assert_eq!(server.served.await.unwrap(), Drained { cut: 2 });
}

#[tokio::test(start_paused = true)]
async fn draining_finishes_what_is_served() {
    let mut server = Running::plain(limits());
    let mut idle = server.connect().await;
    assert_eq!(ask(&mut idle, &get("/")).await.0, 200);
    server.began().await;
    assert_eq!(server.saw.recv().await.unwrap(), Saw::Dropped, "the guard of an answered request");
    let silent = server.connect().await;
    let mut busy = server.connect().await;
    busy.write_all(get("/slow").as_bytes()).await.unwrap();
    assert_eq!(server.began().await, "/slow");
    let mut hanging = server.connect().await;
    hanging.write_all(get("/hang").as_bytes()).await.unwrap();
    assert_eq!(server.began().await, "/hang");

    let start = Instant::now();
    server.drain.begin(Duration::from_secs(60));
    assert!(until_closed(&mut idle).await.is_empty());
    drop(silent);
    let answer = String::from_utf8(until_closed(&mut busy).await).unwrap().to_lowercase();
    assert!(answer.starts_with("http/1.1 200") && answer.contains("connection: close"), "{answer}");
    assert!(start.elapsed() < Duration::from_secs(31));
    assert!(TcpStream::connect(server.address.unwrap()).await.is_err(), "the listener is closed");
    let answer = String::from_utf8(until_closed(&mut hanging).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("Stopping"), "{answer}");
    assert_eq!(server.served.await.unwrap(), Drained { cut: 1 });
    assert!(start.elapsed() >= Duration::from_secs(60));
}
