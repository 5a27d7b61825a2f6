//! Looks references up and remembers what they led to: part of what a generation is.
//!
//! The only file of compile that opens a [`Secret`]: for URLs, headers, PEM and digests. What it
//! returns about a value that is no good never quotes it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::HeaderValue;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{Compiler, redis};
use crate::config::{Code, Problem, SecretRef};
use crate::hash::{Fingerprint, FingerprintKey, token_digest};
use crate::limits::{SEALING_KEY_CHARS_MIN, TOKEN_BYTES_MAX, TOKEN_BYTES_MIN};
use crate::provider::credential::{Aws, AwsSource, Entra, EntraApp, Google, Source};
use crate::provider::{BaseUrl, ProxyUrl};
use crate::secret::Secret;
use crate::snapshot::resolve::{Resolve, Unresolved};
use crate::snapshot::{Glimpse, ProxyKind, ProxyServer, Reach, RedisAddress, SealingKey, Unready};
use crate::token::is_torn;

/// The references of one compile.
pub(super) struct Secrets<'a> {
    resolve: &'a dyn Resolve,
    dir: &'a Path,
    strict: bool,
    /// What each reference led to, in the order of asking.
    resolved: Vec<Option<Secret>>,
    files: Vec<PathBuf>,
    /// `None` until it is known: the key is itself a reference.
    sealing_key: Option<SealingKey>,
    /// Some value is sealed.
    any_sealed: bool,
    masks: HashMap<Box<str>, Glimpse>,
}

/// What came of all the asking.
pub(super) struct Found {
    /// Files that were asked for.
    pub files: Vec<PathBuf>,
    /// Of all that was found.
    pub fingerprint: Fingerprint,
    /// Of sealed values, by pointer.
    pub masks: HashMap<Box<str>, Glimpse>,
}

impl<'a> Secrets<'a> {
    pub(super) fn new(resolve: &'a dyn Resolve, dir: &'a Path, strict: bool) -> Self {
        Self {
            resolve,
            dir,
            strict,
            resolved: Vec::new(),
            files: Vec::new(),
            sealing_key: None,
            any_sealed: false,
            masks: HashMap::new(),
        }
    }

    /// From now on sealed values can be opened.
    pub(super) fn open_with(&mut self, key: SealingKey) {
        self.sealing_key = Some(key);
    }

    /// The key file of our own, where some value needs it.
    pub(super) fn own_key_in_use(&self) -> Option<PathBuf> {
        match &self.sealing_key {
            Some(SealingKey::Own { file }) if self.any_sealed => Some(file.clone()),
            _ => None,
        }
    }

    pub(super) fn is_exposed(&self, path: &Path) -> bool {
        self.resolve.is_exposed(path)
    }

    pub(super) fn into_found(self, key: &FingerprintKey) -> Found {
        let parts = self.resolved.iter().map(|secret| secret.as_ref().map(Secret::expose));
        let fingerprint = Fingerprint::of(key, parts);
        let mut files = self.files;
        files.sort();
        files.dedup();
        Found { files, fingerprint, masks: self.masks }
    }

    fn ask(&mut self, reference: &SecretRef, pointer: &str) -> Result<Secret, Unresolved> {
        let found = match reference {
            SecretRef::Literal(secret) => return Ok(secret.clone()),
            SecretRef::Env(name) => non_empty(self.resolve.env(name), || Unready::EnvMissing { name: name.clone() }),
            SecretRef::File(path) => {
                let path = self.dir.join(path);
                let found = self.resolve.file(&path);
                self.files.push(path.clone());
                non_empty(found, || Unready::FileUnreadable { path })
            }
            SecretRef::Sealed(text) => self.unseal(text, pointer),
        };
        self.resolved.push(found.as_ref().ok().cloned());
        found
    }
}

impl Secrets<'_> {
    fn unseal(&mut self, text: &str, pointer: &str) -> Result<Secret, Unresolved> {
        self.any_sealed = true;
        let unreadable = |why| Unready::SealedUnreadable { why };
        // The key itself, which is reported where it is read.
        let Some(key) = &self.sealing_key else { return Err(unreadable("it is the key itself").into()) };
        let found = non_empty(self.resolve.unseal(text, pointer, key), || unreadable("it is empty"));
        if let Ok(secret) = &found {
            self.masks.insert(pointer.into(), Glimpse::of(secret));
        }
        found
    }
}

/// An empty value is as good as none, whoever resolves.
fn non_empty(found: Result<Secret, Unresolved>, lost: impl FnOnce() -> Unready) -> Result<Secret, Unresolved> {
    match found {
        Ok(secret) if secret.is_empty() => Err(Unresolved::Lost(lost())),
        other => other,
    }
}

