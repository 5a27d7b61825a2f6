//! Writing of a file beside another one: created, filled, made to last, put in its place.
//!
//! System calls and nothing else: the order of them, and what a failure means, is `replace.rs`'s
//! business. Never opens a file that it did not create.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::disk::NewFile;
use crate::limits::LEFTOVERS_MAX;

pub(super) fn create(path: &Path) -> io::Result<Box<dyn NewFile>> {
    // EXCL follows no symbolic link either.
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let descriptor = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(Box::new(Created { file: File::from(descriptor), written: 0 }))
}

struct Created {
    file: File,
    written: u64,
}

impl NewFile for Created {
    fn resemble(&mut self, model: &Path) -> io::Result<()> {
        let (model, own) = (rustix::fs::stat(model)?, rustix::fs::fstat(&self.file)?);
        let owner = (model.st_uid != own.st_uid).then(|| rustix::fs::Uid::from_raw(model.st_uid));
        let group = (model.st_gid != own.st_gid).then(|| rustix::fs::Gid::from_raw(model.st_gid));
        if owner.is_some() || group.is_some() {
            rustix::fs::fchown(&self.file, owner, group)?;
        }
        // After the owner: a change of owner takes bits away.
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(model.st_mode))?;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // By position: nothing else in the process writes so, which lets a tracer tell these apart.
        self.file.write_all_at(bytes, self.written)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }
}

#[cfg(any(target_os = "linux", target_os = "macos"))]
pub(super) fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags};
    Ok(rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(super) fn exchange(_one: &Path, _other: &Path) -> io::Result<()> {
    Err(Errno::NOSYS.into())
}

pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let descriptor = rustix::fs::open(directory, flags, Mode::empty())?;
    match rustix::fs::fsync(&descriptor) {
        // Some network file systems have no such thing for directories.
        Ok(()) | Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn list(directory: &Path, prefix: &OsStr) -> io::Result<Vec<OsString>> {
    let names = std::fs::read_dir(directory)?.filter_map(|entry| Some(entry.ok()?.file_name()));
    Ok(names.filter(|name| name.as_bytes().starts_with(prefix.as_bytes())).take(LEFTOVERS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};

    use super::*;
    use crate::store::{Disk as _, SystemDisk};

    #[test]
    fn a_new_file_takes_nobodys_place() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "kept").unwrap();
        symlink("elsewhere", at("dangling")).unwrap();
        for name in ["file", "dangling", "."] {
            let error = SystemDisk.create(&at(name)).err().unwrap();
            assert!([Errno::EXIST, Errno::ISDIR].map(|e| Some(e.raw_os_error())).contains(&error.raw_os_error()));
        }
        assert_eq!(std::fs::read_to_string(at("file")).unwrap(), "kept");
        assert!(!at("elsewhere").exists());
        let mut new = SystemDisk.create(&at("new")).unwrap();
        assert_eq!(std::fs::metadata(at("new")).unwrap().mode() & 0o7777, 0o600);
        std::fs::set_permissions(at("file"), PermissionsExt::from_mode(0o2640)).unwrap();
        new.write(b"te").unwrap();
        new.write(b"xt").unwrap();
        new.resemble(&at("file")).unwrap();
        new.sync().unwrap();
        assert_eq!(std::fs::metadata(at("new")).unwrap().mode() & 0o7777, 0o2640);
        assert_eq!(std::fs::read_to_string(at("new")).unwrap(), "text");
        assert!(new.resemble(&at("absent")).is_err());
    }

    #[test]
    fn places_are_exchanged_and_listed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in [".a.1", ".a.2", ".b.1", "a"] {
            std::fs::write(at(name), name).unwrap();
        }
        match SystemDisk.exchange(&at(".a.1"), &at(".b.1")) {
            Ok(()) => assert_eq!(std::fs::read_to_string(at(".a.1")).unwrap(), ".b.1"),
            // Not every file system of a test machine can.
            Err(error) => assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error())),
        }
        assert!(SystemDisk.exchange(&at(".a.1"), &at("absent")).is_err());
        let mut names = SystemDisk.list(dir.path(), OsStr::new(".a.")).unwrap();
        names.sort();
        assert_eq!(names, [".a.1", ".a.2"]);
        SystemDisk.sync_directory(dir.path()).unwrap();
        assert!(SystemDisk.sync_directory(&at("a")).is_err());
    }
}
