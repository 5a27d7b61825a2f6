//! Every rule about who may call and where, and the one problem that breaking it gives.

use super::*;

#[test]
fn access_keys() {
    let hash = format!("blake3:{}", "0".repeat(64));
    let rows = [
        ("{\"name\": \"k\", \"value\": \"env.TOKEN\"}".to_owned(), ""),
        (format!("{{\"name\": \"k\", \"hash\": \"{hash}\"}}"), ""),
        ("{\"value\": \"env.TOKEN\"}".to_owned(), "E missing_member {at}/0/name"),
        ("{\"name\": \"\", \"value\": \"env.TOKEN\"}".to_owned(), "E bad_value {at}/0/name"),
        ("{\"name\": \"k\"}".to_owned(), "E missing_member {at}/0/value"),
        ("{\"name\": \"k\", \"hash\": 1}".to_owned(), "E wrong_type {at}/0/hash"),
        (format!("{{\"name\": \"k\", \"hash\": \"{hash}\", \"value\": \"env.TOKEN\"}}"), "E conflict {at}/0"),
        ("{\"name\": \"k\", \"hash\": \"sha256:00\"}".to_owned(), "E bad_value {at}/0/hash"),
        (format!("{{\"name\": \"k\", \"hash\": \"{}\"}}", &hash[..70]), "E bad_value {at}/0/hash"),
        ("{\"name\": \"k\", \"value\": \"short\"}".to_owned(), "E bad_value {at}/0/value"),
        (format!("{{\"name\": \"k\", \"value\": \"{}\"}}", "x".repeat(513)), "E bad_value {at}/0/value"),
        (
            format!("{{\"name\": \"k\", \"value\": \"{} {}\"}}", "x".repeat(20), "x".repeat(20)),
            "E bad_value {at}/0/value",
        ),
        (format!("{{\"name\": \"k\", \"value\": \"{}\"}}", &TOKEN[..TOKEN.len() - 1]), "E bad_value {at}/0/value"),
        ("{\"name\": \"k\", \"value\": \"env.SHORT\"}".to_owned(), "W bad_value {at}/0/value"),
        ("{\"name\": \"k\", \"value\": \"env.NOPE\"}".to_owned(), "W unresolved {at}/0/value"),
        (
            format!("{{\"name\": \"k\", \"value\": \"env.TOKEN\"}}, {{\"name\": \"k\", \"hash\": \"{hash}\"}}"),
            "E duplicate {at}/1/name",
        ),
        (
            format!("{{\"name\": \"a\", \"value\": \"env.TOKEN\"}}, {{\"name\": \"b\", \"value\": \"{TOKEN}\"}}"),
            "E duplicate {at}/1/value",
        ),
    ];
    let world = World::new();
    for (keys, expected) in rows {
        for (before, at, after) in [
            ("{\"management\": {\"keys\": [", "/management/keys", "]}}"),
            ("{\"projects\": [{\"id\": \"p\", \"keys\": [", "/projects/0/keys", "]}]}"),
        ] {
            let text = format!("{before}{keys}{after}");
            let expected: Vec<String> = if expected.is_empty() { vec![] } else { vec![expected.replace("{at}", at)] };
            assert_eq!(world.problems(&text), expected, "{text}");
        }
    }
    let shared = format!(
        "{{\"management\": {{\"keys\": [{{\"name\": \"ops\", \"value\": \"env.TOKEN\"}}]}}, \
         \"projects\": [{{\"id\": \"p\", \"keys\": [{{\"name\": \"k\", \"hash\": \"blake3:{}\"}}]}}]}}",
        crate::hash::token_digest(TOKEN.as_bytes()).to_hex()
    );
    assert_eq!(world.problems(&shared), ["E duplicate /projects/0/keys/0/hash"]);
    assert_eq!(world.problems("{\"management\": {\"keys\": []}}"), ["W suspicious /management/keys"]);
}

