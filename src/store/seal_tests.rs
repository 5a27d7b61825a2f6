//! Keys, values and their files together, on the real disk.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::resolve::Env;
use super::seal::Place;
use super::{Base, Rekey, Resolver, Sealed, Sealer as _, SystemDisk, SystemSealer, sealing_key};
use crate::config::Document;
use crate::hash::{ConfigHash, FingerprintKey};
use crate::secret::Secret;
use crate::snapshot::{SealingKey, Snapshot, Unready, fixture};

const VALUE: &str = "/providers/openai/keys/0/value";
const LONG: &str = "0123456789abcdef0123456789abcdef";

/// A config's directory.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn own(&self) -> SealingKey {
        SealingKey::Own { file: self.key_file() }
    }

    fn state_dir(&self) -> PathBuf {
        self.0.path().join(".keyway")
    }

    fn key_file(&self) -> PathBuf {
        self.state_dir().join("sealing.key")
    }

    fn old_file(&self) -> PathBuf {
        self.state_dir().join("sealing.key.old")
    }

    fn open(&self, sealed: &str, key: &SealingKey) -> Result<Secret, &'static str> {
        let env: Env = Arc::new(|_| None);
        let fingerprints = FingerprintKey::new([1; 32]);
        let resolver = Resolver::new(self.0.path(), &SystemDisk, &env, &fingerprints);
        resolver.unseal(sealed, VALUE, key).map_err(|unready| match unready {
            Unready::SealedUnreadable { why } => why,
            other => panic!("{other:?}"),
        })
    }
}

fn snapshot(key: SealingKey) -> Snapshot {
    Snapshot { sealing_key: key, ..fixture::snapshot(Vec::new()) }
}

