//! The file system as the store sees it; and reading of one file, in a way that no file can make us
//! hang or fill the memory.
//!
//! A FIFO, a device or a directory in place of the file is refused without blocking on it; a file
//! beyond the cap is refused before its first byte is read. Follows symbolic links. How a file is
//! written stands in `disk_write.rs`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::disk_write;
use crate::hash::ConfigHash;

/// What tells two states of a file apart without reading it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FileStat {
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    /// Seconds and nanoseconds of mtime and ctime: content may change inside one second.
    pub modified: (i64, i64),
    pub changed: (i64, i64),
}

/// Why a file gave no content. Says nothing that a file may hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    Missing,
    Denied,
    /// Nothing but white space.
    Empty,
    /// Names what is there instead.
    NotRegular(&'static str),
    TooLarge {
        cap: u64,
    },
    /// Any other answer of the system, by its number.
    Failed(i32),
}

impl Refusal {
    /// For people, lower case and without the path.
    pub fn message(&self) -> String {
        match self {
            Self::Missing => "the file does not exist".to_owned(),
            Self::Denied => "the file may not be read: permission denied".to_owned(),
            Self::Empty => "the file is empty".to_owned(),
            Self::NotRegular(what) => format!("not a regular file but a {what}"),
            Self::TooLarge { cap } => format!("the file is larger than {} MiB", cap / (1024 * 1024)),
            Self::Failed(number) => {
                format!("the file cannot be read: {}", std::io::Error::from_raw_os_error(*number))
            }
        }
    }
}

/// The file system as the store sees it; tests put their own in its place. One that does not say how
/// to write is a read-only one.
pub trait Disk: Send + Sync {
    /// Content of the regular file at `path`, at most `cap` bytes, and its state before the read.
    fn read(&self, path: &Path, cap: u64) -> Result<(FileStat, Vec<u8>), Refusal>;
    fn stat(&self, path: &Path) -> Result<FileStat, Refusal>;

    /// The file that the symbolic links on the way of `path` lead to.
    fn follow(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }

    /// A new and empty file that nobody else may read; fails where anything stands already.
    fn create(&self, _path: &Path) -> io::Result<Box<dyn NewFile>> {
        Err(Errno::ROFS.into())
    }

    /// Both names change places in one step, whatever they are names of.
    fn exchange(&self, _one: &Path, _other: &Path) -> io::Result<()> {
        Err(Errno::ROFS.into())
    }

    /// Takes the place of what stands at `to`.
    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(Errno::ROFS.into())
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        Err(Errno::ROFS.into())
    }

    /// The names in a directory outlive a loss of power.
    fn sync_directory(&self, _directory: &Path) -> io::Result<()> {
        Err(Errno::ROFS.into())
    }

    /// Names in a directory that begin with `prefix`, at most [`crate::limits::LEFTOVERS_MAX`].
    fn list(&self, _directory: &Path, _prefix: &OsStr) -> io::Result<Vec<OsString>> {
        Ok(Vec::new())
    }
}

/// A file that has been created and is not yet in its place.
pub trait NewFile: Send {
    /// Gets the owner, group and permissions of the file at `model`.
    fn resemble(&mut self, model: &Path) -> io::Result<()>;
    /// All of `bytes`, after what was written before.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Content and permissions outlive a loss of power.
    fn sync(&mut self) -> io::Result<()>;
}

/// Hash of what stands at `path`, or why there is none.
pub(super) fn hash(disk: &dyn Disk, path: &Path, cap: u64) -> Result<ConfigHash, Refusal> {
    disk.read(path, cap).map(|(_, bytes)| ConfigHash::of_bytes(&bytes))
}