#[test]
fn projects() {
    let rows: [(&str, &[&str]); 11] = [
        ("\"id\": \"p\"", &[]),
        ("\"models\": [\"*\"]", &["E missing_member /projects/0/id"]),
        ("\"id\": \"a b\"", &["E bad_value /projects/0/id"]),
        ("\"id\": \"..\"", &["E bad_value /projects/0/id"]),
        ("\"id\": 1", &["E wrong_type /projects/0/id"]),
        ("\"id\": \"p\", \"models\": []", &["W suspicious /projects/0/models"]),
        ("\"id\": \"p\", \"models\": [\"\"]", &["E bad_value /projects/0/models/0"]),
        ("\"id\": \"p\", \"models\": [\"mok/x\"]", &["W unknown_reference /projects/0/models/0"]),
        ("\"id\": \"p\", \"models\": [\"@fats\"]", &["W unknown_reference /projects/0/models/0"]),
        ("\"id\": \"p\", \"models\": [\"*\", \"mock/*\", \"*/x\", \"m*/x\", \"@fast\", \"@*\", \"gpt-*\"]", &[]),
        ("\"id\": \"p\", \"models\": [\"@FAST\", \"MOCK/x\"]", &[]),
    ];
    let world = World::new();
    let file = |projects: &str| {
        format!(
            "{{\"providers\": {{\"mock\": {{}}}}, \"routes\": {{\"@fast\": {{\"targets\": [\"mock/m\"]}}}}, \"projects\": [{projects}]}}"
        )
    };
    for (members, expected) in rows {
        let text = file(&format!("{{{members}, \"keys\": [{{\"name\": \"k\", \"value\": \"env.TOKEN\"}}]}}"));
        assert_eq!(world.problems(&text), expected, "{text}");
    }
    let twice = "{\"id\": \"p\", \"keys\": []}, {\"id\": \"p\", \"keys\": []}";
    assert_eq!(
        world.problems(&file(twice)),
        ["W suspicious /projects/0", "W suspicious /projects/1", "E duplicate /projects/1/id"]
    );
    assert_eq!(world.problems("{\"projects\": []}"), [""; 0]);
}

#[test]
fn listeners() {
    let listen = |entry: &str| format!("{{\"server\": {{\"listen\": [\"{entry}\"]}}}}");
    let mut table: Vec<(String, &[&str])> = [
        "8080",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:x",
        "127.0.0.1:65536",
        "127.0.0.1:+80",
        ":8080",
        "::1:8080",
        "[::1:8080",
        "[127.0.0.1]:1",
        "1.2.3:80",
        "a b:80",
        "ftp://h:1",
        "http://127.0.0.1:1/x",
        "unix:",
        "unix:/",
        "unix:/a?mode=0999",
        "unix:/a?mode=1777",
        "unix:/a?mode=660x",
        "unix:/a?mode=",
        "unix:/a?owner=x",
        "user@127.0.0.1:80",
        "",
    ]
    .iter()
    .map(|entry| (listen(entry), &["E bad_value /server/listen/0"][..]))
    .collect();
    table.push((listen(&format!("unix:/{}", "x".repeat(107))), &["E bad_value /server/listen/0"]));
    check(&table);
    check(&own(&[
        ("{\"server\": {\"listen\": []}}", &["E bad_value /server/listen"]),
        ("{\"server\": {\"listen\": [\"127.0.0.1:1\", \"127.0.0.1:1\"]}}", &["E duplicate /server/listen/1"]),
        ("{\"server\": {\"listen\": [\"127.0.0.1:1\", \"http://127.0.0.1:1\"]}}", &["E duplicate /server/listen/1"]),
        (
            "{\"server\": {\"listen\": [\"unix:a\", \"unix:/etc/keyway/a?mode=0660\"]}}",
            &["E duplicate /server/listen/1"],
        ),
        ("{\"server\": {\"listen\": [\"127.0.0.1:0\", \"127.0.0.1:0\", \"[::1]:0\"]}}", &[]),
        ("{\"server\": {\"listen\": [\"https://127.0.0.1:1\"]}}", &["E conflict /server/listen/0"]),
        (
            "{\"server\": {\"tls\": {}}}",
            &[
                "E missing_member /server/tls/cert_file",
                "E missing_member /server/tls/key_file",
                "W suspicious /server/tls",
            ],
        ),
    ]));
    let many: Vec<String> = (0..17).map(|port| format!("\"127.0.0.1:{}\"", 9000 + port)).collect();
    let text = format!("{{\"server\": {{\"listen\": [{}]}}}}", many.join(","));
    assert_eq!(World::new().problems(&text), ["E bad_value /server/listen"]);
}

#[test]
fn limits() {
    check(&own(&[
        ("{\"server\": {\"limits\": {\"in_flight_max\": 0}}}", &["E bad_value /server/limits/in_flight_max"]),
        (
            "{\"server\": {\"limits\": {\"request_body_mb_max\": 5000}}}",
            &["E bad_value /server/limits/request_body_mb_max"],
        ),
        ("{\"server\": {\"limits\": {\"header_kb_max\": 7}}}", &["E bad_value /server/limits/header_kb_max"]),
        ("{\"server\": {\"limits\": {\"header_count_max\": 3}}}", &["E bad_value /server/limits/header_count_max"]),
        (
            "{\"server\": {\"limits\": {\"header_timeout_seconds\": 601}}}",
            &["E bad_value /server/limits/header_timeout_seconds"],
        ),
        (
            "{\"server\": {\"limits\": {\"body_timeout_seconds\": 3601}}}",
            &["E bad_value /server/limits/body_timeout_seconds"],
        ),
        ("{\"server\": {\"limits\": {\"connections_max\": 0}}}", &["E bad_value /server/limits/connections_max"]),
        ("{\"server\": {\"drain_seconds\": 3601}}", &["E bad_value /server/drain_seconds"]),
        ("{\"server\": {\"drain_seconds\": 0}}", &[]),
        ("{\"observability\": {\"log_level\": \"loud\"}}", &["E bad_value /observability/log_level"]),
    ]));
}

