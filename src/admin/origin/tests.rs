//! Addresses as an attacker writes them: each is refused for its own reason, and a private one
//! passes only by an exact entry of the file.

use super::{NEVER, NOT_PUBLIC, check};

/// What anybody may name.
const PUBLIC: &[&str] = &[
    "https://api.openai.com",
    "https://api.openai.com/v1",
    "https://API.OpenAI.com/v1/",
    "https://api.openai.com.",
    "https://api.openai.com:8443/a/b",
    "https://xn--80ak6aa92e.example",
    "https://under_score.example",
    "https://localhost.example",
    "https://local.example",
    "https://internal.example",
    "https://10.example",
    "https://0x7f.example",
    "https://metadata.example",
    "http://1.1.1.1",
    "http://8.8.8.8",
    "http://8.8.2056",
    "http://8.526344",
    "http://134744072",
    "http://0x08080808",
    "http://010.8.8.8",
    "http://08.8.8.8",
    "http://9.255.255.255",
    "http://11.0.0.0",
    "http://100.63.255.255",
    "http://100.128.0.0",
    "http://126.255.255.255",
    "http://128.0.0.0",
    "http://169.253.255.255",
    "http://169.255.0.0",
    "http://172.15.255.255",
    "http://172.32.0.0",
    "http://192.167.255.255",
    "http://192.169.0.0",
    "http://198.17.255.255",
    "http://198.20.0.0",
    "http://223.255.255.255",
    "https://[2606:4700:4700::1111]",
    "https://[2001:4860:4860::8888]/x",
    "https://[2001:200::1]",
    "https://[::ffff:8.8.8.8]",
    "https://[64:ff9b::808:808]",
    "https://[2002:808:808::1]",
];

/// What the file has to allow.
const PRIVATE: &[&str] = &[
    // Loopback, in the spellings that some resolver takes for it.
    "http://127.0.0.1",
    "http://127.0.0.1:11434",
    "https://127.0.0.1:443/v1",
    "http://127.0.0.1.",
    "http://127.0.0.1.:80",
    "http://127.1",
    "http://127.0.1",
    "http://127.255.255.254",
    "http://2130706433",
    "http://2130706433.",
    "http://0x7f000001",
    "http://0X7F000001",
    "http://0x7f.1",
    "http://0x7f.0x0.0x0.0x1",
    "http://0x7F.0.0x1",
    "http://0x000000007f.1",
    "http://0177.1",
    "http://0177.0.0.1",
    "http://0177.0.0.01",
    "http://00000177.0.0.1",
    "http://017700000001",
    "http://127.0x1",
    "http://127.00000001",
    "http://127.16777215",
    "http://0x7f.16777215",
    "http://0x7f.0xffffff",
    // This network, private networks.
    "http://0.0.0.1",
    "http://0.1",
    "http://1",
    "http://0x1",
    "http://10.0.0.0",
    "http://10.0.0.1",
    "http://10.1",
    "http://10.255.255.255",
    "http://167772161",
    "http://0x0a000001",
    "http://012.0.0.1",
    "http://012.1",
    "http://172.16.0.0",
    "http://172.16.0.1",
    "http://172.31.255.255",
    "http://2886729729",
    "http://0xac.0x10.1",
    "http://0254.020.0.1",
    "http://192.168.0.0",
    "http://192.168.1.1",
    "http://192.168.257",
    "http://192.11010305",
    "http://192.168.255.255",
    "http://3232235777",
    "http://0xc0a80101",
    "http://0300.0250.1.1",
    // Shared, protocol, documentation, benchmark, relay, multicast, reserved.
    "http://100.64.0.0",
    "http://100.64.0.1",
    "http://100.127.255.255",
    "http://1681915905",
    "http://0144.0100.0.1",
    "http://192.0.0.1",
    "http://192.0.0.192",
    "http://192.0.2.1",
    "http://192.88.99.1",
    "http://198.18.0.1",
    "http://198.19.255.255",
    "http://198.51.100.1",
    "http://203.0.113.1",
    "http://224.0.0.1",
    "http://239.255.255.250",
    "http://240.0.0.1",
    "http://255.255.255.254",
    "http://255.255.255.255",
    "http://4294967295",
    "http://0xffffffff",
    "http://037777777777",
    // IPv6: loopback, unique-local, site-local, multicast, discard, documentation, Teredo.
    "http://[::1]",
    "http://[::1]:11434",
    "http://[0:0:0:0:0:0:0:1]",
    "http://[0000:0000:0000:0000:0000:0000:0000:0001]",
    "http://[fc00::1]",
    "http://[fd00::1]",
    "http://[fd12:3456:789a::1]",
    "http://[FDFF:FFFF::1]",
    "http://[fec0::1]",
    "http://[ff02::1]",
    "http://[ff0e::1]",
    "http://[100::1]",
    "http://[2001:db8::1]",
    "http://[3fff::1]",
    "http://[3fff:fff::1]",
    "http://[2001::1]",
    "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
    "http://[2001:10::1]",
    "http://[2001:20::1]",
    "http://[4000::1]",
    "http://[5f00::1]",
    // IPv4 inside IPv6: mapped, compatible, translated, NAT64, its local form, 6to4.
    "http://[::ffff:127.0.0.1]",
    "http://[::ffff:7f00:1]",
    "http://[::FFFF:7F00:0001]",
    "http://[0:0:0:0:0:ffff:7f00:1]",
    "http://[::ffff:10.0.0.1]",
    "http://[::ffff:192.168.1.1]",
    "http://[::ffff:100.64.0.1]",
    "http://[::127.0.0.1]",
    "http://[::10.0.0.1]",
    "http://[::7f00:1]",
    "http://[::ffff:0:127.0.0.1]",
    "http://[::ffff:0:7f00:1]",
    "http://[64:ff9b::127.0.0.1]",
    "http://[64:ff9b::a00:1]",
    "http://[64:ff9b::10.0.0.1]",
    "http://[64:ff9b::c0a8:101]",
    "http://[64:ff9b:1::1]",
    "http://[64:ff9b:1::7f00:1]",
    "http://[2002:7f00:1::]",
    "http://[2002:7f00:1::1]",
    "http://[2002:a00:1::1]",
    "http://[2002:c0a8:101::1]",
    "http://[2002:6440:1::1]",
    // Names of this machine and of its surroundings.
    "http://localhost",
    "http://localhost:11434",
    "http://LOCALHOST",
    "http://LocalHost.",
    "http://a.localhost",
    "http://a.b.localhost.",
    "http://localhost.localdomain",
    "http://ollama",
    "http://ollama:11434",
    "http://ollama.",
    "http://box.local",
    "http://BOX.LOCAL.",
    "http://svc.cluster.local",
    "http://ollama.models.svc",
    "http://ollama.models.svc.cluster",
    "http://router.lan",
    "http://nas.home",
    "http://nas.home.arpa",
    "http://wiki.intranet",
    "http://wiki.corp",
    "http://wiki.private",
    "http://db.internal",
    "http://ip-10-0-0-1.ec2.internal",
    // Numbers that no address has: some resolver may wrap them around, none is a name.
    "http://4294967296",
    "http://6425673729",
    "http://0x17f000001",
    "http://127.0.0.256",
    "http://127.0.0.1.1",
    "http://256.0.0.1",
    "http://127.0.65536",
    "http://127.0x1000000",
    "http://0x7f.0.0.0x100",
    "http://0x7f.0.0.0.1",
    "http://a.1",
    "http://127.0.0.0x",
    "http://example.0x7f000001",
    "http://example.10.",
    "http://08.09.0a.1",
];