/// A file whose one key holds `value`.
fn document(value: &str) -> Document {
    let text = format!(r#"{{"providers": {{"openai": {{"keys": [{{"value": "{value}"}}]}}}}}}"#);
    crate::config::read(&text).0.unwrap()
}

fn seal(sealer: &mut SystemSealer, value: &str, key: SealingKey, secret: &str) -> Result<String, String> {
    let (document, snapshot) = (document(value), snapshot(key));
    let base = Base { document: &document, snapshot: &snapshot, hash: ConfigHash::of_bytes(b"") };
    sealer.seal(&Secret::new(secret), VALUE, &base)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_key_is_made_when_it_is_first_needed() {
    let home = Home::new();
    let mut sealer = SystemSealer::default();
    assert!(!home.state_dir().exists());
    let sealed = seal(&mut sealer, "env.A", home.own(), "sk-one").unwrap();
    assert_eq!(sealer.made(), Some(&*home.key_file()));
    assert_eq!((mode(&home.state_dir()), mode(&home.key_file())), (0o700, 0o600));
    assert_eq!(std::fs::read_to_string(home.state_dir().join(".gitignore")).unwrap(), "*\n");
    assert_eq!(home.open(&sealed, &home.own()), Ok(Secret::new("sk-one")));
    // The second time it is there, also for values of other keys beside.
    let mut again = SystemSealer::default();
    let other = seal(&mut again, &sealed, home.own(), "sk-two").unwrap();
    assert_eq!((again.made(), home.open(&other, &home.own())), (None, Ok(Secret::new("sk-two"))));
    // The file's content may move to a variable as it is.
    let text = std::fs::read_to_string(home.key_file()).unwrap();
    let given = SealingKey::Given(Ok(Secret::new(text.trim_end())));
    assert_eq!(home.open(&sealed, &given), Ok(Secret::new("sk-one")));
}

#[test]
fn racing_processes_end_with_one_key() {
    let home = Home::new();
    let sealed: Vec<String> = std::thread::scope(|scope| {
        let home = &home;
        let one = move || seal(&mut SystemSealer::default(), "env.A", home.own(), "sk").unwrap();
        let all: Vec<_> = (0..16).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let ids: BTreeSet<_> = sealed.iter().map(|text| Sealed::parse(text).unwrap_or_else(|_| panic!()).key_id).collect();
    assert_eq!(ids.len(), 1);
    assert!(sealed.iter().all(|text| home.open(text, &home.own()).is_ok()));
    let left = std::fs::read_dir(home.state_dir()).unwrap().count();
    assert_eq!(left, 2, "the key and .gitignore");
}

#[test]
fn what_cannot_be_sealed_says_why_and_changes_nothing() {
    let home = Home::new();
    let sealed = seal(&mut SystemSealer::default(), "env.A", home.own(), "sk-canary").unwrap();
    let unset = SealingKey::Given(Err(Unready::EnvMissing { name: "SEAL".to_owned() }));
    let short = SealingKey::Given(Ok(Secret::new("sk-canary-short")));
    let reason = |value: &str, key: &SealingKey| {
        let error = seal(&mut SystemSealer::default(), value, key.clone(), "sk-canary").unwrap_err();
        assert!(!error.contains("canary"), "{error}");
        error
    };
    assert!(reason("env.A", &unset).contains("`management.sealing_key`: the environment variable SEAL is not set"));
    assert!(reason("env.A", &short).contains("32 characters"));
    // Lost while the file holds values of it: no new one.
    let kept = std::fs::read(home.key_file()).unwrap();
    std::fs::remove_file(home.key_file()).unwrap();
    let text = reason(&sealed, &home.own());
    assert!(text.contains("put it back") && !home.key_file().exists(), "{text}");
    assert_eq!(home.open(&sealed, &home.own()), Err("its key file is missing or cannot be read"));
    // Unusable: never written over.
    for bytes in [&b"short"[..], b"", b"\xff"] {
        std::fs::write(home.key_file(), bytes).unwrap();
        assert!(reason("env.A", &home.own()).contains("cannot be used"));
        assert_eq!(std::fs::read(home.key_file()).unwrap(), bytes);
    }
    assert_eq!(home.open(&sealed, &home.own()), Err("its key file is missing or cannot be read"));
    std::fs::write(home.key_file(), "short").unwrap();
    assert_eq!(home.open(&sealed, &home.own()), Err("its key is too short to be one"));
    std::fs::write(home.key_file(), LONG).unwrap();
    assert_eq!(home.open(&sealed, &home.own()), Err("it was sealed under another key"));
    std::fs::write(home.key_file(), kept).unwrap();
    assert_eq!(home.open(&sealed, &home.own()), Ok(Secret::new("sk-canary")));
    assert_eq!(home.open(&sealed, &unset), Err("`management.sealing_key` gives no key"));
    // A directory that cannot be made.
    let blocked = Home::new();
    std::fs::write(blocked.state_dir(), "").unwrap();
    assert!(reason("env.A", &blocked.own()).contains("cannot be made"));
}

#[test]
fn key_files_are_watched() {
    let home = Home::new();
    let sealed = seal(&mut SystemSealer::default(), "env.A", home.own(), "sk").unwrap();
    let env: Env = Arc::new(|_| None);
    let fingerprints = FingerprintKey::new([1; 32]);
    let asked = || {
        let resolver = Resolver::new(home.0.path(), &SystemDisk, &env, &fingerprints);
        let _ = resolver.unseal(&sealed, VALUE, &home.own());
        resolver.into_files()
    };
    let files = asked();
    assert!(files.len() == 1 && files[&home.key_file()].is_some());
    std::fs::remove_file(home.key_file()).unwrap();
    let files = asked();
    assert!(files[&home.key_file()].is_none() && files.contains_key(&home.old_file()), "{files:?}");
}

#[test]
fn modes_of_others_are_seen() {
    let home = Home::new();
    seal(&mut SystemSealer::default(), "env.A", home.own(), "sk").unwrap();
    for (mode, expected) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true), (0o620, true)] {
        std::fs::set_permissions(home.key_file(), std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(sealing_key::is_exposed(&home.key_file()), expected, "{mode:o}");
    }
    assert!(!sealing_key::is_exposed(&home.old_file()));
}

/// One run, cut off after `steps` of: keys written, config written, old key removed.
fn rekey(home: &Home, sealed: &mut String, steps: usize) -> Result<(), String> {
    let used = BTreeSet::from([Sealed::parse(sealed).map_err(|_| "damaged")?.key_id]);
    let mut rekey = Rekey::plan(&home.own(), None, &used, &home.state_dir())?;
    let place = Place::of(VALUE);
    let secret = rekey.open(sealed, &place).map_err(|fault| fault.as_str())?;
    let new = rekey.seal(&secret, &place)?;
    if steps > 0 {
        rekey.put_keys().unwrap();
    }
    if steps > 1 {
        *sealed = new;
    }
    if steps > 2 {
        rekey.finish().unwrap();
    }
    Ok(())
}

#[test]
fn every_way_to_be_cut_off_leaves_all_values_readable() {
    // Three runs in a row, each cut off anywhere, and one that is not.
    let mut count = 0;
    for cuts in 0..64usize {
        let home = Home::new();
        let mut sealed = seal(&mut SystemSealer::default(), "env.A", home.own(), "sk").unwrap();
        let first = Sealed::parse(&sealed).map(|it| it.key_id).ok();
        for steps in [cuts % 4, cuts / 4 % 4, cuts / 16, 3] {
            rekey(&home, &mut sealed, steps).unwrap();
            assert_eq!(home.open(&sealed, &home.own()), Ok(Secret::new("sk")), "{cuts} {steps}");
            count += 1;
        }
        assert_ne!(Sealed::parse(&sealed).map(|it| it.key_id).ok(), first, "{cuts}");
        assert!(!home.old_file().exists(), "{cuts}");
        assert_eq!(mode(&home.key_file()), 0o600);
    }
    println!("{count} runs");
}

#[test]
fn between_the_two_key_files_nothing_is_lost() {
    let home = Home::new();
    let mut sealed = seal(&mut SystemSealer::default(), "env.A", home.own(), "sk").unwrap();
    // Cut off when the old key lies aside and the new one is not there yet.
    std::fs::copy(home.key_file(), home.old_file()).unwrap();
    let first = std::fs::read(home.key_file()).unwrap();
    rekey(&home, &mut sealed, 3).unwrap();
    assert_ne!(std::fs::read(home.key_file()).unwrap(), first);
    assert_eq!(home.open(&sealed, &home.own()), Ok(Secret::new("sk")));
}

#[test]
fn two_at_once_do_not_mix() {
    let home = Home::new();
    let mut sealed = seal(&mut SystemSealer::default(), "env.A", home.own(), "sk").unwrap();
    let used = BTreeSet::from([Sealed::parse(&sealed).map(|it| it.key_id).unwrap_or_else(|_| panic!())]);
    let held = Rekey::plan(&home.own(), None, &used, &home.state_dir()).unwrap();
    assert!(rekey(&home, &mut sealed, 3).unwrap_err().contains("lock"));
    drop(held);
    rekey(&home, &mut sealed, 3).unwrap();
}

#[test]
fn from_and_to_a_given_key() {
    let home = Home::new();
    let sealed = seal(&mut SystemSealer::default(), "env.A", home.own(), "sk").unwrap();
    let id = |text: &str| Sealed::parse(text).map(|it| it.key_id).unwrap_or_else(|_| panic!());
    let (place, given) = (Place::of(VALUE), SealingKey::Given(Ok(Secret::new(LONG))));
    // The file of before is found by itself.
    let to = Rekey::plan(&given, None, &BTreeSet::from([id(&sealed)]), &home.state_dir()).unwrap();
    let moved = to.seal(&to.open(&sealed, &place).unwrap(), &place).unwrap();
    assert_eq!(home.open(&moved, &given), Ok(Secret::new("sk")));
    // And back again, where the old one has to be told.
    let used = BTreeSet::from([id(&moved)]);
    let blind = Rekey::plan(&home.own(), None, &used, &home.state_dir()).unwrap();
    assert!(blind.open(&moved, &place).is_err());
    drop(blind);
    let mut back = Rekey::plan(&home.own(), Some(Secret::new(LONG)), &used, &home.state_dir()).unwrap();
    let again = back.seal(&back.open(&moved, &place).unwrap(), &place).unwrap();
    back.put_keys().unwrap();
    assert_eq!(home.open(&again, &home.own()), Ok(Secret::new("sk")));
    let unset = SealingKey::Given(Err(Unready::EnvMissing { name: "SEAL".to_owned() }));
    assert!(Rekey::plan(&unset, None, &used, &home.state_dir()).is_err_and(|why| why.contains("SEAL")));
}