/// What a dry run leaves open.
fn not_asked() -> Unready {
    Unready::Incomplete { what: "not resolved in a dry run".to_owned() }
}

impl Compiler<'_> {
    /// The value of a reference. One that leads nowhere is a warning (CONTRACT 2.2): what needs it
    /// is not ready and says so.
    pub(super) fn look(&mut self, reference: &SecretRef, pointer: &str) -> Result<Secret, Unready> {
        self.secrets.ask(reference, pointer).map_err(|unresolved| match unresolved {
            Unresolved::NotAsked => not_asked(),
            Unresolved::Lost(unready) => {
                self.lost(pointer, &unready);
                unready
            }
        })
    }

    /// A file that must be there: not a secret that one key can do without. `None` in a dry run and
    /// after an error.
    pub(super) fn required_file(&mut self, path: &str, pointer: &str) -> Option<Secret> {
        let found = self.secrets.ask(&SecretRef::File(path.into()), pointer);
        if let Err(Unresolved::Lost(_)) = &found {
            self.problems.error(Code::Unresolved, pointer, "the file cannot be read, or is empty");
        }
        found.ok()
    }

    /// A value that is there and of no use: the author's mistake where it is written out, sealed or
    /// not, else the environment's, which must not stop the other keys.
    pub(super) fn unusable(&mut self, reference: &SecretRef, pointer: &str, what: String) -> Unready {
        let unready = Unready::Incomplete { what: what.clone() };
        if matches!(reference, SecretRef::Literal(_) | SecretRef::Sealed(_)) {
            self.problems.error(Code::BadValue, pointer, what);
        } else {
            self.soft(Code::BadValue, pointer, format!("what the reference stands for: {what}"));
        }
        unready
    }

    /// A base URL, taken apart.
    pub(super) fn base_url(
        &mut self,
        reference: &SecretRef,
        pointer: &str,
        version_prefix: &str,
    ) -> Result<BaseUrl, Unready> {
        let secret = self.look(reference, pointer)?;
        BaseUrl::parse(secret.expose(), version_prefix)
            .map_err(|what| self.unusable(reference, pointer, format!("the URL {what}")))
    }

    /// Where a Redis is, and how to be let in.
    pub(super) fn redis_address(&mut self, reference: &SecretRef, pointer: &str) -> Result<RedisAddress, Unready> {
        let secret = self.look(reference, pointer)?;
        redis::parse(secret.expose()).map_err(|what| self.unusable(reference, pointer, format!("the URL {what}")))
    }

    /// Digest of a token that a caller will have to show.
    pub(super) fn token(&mut self, reference: &SecretRef, pointer: &str) -> Result<blake3::Hash, Unready> {
        let secret = self.look(reference, pointer)?;
        let token = secret.expose();
        let what = if token.len() < TOKEN_BYTES_MIN {
            format!("the token is shorter than {TOKEN_BYTES_MIN} characters")
        } else if token.len() > TOKEN_BYTES_MAX {
            format!("the token is longer than {TOKEN_BYTES_MAX} characters")
        } else if !token.bytes().all(|b| b.is_ascii_graphic()) {
            "the token holds blanks or characters that a header cannot carry".to_owned()
        } else if is_torn(token.as_bytes()) {
            "the token begins like one of `keyway token new`, but a character of it is missing or wrong".to_owned()
        } else {
            return Ok(token_digest(token.as_bytes()));
        };
        Err(self.unusable(reference, pointer, what))
    }

    /// What seals: long enough not to be guessed from a copy of the file.
    pub(super) fn sealing_key(&mut self, reference: &SecretRef, pointer: &str) -> Result<Secret, Unready> {
        if let SecretRef::Sealed(_) = reference {
            return Err(Unready::Incomplete { what: "it is itself sealed".to_owned() });
        }
        let secret = self.look(reference, pointer)?;
        if secret.expose().chars().count() < SEALING_KEY_CHARS_MIN {
            let what = format!("a sealing key has {SEALING_KEY_CHARS_MIN} characters or more");
            return Err(self.unusable(reference, pointer, what));
        }
        Ok(secret)
    }

    /// Value of a header that every call carries.
    pub(super) fn header_value(&mut self, reference: &SecretRef, pointer: &str) -> Result<HeaderValue, Unready> {
        let secret = self.look(reference, pointer)?;
        let text = secret.expose();
        let clean = text.bytes().all(|b| (b' '..=b'~').contains(&b)) && text.trim() == text;
        match HeaderValue::from_str(text) {
            Ok(mut value) if clean => {
                // It may be a credential; marked so that it is not indexed in HPACK nor printed.
                value.set_sensitive(true);
                Ok(value)
            }
            _ => Err(self.unusable(reference, pointer, "not a value that a header can carry".to_owned())),
        }
    }

    /// Where a proxy of this kind is.
    pub(super) fn proxy_url(
        &mut self,
        reference: &SecretRef,
        kind: ProxyKind,
        pointer: &str,
    ) -> Result<ProxyUrl, Unready> {
        let secret = self.look(reference, pointer)?;
        let what = match ProxyUrl::parse(secret.expose()) {
            Ok(url) if url.socks == (kind == ProxyKind::Socks5) => return Ok(url),
            Ok(_) => "does not go with the `type` of the proxy",
            Err(what) => what,
        };
        Err(self.unusable(reference, pointer, format!("the URL {what}")))
    }

    /// Name or password at a proxy.
    pub(super) fn proxy_login(
        &mut self,
        reference: &SecretRef,
        pointer: &str,
        bytes_max: usize,
    ) -> Result<Secret, Unready> {
        let secret = self.look(reference, pointer)?;
        if secret.expose().len() > bytes_max || secret.expose().chars().any(char::is_control) {
            let what = format!("longer than {bytes_max} bytes, or with characters that no login has");
            return Err(self.unusable(reference, pointer, what));
        }
        Ok(secret)
    }

    /// The proxy that the first of these variables names. A variable that is not set is no problem.
    pub(super) fn proxy_of_environment(
        &mut self,
        names: &[&str],
        pointer: &str,
    ) -> Result<Option<Arc<ProxyServer>>, Unready> {
        let Some((name, secret)) = names.iter().find_map(|name| Some((*name, self.variable(name)?))) else {
            return Ok(None);
        };
        match ProxyUrl::from_environment(secret.expose()) {
            Ok((url, login)) => {
                let ProxyUrl { socks, tls, host, port } = url;
                let kind = if socks { ProxyKind::Socks5 } else { ProxyKind::Http };
                let login = login.map(|(name, password)| (Secret::new(name), Secret::new(password)));
                let (ca_pem, reach) = (None, Reach::Anywhere);
                Ok(Some(Arc::new(ProxyServer { kind, tls, host, port, ca_pem, login, reach })))
            }
            Err(what) => Err(self.unusable(&SecretRef::Env(name.to_owned()), pointer, format!("the URL {what}"))),
        }
    }

    /// `NO_PROXY`.
    pub(super) fn proxy_exemptions(&mut self) -> Box<str> {
        let list = ["NO_PROXY", "no_proxy"].iter().find_map(|name| self.variable(name));
        list.map_or_else(Box::default, |list| list.expose().into())
    }

    fn variable(&mut self, name: &str) -> Option<Secret> {
        self.secrets.ask(&SecretRef::Env(name.to_owned()), "").ok()
    }

    /// PEM of one or more certificates.
    pub(super) fn certificates(&mut self, reference: &SecretRef, pointer: &str) -> Result<Arc<str>, Unready> {
        let secret = self.look(reference, pointer)?;
        // It would be shown with the settings of the provider, for certificates are no secret.
        if secret.expose().contains("PRIVATE KEY-----") {
            let what = "a private key does not belong here, certificates alone do";
            return Err(self.unusable(reference, pointer, what.to_owned()));
        }
        match check_certificates(&secret) {
            Ok(()) => Ok(secret.expose().into()),
            Err(what) => Err(self.unusable(reference, pointer, what.to_owned())),
        }
    }

    fn lost(&mut self, pointer: &str, unready: &Unready) {
        let (message, hint) = match unready {
            Unready::EnvMissing { name } => (
                format!("the environment variable {name} is not set, or is empty"),
                "set it and restart, or refer to a file, which is watched",
            ),
            Unready::FileUnreadable { .. } => (
                "the secret file cannot be read, or is empty".to_owned(),
                "relative paths count from the directory of the config file",
            ),
            Unready::SealedUnreadable { why } => (
                format!("the sealed value cannot be opened: {why}"),
                "put the key back that it was sealed under, or write the secret anew",
            ),
            Unready::Incomplete { what } => (what.clone(), "what needs it is not used until it is there"),
        };
        self.soft(Code::Unresolved, pointer, message).hint(hint);
    }

    /// A warning, or an error where references must resolve.
    fn soft(&mut self, code: Code, pointer: &str, message: String) -> &mut Problem {
        if self.secrets.strict {
            self.problems.error(code, pointer, message)
        } else {
            self.problems.warning(code, pointer, message)
        }
    }
}

