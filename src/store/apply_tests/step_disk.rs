//! A disk in memory that stops before every operation and does what a script says: lets somebody
//! edit the file there, fails, or is switched off.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use super::super::{Disk, FileStat, NewFile, Refusal};

pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// What becomes of one operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Go,
    Fail(Errno),
    /// The machine goes off: this operation happens by half if it can, and none after it.
    Die,
}

/// Asked before each operation, with its number since the script began and its name.
pub type Script = Box<dyn FnMut(usize, &'static str, &mut Files) -> Fate + Send>;

#[derive(Default)]
struct Inside {
    files: Files,
    script: Option<Script>,
    steps: usize,
    is_off: bool,
    /// Names of the operations since the script began.
    told: Vec<&'static str>,
    /// Any content that was ever there: what must not touch the disk.
    ever: Vec<Vec<u8>>,
}

#[derive(Clone, Default)]
pub struct StepDisk(Arc<Mutex<Inside>>);

impl StepDisk {
    pub fn with(path: &str, text: &str) -> Self {
        let disk = Self::default();
        disk.put(path, text);
        disk
    }

    /// The same files, after the power has come back.
    pub fn restarted(&self) -> Self {
        let disk = Self::default();
        disk.0.lock().unwrap().files = self.0.lock().unwrap().files.clone();
        disk
    }

    pub fn put(&self, path: &str, text: &str) {
        self.0.lock().unwrap().files.insert(path.into(), text.into());
    }

    pub fn remove_by_hand(&self, path: &str) {
        self.0.lock().unwrap().files.remove(Path::new(path));
    }

    pub fn text(&self, path: &str) -> String {
        String::from_utf8(self.0.lock().unwrap().files[Path::new(path)].clone()).unwrap()
    }

    pub fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().files.keys().map(|path| path.display().to_string()).collect()
    }

    /// From here on `script` decides.
    pub fn follow_script(&self, script: Script) {
        let mut inside = self.0.lock().unwrap();
        (inside.script, inside.steps) = (Some(script), 0);
        inside.told.clear();
    }

    /// From here on everything works; what was done since the script began.
    pub fn end_script(&self) -> Vec<&'static str> {
        let mut inside = self.0.lock().unwrap();
        inside.script = None;
        std::mem::take(&mut inside.told)
    }

    pub fn is_off(&self) -> bool {
        self.0.lock().unwrap().is_off
    }

    pub fn ever(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().ever.clone()
    }

    /// One operation: `act` is told whether it happens by half.
    fn step<T>(&self, name: &'static str, act: impl FnOnce(&mut Files, bool) -> Result<T, Errno>) -> Result<T, Errno> {
        let mut inside = self.0.lock().unwrap();
        if inside.is_off {
            return Err(Errno::IO);
        }
        let inside = &mut *inside;
        let mut fate = Fate::Go;
        if let Some(script) = &mut inside.script {
            fate = script(inside.steps, name, &mut inside.files);
            inside.steps += 1;
            inside.told.push(name);
        }
        let done = match fate {
            Fate::Go => act(&mut inside.files, false),
            Fate::Fail(errno) => Err(errno),
            Fate::Die => {
                if name == "write" {
                    let _half = act(&mut inside.files, true);
                }
                inside.is_off = true;
                Err(Errno::IO)
            }
        };
        inside.ever.extend(inside.files.values().cloned());
        inside.ever.dedup();
        done
    }
}

fn take(files: &mut Files, path: &Path) -> Result<Vec<u8>, Errno> {
    files.remove(path).ok_or(Errno::NOENT)
}

impl Disk for StepDisk {
    fn read(&self, path: &Path, cap: u64) -> Result<(FileStat, Vec<u8>), Refusal> {
        let read = self.step("read", |files, _| files.get(path).cloned().ok_or(Errno::NOENT));
        match read {
            Ok(bytes) if bytes.len() as u64 > cap => Err(Refusal::TooLarge { cap }),
            Ok(bytes) => Ok((FileStat { size: bytes.len() as u64, ..FileStat::default() }, bytes)),
            Err(Errno::NOENT) => Err(Refusal::Missing),
            Err(Errno::ACCESS | Errno::PERM) => Err(Refusal::Denied),
            Err(errno) => Err(Refusal::Failed(errno.raw_os_error())),
        }
    }

    fn stat(&self, path: &Path) -> Result<FileStat, Refusal> {
        self.read(path, u64::MAX).map(|(stat, _)| stat)
    }

    fn follow(&self, path: &Path) -> io::Result<PathBuf> {
        let followed = self.step("follow", |files, _| files.get(path).map(|_| path.to_owned()).ok_or(Errno::NOENT));
        Ok(followed?)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        self.step("create", |files, _| match files.insert(path.to_owned(), Vec::new()) {
            None => Ok(()),
            Some(_) => Err(Errno::EXIST),
        })?;
        Ok(Box::new(StepFile { disk: self.clone(), path: path.to_owned() }))
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        Ok(self.step("exchange", |files, _| {
            if !files.contains_key(other) {
                return Err(Errno::NOENT);
            }
            let moved = take(files, one)?;
            let displaced = files.insert(other.to_owned(), moved).ok_or(Errno::NOENT)?;
            files.insert(one.to_owned(), displaced);
            Ok(())
        })?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(self.step("rename", |files, _| {
            let moved = take(files, from)?;
            files.insert(to.to_owned(), moved);
            Ok(())
        })?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Ok(self.step("remove", |files, _| take(files, path).map(drop))?)
    }

    fn sync_directory(&self, _directory: &Path) -> io::Result<()> {
        Ok(self.step("sync directory", |_, _| Ok(()))?)
    }

    fn list(&self, directory: &Path, prefix: &OsStr) -> io::Result<Vec<OsString>> {
        Ok(self.step("list", |files, _| {
            let here = files.keys().filter(|path| path.parent() == Some(directory));
            let names = here.filter_map(|path| path.file_name()).map(OsStr::to_owned);
            Ok(names.filter(|name| name.as_bytes().starts_with(prefix.as_bytes())).collect())
        })?)
    }
}

/// Open at a path, which nobody renames while it is open.
struct StepFile {
    disk: StepDisk,
    path: PathBuf,
}

impl NewFile for StepFile {
    fn resemble(&mut self, model: &Path) -> io::Result<()> {
        Ok(self.disk.step("resemble", |files, _| files.get(model).map(|_| ()).ok_or(Errno::NOENT))?)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        Ok(self.disk.step("write", |files, by_half| {
            let bytes = if by_half { &bytes[..bytes.len() / 2] } else { bytes };
            files.get_mut(&self.path).ok_or(Errno::NOENT)?.extend_from_slice(bytes);
            Ok(())
        })?)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(self.disk.step("sync", |_, _| Ok(()))?)
    }
}