/// The real one.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn read(&self, path: &Path, cap: u64) -> Result<(FileStat, Vec<u8>), Refusal> {
        // NONBLOCK: opening a FIFO that nobody writes to would wait for ever. NOCTTY: a terminal
        // in place of the file must not become ours.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let descriptor = rustix::fs::open(path, flags, Mode::empty()).map_err(refusal)?;
        let raw = rustix::fs::fstat(&descriptor).map_err(refusal)?;
        regular(FileType::from_raw_mode(raw.st_mode))?;
        let stat = stat_of(&raw);
        if stat.size > cap {
            return Err(Refusal::TooLarge { cap });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(stat.size).unwrap_or(0));
        // One byte over the cap: a file that grows while it is read is seen to be too large.
        let read = File::from(descriptor).take(cap.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| Refusal::Failed(error.raw_os_error().unwrap_or(0)))?;
        if bytes.len() as u64 > cap {
            return Err(Refusal::TooLarge { cap });
        }
        Ok((stat, bytes))
    }

    fn stat(&self, path: &Path) -> Result<FileStat, Refusal> {
        let raw = rustix::fs::stat(path).map_err(refusal)?;
        regular(FileType::from_raw_mode(raw.st_mode))?;
        Ok(stat_of(&raw))
    }

    fn follow(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::canonicalize(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        disk_write::create(path)
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        disk_write::exchange(one, other)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        disk_write::sync_directory(directory)
    }

    fn list(&self, directory: &Path, prefix: &OsStr) -> io::Result<Vec<OsString>> {
        disk_write::list(directory, prefix)
    }
}

/// Device and inode: which file or directory stands at a path now.
pub(super) type Identity = (u64, u64);

/// `None` when there is nothing, or nothing that we may see.
pub(super) fn identity(path: &Path) -> Option<Identity> {
    let stat = stat_of(&rustix::fs::stat(path).ok()?);
    Some((stat.device, stat.inode))
}

fn regular(kind: FileType) -> Result<(), Refusal> {
    let what = match kind {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "directory",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        FileType::Symlink | FileType::Unknown => "special file",
    };
    Err(Refusal::NotRegular(what))
}

#[expect(clippy::useless_conversion, clippy::unnecessary_cast, reason = "the widths differ between platforms")]
fn stat_of(raw: &rustix::fs::Stat) -> FileStat {
    FileStat {
        device: raw.st_dev as u64,
        inode: u64::from(raw.st_ino),
        size: u64::try_from(raw.st_size).unwrap_or(u64::MAX),
        modified: (raw.st_mtime as i64, raw.st_mtime_nsec as i64),
        changed: (raw.st_ctime as i64, raw.st_ctime_nsec as i64),
    }
}

fn refusal(error: Errno) -> Refusal {
    match error {
        Errno::NOENT | Errno::NOTDIR => Refusal::Missing,
        Errno::ACCESS | Errno::PERM => Refusal::Denied,
        // Opening a socket, or a FIFO or device without its other side.
        Errno::NXIO => Refusal::NotRegular("special file"),
        other => Refusal::Failed(other.raw_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn reads_regular_files_only() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "text").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        std::os::unix::fs::symlink("gone", at("dangling")).unwrap();
        std::os::unix::fs::symlink("loop", at("loop")).unwrap();
        std::fs::create_dir(at("directory")).unwrap();
        let fifo = std::process::Command::new("mkfifo").arg(at("fifo")).status().unwrap();
        assert!(fifo.success());
        let _socket = UnixListener::bind(at("socket")).unwrap();
        std::fs::File::create(at("huge")).unwrap().set_len(1 << 30).unwrap();

        for (name, expected) in [
            ("file", Ok("text")),
            ("link", Ok("text")),
            ("dangling", Err(Refusal::Missing)),
            ("absent", Err(Refusal::Missing)),
            ("file/below", Err(Refusal::Missing)),
            ("loop", Err(Refusal::Failed(Errno::LOOP.raw_os_error()))),
            ("directory", Err(Refusal::NotRegular("directory"))),
            ("fifo", Err(Refusal::NotRegular("FIFO"))),
            ("socket", Err(Refusal::NotRegular("special file"))),
            ("huge", Err(Refusal::TooLarge { cap: 100 })),
        ] {
            let got = SystemDisk.read(&at(name), 100).map(|(_, bytes)| String::from_utf8(bytes).unwrap());
            assert_eq!(got, expected.map(str::to_owned), "{name}");
        }
    }

    #[test]
    fn cap_is_exact() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "12345").unwrap();
        for (cap, ok) in [(4, false), (5, true), (6, true)] {
            assert_eq!(SystemDisk.read(file.path(), cap).is_ok(), ok, "{cap}");
        }
    }

    #[test]
    fn stat_tells_states_apart() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "12345").unwrap();
        let before = SystemDisk.stat(file.path()).unwrap();
        assert_eq!(before, SystemDisk.read(file.path(), 100).unwrap().0);
        std::fs::write(file.path(), "123456").unwrap();
        assert_ne!(before, SystemDisk.stat(file.path()).unwrap());
        assert_eq!(SystemDisk.stat(Path::new("/")), Err(Refusal::NotRegular("directory")));
    }
}
