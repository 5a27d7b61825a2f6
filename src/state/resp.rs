//! Redis by its own words: commands out, replies in, many at a time. Blocks, within its deadlines.
//!
//! RESP 2, as every Redis since 2.0 speaks it. Knows no key and no meaning. An error of the server is
//! told by its first word alone.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};

use crate::limits::{REDIS_DEADLINE, REDIS_LINE_BYTES_MAX, REDIS_LIST_MAX, REDIS_TEXT_BYTES_MAX};
use crate::secret::Secret;

/// A Redis server, and how to be let in.
#[derive(Clone, Debug)]
pub struct RedisTarget {
    pub host: Box<str>,
    pub port: u16,
    pub database: u16,
    pub user: Option<Box<str>>,
    pub password: Option<Secret>,
}

impl RedisTarget {
    /// For people: no user and no password.
    pub fn address(&self) -> String {
        format!("{}:{}/{}", self.host, self.port, self.database)
    }
}

/// What the server says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Reply {
    Text(Vec<u8>),
    Number(i64),
    List(Vec<Reply>),
    Nothing,
}

/// A command: its name and arguments.
pub(super) type Words = Vec<Vec<u8>>;

pub(super) fn words(parts: &[&[u8]]) -> Words {
    parts.iter().map(|part| part.to_vec()).collect()
}

/// One connection.
pub(super) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(target: &RedisTarget) -> io::Result<Self> {
        let mut last = io::Error::other("the name has no address");
        for address in (&*target.host, target.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, REDIS_DEADLINE) {
                Ok(stream) => return Self::enter(stream, target),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn enter(stream: TcpStream, target: &RedisTarget) -> io::Result<Self> {
        stream.set_read_timeout(Some(REDIS_DEADLINE))?;
        stream.set_write_timeout(Some(REDIS_DEADLINE))?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream: BufReader::new(stream) };
        let mut hello = Vec::new();
        if let Some(password) = &target.password {
            let mut auth = words(&[b"AUTH"]);
            auth.extend(target.user.as_ref().map(|user| user.as_bytes().to_vec()));
            auth.push(password.expose().as_bytes().to_vec());
            hello.push(auth);
        }
        if target.database != 0 {
            hello.push(words(&[b"SELECT", target.database.to_string().as_bytes()]));
        }
        client.ask(&hello)?;
        Ok(client)
    }

    /// Sends all commands at once and takes their replies. After an error the connection is of no use.
    pub fn ask(&mut self, commands: &[Words]) -> io::Result<Vec<Reply>> {
        let mut out = Vec::new();
        for command in commands {
            out.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
            for word in command {
                out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
                out.extend_from_slice(word);
                out.extend_from_slice(b"\r\n");
            }
        }
        self.stream.get_mut().write_all(&out)?;
        commands.iter().map(|_| self.reply(REPLY_DEPTH_MAX)).collect()
    }

    fn reply(&mut self, depth: u8) -> io::Result<Reply> {
        let line = self.line()?;
        let (kind, rest) = line.split_first().ok_or_else(garbled)?;
        match kind {
            b'+' => Ok(Reply::Text(rest.to_vec())),
            b':' => number(rest).map(Reply::Number),
            b'$' => match length(rest, REDIS_TEXT_BYTES_MAX)? {
                None => Ok(Reply::Nothing),
                Some(length) => {
                    let mut text = vec![0; length + 2];
                    self.stream.read_exact(&mut text)?;
                    text.truncate(length);
                    Ok(Reply::Text(text))
                }
            },
            b'*' if depth > 0 => match length(rest, REDIS_LIST_MAX)? {
                None => Ok(Reply::Nothing),
                Some(length) => Ok(Reply::List((0..length).map(|_| self.reply(depth - 1)).collect::<Result<_, _>>()?)),
            },
            b'-' => {
                let word = rest.split(|byte| *byte == b' ').next().unwrap_or_default();
                Err(io::Error::other(format!("redis refuses: {}", String::from_utf8_lossy(word))))
            }
            _ => Err(garbled()),
        }
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        (&mut self.stream).take(REDIS_LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.strip_suffix(b"\r\n") {
            Some(text) => Ok(text.to_vec()),
            None => Err(garbled()),
        }
    }
}

/// Lists within lists that are read.
const REPLY_DEPTH_MAX: u8 = 2;

fn garbled() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "that is not what redis says")
}

fn number(text: &[u8]) -> io::Result<i64> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(garbled)
}

fn length(text: &[u8], max: usize) -> io::Result<Option<usize>> {
    match number(text)? {
        -1 => Ok(None),
        length => usize::try_from(length).ok().filter(|length| *length <= max).map(Some).ok_or_else(garbled),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that says these words, whatever it is asked.
    fn said(words: &'static [u8], commands: usize) -> io::Result<Vec<Reply>> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; 14];
                stream.read_exact(&mut asked).unwrap();
                assert_eq!(&asked, b"*1\r\n$4\r\nPING\r\n");
                stream.write_all(words).unwrap();
            });
            let target = RedisTarget { host: "127.0.0.1".into(), port, database: 0, user: None, password: None };
            Client::connect(&target)?.ask(&vec![super::words(&[b"PING"]); commands])
        })
    }

    #[test]
    fn replies() {
        let text = |text: &str| Reply::Text(text.into());
        assert_eq!(said(b"+PONG\r\n", 1).unwrap(), [text("PONG")]);
        assert_eq!(
            said(b":-7\r\n$3\r\na\r\n\r\n$-1\r\n", 3).unwrap(),
            [Reply::Number(-7), text("a\r\n"), Reply::Nothing]
        );
        let list = Reply::List(vec![text("a"), Reply::List(vec![]), Reply::Nothing]);
        assert_eq!(said(b"*3\r\n$1\r\na\r\n*0\r\n*-1\r\n", 1).unwrap(), [list]);
        let refused = said(b"-NOAUTH of secret things\r\n", 1).unwrap_err().to_string();
        assert_eq!(refused, "redis refuses: NOAUTH");
        for bad in [
            &b""[..],
            b"\r\n",
            b"PONG\r\n",
            b"+PONG",
            b":x\r\n",
            b"$-2\r\n",
            b"$5\r\nab",
            b"$99999999999\r\n",
            b"*1\r\n*1\r\n*1\r\n+a\r\n",
        ] {
            assert!(said(bad, 1).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
