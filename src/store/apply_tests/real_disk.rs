//! What a file keeps when it is replaced: permissions, owner, links; on the disk of the machine.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::PathBuf;

use super::*;

struct Rig {
    dir: tempfile::TempDir,
    writer: Writer,
    store: Arc<Store>,
}

impl Rig {
    /// With `set_up` making the file; it says where the config is.
    fn new(set_up: impl FnOnce(&Path) -> PathBuf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = set_up(dir.path());
        let (writer, store) = Writer::start(options(&path, Arc::new(SystemDisk), &Told::default())).unwrap();
        Self { dir, writer, store }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn weight(&mut self, weight: u32) -> Result<Written, ApplyError> {
        self.writer.apply(Box::new(KeyChange::weight("a", weight))).await
    }

    /// Every file below, links not followed.
    fn names(&self) -> Vec<String> {
        let output = std::process::Command::new("find").arg(".").current_dir(self.dir.path()).output().unwrap();
        let mut names: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        names.sort();
        names
    }
}

fn plain(dir: &Path) -> PathBuf {
    let path = dir.join("config.json");
    std::fs::write(&path, text_of(&[("a", 1)])).unwrap();
    path
}

#[test]
fn permissions_and_owner_stay() {
    paused(|| async {
        let modes = [0o600, 0o640, 0o644, 0o666, 0o604, 0o2640];
        for mode in modes {
            let mut rig = Rig::new(plain);
            let path = rig.at("config.json");
            if rustix::process::getuid().is_root() {
                std::os::unix::fs::chown(&path, Some(12_345), Some(54_321)).unwrap();
            }
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let before = std::fs::metadata(&path).unwrap();
            rig.weight(3).await.unwrap();
            let after = std::fs::metadata(&path).unwrap();
            let kept = |of: &std::fs::Metadata| (of.mode(), of.uid(), of.gid());
            assert_eq!(kept(&before), kept(&after), "{mode:o}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text_of(&[("a", 3)]));
            assert_eq!(rig.names(), [".", "./config.json"]);
        }
        println!("modes: {}", modes.len());
    });
}

#[test]
fn links_stay_links() {
    paused(|| async {
        let mut rig = Rig::new(|dir| {
            std::fs::create_dir_all(dir.join("repository/deep")).unwrap();
            plain(&dir.join("repository/deep"));
            symlink("repository/deep", dir.join("current")).unwrap();
            symlink("current/config.json", dir.join("config.json")).unwrap();
            dir.join("config.json")
        });
        rig.weight(3).await.unwrap();
        assert_eq!(std::fs::read_link(rig.at("config.json")).unwrap(), Path::new("current/config.json"));
        let file = rig.at("repository/deep/config.json");
        assert!(!std::fs::symlink_metadata(&file).unwrap().is_symlink());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text_of(&[("a", 3)]));
        let expected =
            [".", "./config.json", "./current", "./repository", "./repository/deep", "./repository/deep/config.json"];
        assert_eq!(rig.names(), expected);
        // The link leads elsewhere now: that is the file which is written.
        std::fs::create_dir(rig.at("other")).unwrap();
        std::fs::write(rig.at("other/c"), text_of(&[("a", 5)])).unwrap();
        std::fs::remove_file(rig.at("config.json")).unwrap();
        symlink("other/c", rig.at("config.json")).unwrap();
        rig.weight(6).await.unwrap();
        assert_eq!(std::fs::read_to_string(rig.at("other/c")).unwrap(), text_of(&[("a", 6)]));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text_of(&[("a", 3)]));
    });
}

#[test]
fn an_equal_change_touches_nothing() {
    paused(|| async {
        let mut rig = Rig::new(plain);
        let state = |rig: &Rig| {
            let (file, dir) =
                (std::fs::metadata(rig.at("config.json")).unwrap(), std::fs::metadata(rig.dir.path()).unwrap());
            (file.ino(), file.mtime_nsec(), file.ctime_nsec(), dir.mtime_nsec())
        };
        let before = state(&rig);
        assert!(!rig.weight(1).await.unwrap().changed);
        assert_eq!(state(&rig), before);
        assert!(rig.weight(2).await.unwrap().changed);
        assert_ne!(state(&rig), before);
        assert_eq!(rig.store.snapshot().mark.number, 2);
    });
}

#[test]
fn a_directory_that_may_not_be_written_to() {
    if rustix::process::getuid().is_root() {
        // Nothing is forbidden to root; the scripted disk has shown what comes of EACCES.
        return;
    }
    paused(|| async {
        let mut rig = Rig::new(plain);
        std::fs::set_permissions(rig.dir.path(), PermissionsExt::from_mode(0o555)).unwrap();
        let answer = rig.weight(2).await;
        std::fs::set_permissions(rig.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        assert!(matches!(answer, Err(ApplyError::ReadOnly { .. })), "{answer:?}");
        rig.weight(2).await.unwrap();
    });
}

/// A start removes what is exactly ours, beside the link and beside the file, and nothing else.
#[test]
fn leftovers_go_at_the_start() {
    let ours = ".config.json.4711-0011223344556677a.keyway-tmp";
    let strangers = [
        ".config.json.swp",
        ".other.json.4711-0011223344556677a.keyway-tmp",
        "config.json~",
        ".config.json.keyway-tmp",
    ];
    let rig = Rig::new(|dir| {
        std::fs::create_dir(dir.join("real")).unwrap();
        plain(&dir.join("real"));
        symlink("real/config.json", dir.join("config.json")).unwrap();
        for place in [dir.to_owned(), dir.join("real")] {
            for name in strangers.iter().chain([&ours]) {
                std::fs::write(place.join(name), "x").unwrap();
            }
        }
        dir.join("config.json")
    });
    for place in ["", "real"] {
        assert!(!rig.at(place).join(ours).exists());
        for name in strangers {
            assert!(rig.at(place).join(name).exists(), "{place}/{name}");
        }
    }
    println!("leftovers: 2, strangers: {}", 2 * strangers.len());
}