/// What nothing allows.
const NEVER_ALLOWED: &[&str] = &[
    "http://0",
    "http://0.0.0.0",
    "http://0.0.0.0:8080",
    "http://0x0",
    "http://0x",
    "http://00",
    "http://0.0",
    "http://000000000000",
    "http://[::]",
    "http://[0:0:0:0:0:0:0:0]:80",
    "http://[::ffff:0.0.0.0]",
    "http://169.254.0.1",
    "http://169.254.169.254",
    "http://169.254.169.254/latest/meta-data",
    "http://169.254.169.254.",
    "http://169.254.170.2",
    "http://169.254.255.255",
    "http://169.254.43518",
    "http://169.16689662",
    "http://2852039166",
    "http://0xa9fea9fe",
    "http://0xA9.0xFE.0xA9.0xFE",
    "http://0xa9.254.0251.0376",
    "http://0251.0376.0251.0376",
    "http://025177524776",
    "http://[fe80::1]",
    "http://[FE80::1]",
    "http://[febf::1]",
    "http://[fd00:ec2::254]",
    "http://[fd20:ce::254]",
    "http://[::ffff:169.254.169.254]",
    "http://[::ffff:a9fe:a9fe]",
    "http://[::169.254.169.254]",
    "http://[::ffff:0:169.254.169.254]",
    "http://[64:ff9b::169.254.169.254]",
    "http://[64:ff9b::a9fe:a9fe]",
    "http://[64:ff9b:1::a9fe:a9fe]",
    "http://[2002:a9fe:a9fe::1]",
    // Metadata of other clouds: Alibaba, Azure.
    "http://100.100.100.200",
    "http://1684301000",
    "http://[::ffff:100.100.100.200]",
    "http://168.63.129.16",
    "http://[::ffff:168.63.129.16]",
    "http://metadata",
    "http://METADATA.",
    "http://metadata.google.internal",
    "http://Metadata.Google.Internal.",
    "http://metadata.goog",
    "http://instance-data",
    "http://instance-data.ec2.internal",
];