/// Whether a text is PEM of at least one certificate.
pub(super) fn check_certificates(pem: &Secret) -> Result<(), &'static str> {
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(pem.expose().as_bytes()) {
        certificate.map_err(|_| "the PEM is broken")?;
        count += 1;
    }
    if count == 0 { Err("no certificate in PEM form") } else { Ok(()) }
}

/// Whether a text is PEM with a private key.
pub(super) fn check_private_key(pem: &Secret) -> Result<(), &'static str> {
    PrivateKeyDer::from_pem_slice(pem.expose().as_bytes()).map(drop).map_err(|_| "no private key in PEM form")
}

/// What tells a proxy apart from another, its login included.
pub(super) fn hash_proxy(hasher: &mut blake3::Hasher, proxy: &ProxyServer) {
    let ProxyServer { kind, tls, host, port, ca_pem, login, reach } = proxy;
    hasher.update(format!("{kind:?} {tls} {port} {reach:?} {}", login.is_some()).as_bytes());
    let login = login.iter().flat_map(|(name, password)| [name.expose(), password.expose()]);
    for part in [&**host, ca_pem.as_deref().unwrap_or_default()].into_iter().chain(login) {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
}

/// The text of a certificate chain, which is no secret.
pub(super) fn public_text(pem: &Secret) -> Arc<str> {
    pem.expose().into()
}

/// Fingerprint of what one key sends: its secret, where it goes, and what goes along.
pub(super) fn fingerprint_of(
    key: &FingerprintKey,
    value: Option<&Secret>,
    destination: Option<&str>,
    headers: &[(http::HeaderName, HeaderValue)],
) -> Fingerprint {
    let along = headers.iter().flat_map(|(name, value)| [Some(name.as_str()), value.to_str().ok()]);
    Fingerprint::of(key, [value.map(Secret::expose), destination].into_iter().chain(along))
}

/// Fingerprint of what a token is fetched with. Two sources never share one: each part has its place.
pub(super) fn fingerprint_of_source(key: &FingerprintKey, source: &Source) -> Fingerprint {
    let open = |secret: &'_ Secret| -> Option<String> { Some(secret.expose().to_owned()) };
    let text = |text: &str| Some(text.to_owned());
    let maybe = |part: &Option<Box<str>>| part.as_deref().map(str::to_owned);
    let parts: Vec<Option<String>> = match source {
        Source::Entra(Entra { app, scope, cloud }) => {
            let (kind, tenant, client_id, secret) = match app {
                EntraApp::Secret { tenant, client_id, client_secret } => {
                    ("entra app", text(tenant), text(client_id), open(client_secret))
                }
                EntraApp::Ambient { tenant, client_id } => ("entra ambient", maybe(tenant), maybe(client_id), None),
            };
            vec![text(kind), tenant, client_id, secret, text(scope), text(cloud.authority())]
        }
        Source::Google(Google::ServiceAccount(account)) => {
            let id = maybe(&account.private_key_id);
            vec![text("google account"), text(&account.client_email), id, open(&account.private_key)]
        }
        Source::Google(Google::AuthorizedUser(user)) => {
            vec![text("google user"), text(&user.client_id), open(&user.client_secret), open(&user.refresh_token)]
        }
        Source::Google(Google::Ambient) => vec![text("google ambient")],
        Source::Aws(Aws { keys, role, region }) => {
            let (access, secret, token) = match keys {
                AwsSource::Static(keys) => {
                    (open(&keys.access_key), open(&keys.secret_key), keys.session_token.as_ref().and_then(open))
                }
                AwsSource::Ambient => (None, None, None),
            };
            let arn = role.as_ref().and_then(|role| text(&role.arn));
            let external = role.as_ref().and_then(|role| maybe(&role.external_id));
            let session = role.as_ref().and_then(|role| text(&role.session_name));
            vec![text("aws"), access, secret, token, text(region), arn, external, session]
        }
    };
    Fingerprint::of(key, parts.iter().map(Option::as_deref))
}

pub(in crate::snapshot) fn is_empty_literal(reference: &SecretRef) -> bool {
    matches!(reference, SecretRef::Literal(secret) if secret.is_empty())
}

/// The address that a literal spells, however it spells it; `None` for a reference.
pub(in crate::snapshot) fn literal_address(reference: &SecretRef, version_prefix: &str) -> Option<BaseUrl> {
    let SecretRef::Literal(text) = reference else { return None };
    BaseUrl::parse(text.expose(), version_prefix).ok()
}

/// The same for a proxy.
pub(in crate::snapshot) fn literal_proxy(reference: &SecretRef) -> Option<ProxyUrl> {
    let SecretRef::Literal(text) = reference else { return None };
    ProxyUrl::parse(text.expose()).ok()
}
