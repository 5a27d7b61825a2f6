//! What the machine allows this process, memory and descriptors, read once at the start; and what the
//! process gives back of it.
//!
//! A container's limit is that of its cgroup or of any one above it (v1 and v2); `ulimit -d` and the
//! memory of the machine count as well. What cannot be read is taken for "no limit", never for "none allowed".

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::{
    BODY_MEMORY_SHARE, BUFFER_BYTES_SMALLEST, BUFFERS_IN_MEMORY, BUFFERS_OF_A_REQUEST, CALLER_BUFFER_BYTES_MAX,
    CONNECTION_BYTES, CONNECTIONS_MEMORY_SHARE, CONNECTIONS_SMALLEST, DESCRIPTORS_RESERVED, MEMORY_CALM_PERCENT,
    MEMORY_LOOK_INTERVAL, MEMORY_LOOKS_KEPT, MEMORY_RETURN_BYTES, MEMORY_RETURN_INTERVAL, MEMORY_SHORT_PERCENT,
    REQUEST_BYTES,
};
use crate::permit::Bound;

/// Bytes that the process may use, as far as anybody says.
pub fn memory_max() -> Option<u64> {
    let limit = cgroup_limit(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"));
    let machine = memory_in(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemTotal:");
    let process = getrlimit(Resource::Data).current;
    [limit, machine, process].into_iter().flatten().min()
}

/// Bytes that request bodies may hold at once.
pub fn body_bytes_max() -> u64 {
    memory_max().map_or(u64::MAX, |bytes| bytes / BODY_MEMORY_SHARE)
}

/// Of each buffer of a connection: a thousand callers who do not read must fit into what there is.
pub fn buffer_bytes_max() -> usize {
    buffer_bytes_within(memory_max().unwrap_or(u64::MAX))
}

fn buffer_bytes_within(memory: u64) -> usize {
    let share = usize::try_from(memory / BUFFERS_IN_MEMORY).unwrap_or(usize::MAX);
    share.clamp(BUFFER_BYTES_SMALLEST, CALLER_BUFFER_BYTES_MAX)
}

/// Looks at the memory in use and says in `room` how many requests may be in flight because of it. What
/// is not counted beforehand, such as answers that their callers do not read, shows here.
pub async fn watch_memory(room: Arc<AtomicU64>, in_flight: Bound) -> Infallible {
    let Some(max) = memory_max() else { return std::future::pending().await };
    let mut watch = MemoryWatch::new(max);
    loop {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(used) = memory_in(&status, "VmRSS:") {
            let was = watch.short;
            room.store(watch.look(used, in_flight.taken()), Ordering::Relaxed);
            if watch.short != was {
                tracing::warn!(used, max, short = watch.short, "memory: new requests are refused while it is short");
            }
        }
        tokio::time::sleep(MEMORY_LOOK_INTERVAL).await;
    }
}

/// Turns what is used into what may be begun.
#[derive(Debug)]
struct MemoryWatch {
    max: u64,
    /// What one more request may come to hold.
    each: u64,
    short: bool,
    /// Requests in flight at the last looks.
    recent: VecDeque<u64>,
}

impl MemoryWatch {
    fn new(max: u64) -> Self {
        let each = buffer_bytes_within(max) as u64 * BUFFERS_OF_A_REQUEST + REQUEST_BYTES;
        Self { max, each, short: false, recent: VecDeque::with_capacity(MEMORY_LOOKS_KEPT) }
    }

    /// How many requests may be in flight. Those that came with the last looks may not have filled their
    /// buffers yet, so room is kept for all of them: a crowd of one moment would be seen too late.
    fn look(&mut self, used: u64, in_flight: u64) -> u64 {
        if self.recent.len() >= MEMORY_LOOKS_KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back(in_flight);
        // The way back is longer than the way there, lest a process at the edge changes its mind all the time.
        let percent = if self.short { MEMORY_CALM_PERCENT } else { MEMORY_SHORT_PERCENT };
        let left = (self.max / 100 * percent).checked_sub(used);
        self.short = left.is_none();
        let settled = self.recent.iter().min().copied().unwrap_or_default();
        left.map_or(0, |left| settled.saturating_add(left / self.each))
    }
}

/// Raises the soft limit on descriptors to the hard one and says how many connections of callers fit
/// into it, where each may need one to an upstream, and into a share of the memory.
pub fn connections_possible() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let descriptors = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let memory = memory_max().map_or(u64::MAX, |bytes| bytes / CONNECTIONS_MEMORY_SHARE / CONNECTION_BYTES);
    descriptors.map_or(u64::MAX, connections_within).min(memory.max(CONNECTIONS_SMALLEST))
}

/// Keeps the kernel from joining pages to huge ones: these hold on to memory that was given back, and
/// after a burst an idle gateway grows to twice its size.
pub fn keep_pages_small() {
    // Where the kernel knows no huge pages, there is nothing to keep.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Makes the allocator give free memory back to the kernel. It does so when a large piece is freed,
/// and an idle gateway frees none.
pub async fn give_back_memory() -> Infallible {
    loop {
        tokio::time::sleep(MEMORY_RETURN_INTERVAL).await;
        let mut piece = Vec::<u8>::new();
        // Near the limit it may be refused, which must not end the process.
        let _ = piece.try_reserve_exact(MEMORY_RETURN_BYTES);
        drop(std::hint::black_box(piece));
    }
}

fn connections_within(descriptors: u64) -> u64 {
    (descriptors.saturating_sub(DESCRIPTORS_RESERVED) / 2).max(CONNECTIONS_SMALLEST)
}

/// The smallest memory limit from the process's cgroup up to the root. `member` is the kernel's list
/// of the groups that it is in, `root` where their trees are mounted.
fn cgroup_limit(member: &Path, root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(member).ok()?;
    let limits = groups.lines().flat_map(|line| {
        let Some((controllers, path)) = line.split_once(':').and_then(|(_, rest)| rest.split_once(':')) else {
            return Vec::new();
        };
        let (tree, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => return Vec::new(),
        };
        let own = tree.join(path.trim_start_matches('/'));
        // Seen from inside a container the path may not exist; its root then is the group.
        let groups = own.ancestors().take_while(|group| group.starts_with(&tree));
        groups.filter_map(|group| limit_in(&fs::read_to_string(group.join(file)).ok()?)).collect()
    });
    limits.min()
}

/// `max` in v2, a number beyond any memory in v1: no limit.
fn limit_in(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < i64::MAX as u64 / 2)
}

/// Bytes in a line of one of the kernel's lists.
fn memory_in(list: &str, name: &str) -> Option<u64> {
    let line = list.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_cgroups() {
        let dir = tempfile::tempdir().unwrap();
        let (member, root) = (dir.path().join("self"), dir.path().join("cgroup"));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let limit = |groups: &str| {
            fs::write(&member, groups).unwrap();
            cgroup_limit(&member, &root)
        };
        assert_eq!(limit("0::/a/b\n"), None, "nothing mounted");
        write("a/b/memory.max", "max\n");
        assert_eq!(limit("0::/a/b\n"), None);
        write("a/memory.max", "67108864\n");
        assert_eq!(limit("0::/a/b\n"), Some(67_108_864), "of the group above");
        write("a/b/memory.max", "1000\n");
        assert_eq!(limit("0::/a/b\n"), Some(1000), "the smallest");
        assert_eq!(limit("0::/not/there\n"), None);
        write("memory.max", "5000\n");
        assert_eq!(limit("0::/not/there\n"), Some(5000), "the root of a container's own view");
        let v1 = "4:memory:/x/y\n3:cpuset:/\n1:cpu,cpuacct:/z\n";
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit(v1), None);
        write("memory/x/y/memory.limit_in_bytes", "134217728\n");
        assert_eq!(limit(v1), Some(134_217_728));
        assert_eq!(limit(&format!("{v1}0::/\n")), Some(5000), "both kinds at once");
        assert_eq!(limit("nonsense"), None);
        assert_eq!(cgroup_limit(Path::new("/does/not/exist"), &root), None);
    }

    #[test]
    fn memory_and_descriptors() {
        let list = "MemTotal:       24689764 kB\nMemFree: 1 kB\n";
        assert_eq!(memory_in(list, "MemTotal:"), Some(24_689_764 * 1024));
        assert_eq!(memory_in(list, "VmRSS:"), None);
        let own = fs::read_to_string("/proc/self/status").unwrap();
        assert!(memory_in(&own, "VmRSS:").unwrap() > 1_000_000);
        for (mib, kib) in [(16, 32), (64, 32), (128, 32), (256, 64), (1024, 256), (1 << 20, 256)] {
            assert_eq!(buffer_bytes_within(mib << 20), kib << 10, "{mib} MiB");
        }
        for (descriptors, connections) in [(0, 8), (64, 8), (256, 104), (1024, 488), (1 << 20, 524_264)] {
            assert_eq!(connections_within(descriptors), connections);
        }
    }

    const MIB: u64 = 1 << 20;

    #[test]
    fn requests_that_memory_has_room_for() {
        let mut watch = MemoryWatch::new(100 * MIB);
        assert_eq!(watch.each, 160 * 1024);
        // From 60 MiB on none, until no more than 50 are used.
        for (used, short) in [(0, false), (60, false), (61, true), (60, true), (51, true), (50, false), (60, false)] {
            let room = watch.look(used * MIB, 7);
            assert_eq!((watch.short, room == 0), (short, short), "{used} MiB");
        }
        assert_eq!(watch.look(60 * MIB, 7), 7, "those who are here may stay");
        assert_eq!(MemoryWatch::new(100 * MIB).look(30 * MIB, 7), 7 + 30 * 1024 / 160);
        assert!(MemoryWatch::new(u64::MAX).look(MIB, 0) > 1 << 40);
        assert_eq!(MemoryWatch::new(0).look(1, 0), 0);
    }

    /// A crowd that has come and not yet filled its buffers is not let grow by what it does not use yet.
    #[test]
    fn room_is_kept_for_those_who_have_just_come() {
        let mut watch = MemoryWatch::new(100 * MIB);
        let room = watch.look(20 * MIB, 0);
        for _ in 1..MEMORY_LOOKS_KEPT {
            assert_eq!(watch.look(20 * MIB, room), room);
        }
        assert_eq!(watch.look(20 * MIB, room), 2 * room, "they came long ago, and took nothing");
        assert_eq!(watch.look(20 * MIB, 0), room, "they left");
    }
}
