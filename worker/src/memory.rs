//! How much memory a worker's host has: the least of what the machine has and what control groups allow.
//! Never measures what is in use, which changes.

use std::{fs, path::Path};

/// The part of the memory that is not for guests' linear memory: a quarter, at most 2 GiB. The worker has
/// compiled programs (512 MiB), inputs (512 MiB), the compiler of a module, and the outputs and tables of
/// runs.
const RESERVE_PART: u64 = 4;
const RESERVE_MAX: u64 = 2 << 30;

/// The files of a hierarchy of control groups that limits memory.
struct Hierarchy {
    /// Whether a line of `/proc/self/cgroup` with these controllers names a group of it.
    names: fn(controllers: &str) -> bool,
    /// Where the groups are shown.
    root: &'static str,
    /// The file of a group's limit. Without a limit it has no number, or one that no machine reaches.
    limit: &'static str,
}

/// Version 2 of control groups, and version 1.
const HIERARCHIES: [Hierarchy; 2] = [
    Hierarchy { names: str::is_empty, root: "sys/fs/cgroup", limit: "memory.max" },
    Hierarchy {
        names: |controllers| controllers.split(',').any(|name| name == "memory"),
        root: "sys/fs/cgroup/memory",
        limit: "memory.limit_in_bytes",
    },
];

/// How many bytes of linear memory all runs may have together, unless the operator says otherwise. `None`
/// if the system does not show its memory. The files of the system are below `root`.
pub(crate) fn for_runs(root: &Path) -> Option<u64> {
    let all = of_machine(root).into_iter().chain(of_groups(root)).min()?;
    Some(all - (all / RESERVE_PART).min(RESERVE_MAX))
}

/// The machine's memory, in bytes.
fn of_machine(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The least limit of the process's control groups and of the groups above them, in bytes.
fn of_groups(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let groups = text.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        Some((controllers, path.trim_start_matches('/')))
    });
    let limits = groups.flat_map(|(controllers, path)| {
        let hierarchies = HIERARCHIES.iter().filter(move |known| (known.names)(controllers));
        hierarchies.filter_map(move |known| {
            let top = root.join(known.root);
            // A container may show its own group as the root.
            let group = top.join(path);
            let line = group.ancestors().take_while(|group| group.starts_with(&top));
            let limit = |group: &Path| -> Option<u64> {
                fs::read_to_string(group.join(known.limit)).ok()?.trim().parse().ok()
            };
            line.filter_map(limit).min()
        })
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Paths and contents.
    type Files<'a> = &'a [(&'a str, &'a str)];

    /// The memory for runs on a system with these files.
    fn found(files: Files<'_>) -> Option<u64> {
        let root = std::env::temp_dir().join(format!("muster-memory-{}", std::process::id()));
        fs::create_dir_all(&root).expect("a directory");
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, text).expect("a file");
        }
        let found = for_runs(&root);
        fs::remove_dir_all(&root).expect("it was made here");
        found
    }

    #[test]
    fn the_least_of_machine_and_groups_counts_but_for_a_reserve() {
        let machine = ("proc/meminfo", "MemFree: 1 kB\nMemTotal:        8388608 kB\n");
        let group = ("proc/self/cgroup", "0::/system.slice/muster.service\n");
        let own = "sys/fs/cgroup/system.slice/muster.service/memory.max";
        let above = "sys/fs/cgroup/system.slice/memory.max";
        let first = ("proc/self/cgroup", "9:pids:/x\n4:cpu,memory:/box\n0::/\n");
        let first_limit = "sys/fs/cgroup/memory/box/memory.limit_in_bytes";
        let cases: [(Files<'_>, Option<u64>); 10] = [
            (&[], None),
            (&[("proc/meminfo", "nonsense")], None),
            (&[machine], Some(6_144 * MIB)),
            (&[("proc/meminfo", "MemTotal: 67108864 kB")], Some(62 * 1_024 * MIB)),
            (&[machine, group], Some(6_144 * MIB)),
            (&[machine, group, (own, "max\n")], Some(6_144 * MIB)),
            (&[machine, group, (own, "536870912\n")], Some(384 * MIB)),
            (&[machine, group, (own, "max\n"), (above, "1073741824\n")], Some(768 * MIB)),
            (&[machine, first, (first_limit, "536870912\n")], Some(384 * MIB)),
            // A container whose group is shown as the root.
            (
                &[machine, ("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "4194304")],
                Some(3 * MIB),
            ),
        ];
        for (files, want) in cases {
            assert_eq!(found(files), want, "{files:?}");
        }
    }

    #[test]
    fn this_machine_shows_its_memory() {
        assert!(for_runs(Path::new("/")).is_some_and(|bytes| bytes > MIB));
    }
}