/// What is no base URL at all.
const NOT_URLS: &[&str] = &[
    "",
    " ",
    "example.com",
    "//example.com",
    "http:/example.com",
    "http:example.com",
    "http://",
    "http:///",
    "http:///127.0.0.1",
    "ftp://example.com",
    "file:///etc/passwd",
    "gopher://127.0.0.1:70",
    "unix:/run/x.sock",
    "javascript:alert(1)",
    "http+unix://x",
    "https://user:pw@example.com",
    "https://user@example.com",
    "https://@example.com",
    "https://example.com@127.0.0.1",
    "https://example.com:443@127.0.0.1",
    "https://example.com?x=1",
    "https://example.com/?x=1",
    "https://example.com#@127.0.0.1",
    "https://example.com\\@127.0.0.1",
    "https://127.0.0.1\\.example.com",
    "https://example.com/../x",
    "https://example.com/%2e%2e/x",
    "https://example.com/a//b",
    "https://example.com:0",
    "https://example.com:65536",
    "https://example.com:",
    "https://example.com:80:80",
    "https://example.com:+80",
    "https://.example.com",
    "https://example..com",
    "https://example.com..",
    "https://127.0.0.1..",
    "https://exa mple.com",
    "https://example.com\t",
    "https://example.com\n",
    "https://example.com\u{0}",
    "https://exam%70le.com",
    "https://%31%32%37.0.0.1",
    "https://127%2e0%2e0%2e1",
    "https://[::1",
    "https://::1",
    "https://[127.0.0.1]",
    "https://[::1]x",
    "https://[::1]:",
    "https://[fe80::1%25eth0]",
    "https://[fe80::1%eth0]",
    "https://[::ffff:127.0.0.1.]",
    // Digits, dots and letters that are mapped to plain ones on the way to a resolver.
    "http://１２７.0.0.1",
    "http://127。0。0。1",
    "http://127．0．0．1",
    "http://127｡0｡0｡1",
    "http://①②⑦.⓪.⓪.①",
    "http://⑯⑨。②⑤④。⑯⑨｡②⑤④",
    "http://ⓛocalhost",
    "http://ｌｏｃａｌｈｏｓｔ",
    "http://loc\u{ad}alhost",
    "http://loc\u{200b}alhost",
    "http://１6９.２54.169.254",
    "http://[：：1]",
    "http：//127.0.0.1",
    "http://example.com／@127.0.0.1",
    "http://\u{212a}8s.example",
];

#[test]
fn every_spelling_of_every_address() {
    let mut count = 0;
    let mut wrong = Vec::new();
    let mut expect = |url: &str, allowed: &[String], expected: Result<(), &str>| {
        count += 1;
        let got = check(url, allowed);
        if got.as_ref().map_err(String::as_str).copied() != expected {
            wrong.push(format!("{url} with {} allowed origins: {got:?}", allowed.len()));
        }
    };
    let everything: Vec<String> =
        [PUBLIC, PRIVATE, NEVER_ALLOWED, NOT_URLS].concat().iter().map(|url| origin(url)).collect();
    for url in PUBLIC {
        expect(url, &[], Ok(()));
    }
    for url in PRIVATE {
        expect(url, &[], Err(NOT_PUBLIC));
        expect(url, &[origin(url)], Ok(()));
        let others: Vec<String> = everything.iter().filter(|other| !is_same(other, url)).cloned().collect();
        expect(url, &others, Err(NOT_PUBLIC));
    }
    for url in NEVER_ALLOWED {
        expect(url, &[], Err(NEVER));
        expect(url, &everything, Err(NEVER));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for url in NOT_URLS {
        count += 1;
        let got = check(url, &everything);
        assert!(got.as_ref().is_err_and(|why| why.starts_with("the URL ")), "{url:?}: {got:?}");
    }
    println!("{count} vectors");
    assert!(count > 500, "{count}");
}

/// Scheme, host and port as they were written.
fn origin(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    format!("{scheme}://{}", rest.split('/').next().unwrap_or_default())
}

/// Two spellings that a base URL does not tell apart: of case, and of the scheme's own port.
fn is_same(one: &str, other: &str) -> bool {
    let plain = |url: &str| {
        let origin = origin(url).to_ascii_lowercase();
        let default = if origin.starts_with("https") { ":443" } else { ":80" };
        origin.strip_suffix(default).map_or(origin.clone(), str::to_owned)
    };
    plain(one) == plain(other)
}

#[test]
fn an_allowed_origin_is_scheme_host_and_port() {
    let allowed = ["http://127.0.0.1:11434".to_owned(), "https://box.local".to_owned(), "not a URL".to_owned()];
    for (url, good) in [
        ("http://127.0.0.1:11434", true),
        ("http://127.0.0.1:11434/", true),
        ("http://127.0.0.1:11434/v1", true),
        ("HTTP://127.0.0.1:11434", true),
        ("http://127.0.0.1:11435", false),
        ("https://127.0.0.1:11434", false),
        ("http://127.0.0.1", false),
        ("http://127.0.0.2:11434", false),
        ("http://127.1:11434", false),
        ("http://2130706433:11434", false),
        ("http://[::ffff:127.0.0.1]:11434", false),
        ("http://localhost:11434", false),
        ("http://127.0.0.1.:11434", false),
        ("https://box.local", true),
        ("https://BOX.local:443/x", true),
        ("https://box.local:8443", false),
        ("http://box.local:443", false),
        ("https://a.box.local", false),
        ("not a URL", false),
    ] {
        assert_eq!(check(url, &allowed).is_ok(), good, "{url}");
    }
}