#[test]
fn exposure() {
    let keys = "\"keys\": [{\"name\": \"k\", \"value\": \"env.TOKEN\"}]";
    let with = |text: &str| text.replace("{keys}", keys);
    let rows: [(&str, &[&str]); 16] = [
        ("{}", &[]),
        (
            "{\"server\": {\"listen\": [\"127.0.0.1:1\", \"[::1]:1\", \"localhost:2\", \"unix:/run/x\", \"127.1.2.3:1\"]}}",
            &[],
        ),
        (
            "{\"server\": {\"listen\": [\"0.0.0.0:1\"]}}",
            &["E conflict /server/listen/0", "E conflict /server/listen/0"],
        ),
        ("{\"server\": {\"listen\": [\"[::]:1\"]}, \"management\": {{keys}}}", &["E conflict /server/listen/0"]),
        ("{\"server\": {\"listen\": [\"example.com:1\"]}, \"management\": {{keys}}}", &["E conflict /server/listen/0"]),
        ("{\"server\": {\"listen\": [\"0.0.0.0:1\"], \"open_data_plane\": true}, \"management\": {{keys}}}", &[]),
        ("{\"server\": {\"listen\": [\"0.0.0.0:1\"], \"open_data_plane\": true}}", &["E conflict /server/listen/0"]),
        (
            "{\"server\": {\"listen\": [\"127.0.0.1:1\", \"10.0.0.1:1\"]}, \"projects\": []}",
            &["E conflict /server/listen/1"],
        ),
        ("{\"server\": {\"listen\": [\"10.0.0.1:1\"]}, \"projects\": [], \"management\": {{keys}}}", &[]),
        (
            "{\"server\": {\"listen\": [\"10.0.0.1:1\"]}, \"projects\": [], \"management\": {\"listen\": [\"127.0.0.1:2\"]}}",
            &[],
        ),
        (
            "{\"server\": {\"listen\": [\"10.0.0.1:1\"]}, \"projects\": [], \"management\": {\"listen\": [\"10.0.0.1:2\"]}}",
            &["E conflict /management/listen/0"],
        ),
        ("{\"management\": {\"listen\": [\"10.0.0.1:2\"], {keys}}}", &[]),
        ("{\"management\": {\"listen\": [\"127.0.0.1:8080\"]}}", &["E conflict /management/listen/0"]),
        ("{\"management\": {\"listen\": [\"https://127.0.0.1:1\"]}}", &["E conflict /management/listen/0"]),
        ("{\"management\": {\"listen\": []}}", &["E bad_value /management/listen"]),
        ("{\"server\": {\"open_data_plane\": true}, \"projects\": []}", &["W suspicious /server/open_data_plane"]),
    ];
    let world = World::new();
    for (text, expected) in rows {
        let text = with(text);
        assert_eq!(world.problems(&text), expected, "{text}");
    }
}

#[test]
fn tls_files() {
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
    let text = "{\"server\": {\"listen\": [\"https://127.0.0.1:1\"], \"tls\": {\"cert_file\": \"c.pem\", \"key_file\": \"k.pem\"}}}";
    let at = |member: &str, code: &str| format!("E {code} /server/tls/{member}");
    let mut world = World::new();
    assert_eq!(world.problems(text), [at("cert_file", "unresolved"), at("key_file", "unresolved")]);
    for (cert_text, key_text, expected) in [
        (cert.as_str(), key.as_str(), vec![]),
        ("nonsense", key.as_str(), vec![at("cert_file", "bad_value")]),
        (
            "-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----",
            key.as_str(),
            vec![at("cert_file", "bad_value")],
        ),
        (key.as_str(), cert.as_str(), vec![at("cert_file", "bad_value"), at("key_file", "bad_value")]),
        (cert.as_str(), "", vec![at("key_file", "unresolved")]),
    ] {
        world.put("c.pem", cert_text);
        world.put("k.pem", key_text);
        assert_eq!(world.problems(text), expected);
    }
    world.put("c.pem", &cert);
    world.put("k.pem", &key);
    let (compiled, _) = world.load(text);
    let compiled = compiled.expect("compiles");
    assert_eq!(compiled.secret_files, [Path::new("/etc/keyway/c.pem"), Path::new("/etc/keyway/k.pem")]);
    assert_eq!(&*compiled.snapshot.server.tls.expect("tls").cert_pem, cert);
}
