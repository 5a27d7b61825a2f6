//! `state.redis`: where several gateways share limits and budgets.

use super::Compiler;
use crate::config::file::StateFile;
use crate::secret::Secret;
use crate::snapshot::{RedisAddress, Unready};

const POINTER: &str = "/state/redis";
const PORT: u16 = 6379;
/// Redis has 16 unless it is told otherwise.
const DATABASES_MAX: u16 = 1024;

pub(super) fn of(cx: &mut Compiler<'_>, file: Option<&StateFile>) -> Option<Result<RedisAddress, Unready>> {
    let redis = file?.redis.as_ref()?;
    let Some(url) = &redis.url else {
        cx.missing(POINTER, "url", "like `redis://host:6379`, mostly `\"env.REDIS_URL\"`");
        return Some(Err(Unready::Incomplete { what: "no url".to_owned() }));
    };
    Some(cx.redis_address(url, &format!("{POINTER}/url")))
}

/// `redis://[[user]:password@]host[:port][/database]`.
pub(super) fn parse(text: &str) -> Result<RedisAddress, &'static str> {
    if text.starts_with("rediss://") {
        return Err("asks for TLS, which this release does not speak to Redis");
    }
    let rest = text.strip_prefix("redis://").ok_or("does not begin with `redis://`")?;
    let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
    let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let is_host = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    if host.is_empty() || !host.bytes().all(is_host) {
        return Err("has no host");
    }
    let port = port.map_or(Ok(PORT), |port| port.parse().map_err(|_| "has a port that is none"))?;
    let database = match database {
        "" => 0,
        number => number.parse().ok().filter(|it| *it <= DATABASES_MAX).ok_or("has a database that is no number")?,
    };
    let (user, password) = match login {
        None => (None, None),
        Some(login) => {
            let (user, password) = login.split_once(':').ok_or("has a user without a password")?;
            let user = decoded(user).ok_or("has a bad escape")?;
            let password = decoded(password).ok_or("has a bad escape")?;
            ((!user.is_empty()).then(|| user.into()), Some(Secret::new(password)))
        }
    };
    Ok(RedisAddress { host: host.into(), port, database, user, password })
}

/// `%XX` undone.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, behind) = rest.split_first_chunk::<2>()?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("redis://h", Ok(("h", 6379, 0, None, None))),
            ("redis://h:1/", Ok(("h", 1, 0, None, None))),
            ("redis://10.0.0.1:6380/3", Ok(("10.0.0.1", 6380, 3, None, None))),
            ("redis://[::1]:7", Ok(("::1", 7, 0, None, None))),
            ("redis://:p%40ss@h", Ok(("h", 6379, 0, None, Some("p@ss")))),
            ("redis://me:p@ss@h/1", Ok(("h", 6379, 1, Some("me"), Some("p@ss")))),
            ("rediss://h", Err("asks for TLS, which this release does not speak to Redis")),
            ("http://h", Err("does not begin with `redis://`")),
            ("redis://", Err("has no host")),
            ("redis://h h", Err("has no host")),
            ("redis://h:x", Err("has a port that is none")),
            ("redis://h/x", Err("has a database that is no number")),
            ("redis://me@h", Err("has a user without a password")),
            ("redis://:%zz@h", Err("has a bad escape")),
        ] {
            let parsed = parse(text);
            let seen = parsed.as_ref().map(|it| {
                let password = it.password.as_ref().map(Secret::expose);
                (&*it.host, it.port, it.database, it.user.as_deref(), password)
            });
            assert_eq!(seen, expected.as_ref().map(|it| *it), "{text}");
        }
    }
}
