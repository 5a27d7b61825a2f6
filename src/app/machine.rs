//! What the machine allows this process, memory and descriptors, read once at the start; and what the
//! process gives back of it.
//!
//! A container's limit is that of its cgroup or of any one above it (v1 and v2); `ulimit -d` and the
//! memory of the machine count as well. What cannot be read is taken for "no limit", never for "none allowed".

use std::convert::Infallible;
use std::fs;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::{
    BODY_MEMORY_SHARE, CONNECTIONS_SMALLEST, DESCRIPTORS_RESERVED, MEMORY_RETURN_BYTES, MEMORY_RETURN_INTERVAL,
};

/// Bytes that request bodies may hold at once.
pub fn body_bytes_max() -> u64 {
    let limit = cgroup_limit(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"));
    let machine = memory_total(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
    let process = getrlimit(Resource::Data).current;
    [limit, machine, process].into_iter().flatten().min().map_or(u64::MAX, |bytes| bytes / BODY_MEMORY_SHARE)
}

/// Raises the soft limit on descriptors to the hard one and says how many connections of callers fit:
/// each may need one to an upstream.
pub fn connections_possible() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let descriptors = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    descriptors.map_or(u64::MAX, connections_within)
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
        drop(std::hint::black_box(Vec::<u8>::with_capacity(MEMORY_RETURN_BYTES)));
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

fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
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
        assert_eq!(memory_total("MemTotal:       24689764 kB\nMemFree: 1 kB\n"), Some(24_689_764 * 1024));
        assert_eq!(memory_total("MemFree: 1 kB\n"), None);
        for (descriptors, connections) in [(0, 8), (64, 8), (256, 104), (1024, 488), (1 << 20, 524_264)] {
            assert_eq!(connections_within(descriptors), connections);
        }
    }
}
