//! Bounds on everything that a run starts, by control groups (version 2, or version 1's controllers): memory, processes
//! and processor time of a run together, whoever its processes belong to and whatever sessions they make.
//!
//! A run's first process joins the group by itself before it does anything else, so that nothing it starts is outside.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::cgroup_mounts::{Controller, Version, find};

/// The node's groups, below its own: one that holds the node where it must not stand beside groups, and one for runs,
/// with the node's process id behind it.
const NODE: &str = "squall-node";
const RUNS: &str = "squall-runs-";

/// Microseconds over which processor time is counted.
const PERIOD: u64 = 100_000;

/// Groups that could not be removed, since something of the run still lives in them; more are left behind.
const LEFT: usize = 1000;

/// What a run may use, all its processes together; unbounded what is not given.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct GroupLimits {
    /// Bytes.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Processors; 0.5 is half of one's time.
    pub cpus: Option<f64>,
}

impl GroupLimits {
    fn controllers(&self) -> Vec<Controller> {
        let wanted = [
            (self.memory.is_some(), Controller::Memory),
            (self.processes.is_some(), Controller::Pids),
            (self.cpus.is_some(), Controller::Cpu),
        ];
        wanted.into_iter().filter_map(|(is_wanted, controller)| is_wanted.then_some(controller)).collect()
    }

    /// Files of a group and what to write, in order.
    fn settings(&self, controller: Controller, version: Version) -> Vec<(&'static str, String)> {
        let quota = |cpus: f64| (cpus * PERIOD as f64).max(1000.0) as u64;
        match (controller, version) {
            (Controller::Memory, Version::Two) => {
                let Some(memory) = self.memory else { return Vec::new() };
                vec![("memory.max", memory.to_string()), ("memory.swap.max", "0".to_owned())]
            }
            (Controller::Memory, Version::One) => {
                let Some(memory) = self.memory else { return Vec::new() };
                vec![("memory.limit_in_bytes", memory.to_string()), ("memory.memsw.limit_in_bytes", memory.to_string())]
            }
            (Controller::Pids, _) => self.processes.map(|count| ("pids.max", count.to_string())).into_iter().collect(),
            (Controller::Cpu, Version::Two) => {
                self.cpus.map(|cpus| ("cpu.max", format!("{} {PERIOD}", quota(cpus)))).into_iter().collect()
            }
            (Controller::Cpu, Version::One) => {
                let Some(cpus) = self.cpus else { return Vec::new() };
                vec![("cpu.cfs_period_us", PERIOD.to_string()), ("cpu.cfs_quota_us", quota(cpus).to_string())]
            }
        }
    }
}

/// Makes the groups of runs.
#[derive(Debug)]
pub struct Groups {
    limits: GroupLimits,
    /// The directories for runs' groups, with what each of them bounds.
    parents: Vec<(PathBuf, Version, Vec<Controller>)>,
    left: Mutex<Vec<PathBuf>>,
}

/// The group of one run.
#[derive(Debug)]
pub struct Group {
    groups: Arc<Groups>,
    directories: Vec<PathBuf>,
}

impl Groups {
    /// None if nothing is to be bounded.
    ///
    /// # Errors
    /// What the system doesn't have, or doesn't let this process do.
    pub fn prepare(limits: GroupLimits) -> Result<Option<Self>, String> {
        let controllers = limits.controllers();
        if controllers.is_empty() {
            return Ok(None);
        }
        let read = |file: &str| fs::read_to_string(file).map_err(|error| format!("{file}: {error}"));
        let own = find(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?, &controllers)?;
        let mut parents = Vec::new();
        for (directory, version, controllers) in own {
            let parent = parent(&directory, version, &controllers)
                .map_err(|error| format!("control group {}: {error}", directory.display()))?;
            parents.push((parent, version, controllers));
        }
        Ok(Some(Self { limits, parents, left: Mutex::default() }))
    }

    /// A group for a run.
    pub fn make(self: &Arc<Self>, name: &str) -> io::Result<Group> {
        self.remove_left();
        let mut group = Group { groups: self.clone(), directories: Vec::new() };
        for (parent, version, controllers) in &self.parents {
            let directory = parent.join(name);
            match fs::create_dir(&directory) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
            group.directories.push(directory.clone());
            for (file, value) in controllers.iter().flat_map(|one| self.limits.settings(*one, *version)) {
                match fs::write(directory.join(file), value) {
                    // Swap isn't counted everywhere.
                    Err(error) if error.kind() == io::ErrorKind::NotFound && file.contains("sw") => {}
                    Err(error) if file.contains("memsw") => tracing::debug!(file, %error, "swap is not bounded"),
                    other => other?,
                }
            }
        }
        Ok(group)
    }

    fn remove_left(&self) {
        self.left.lock().retain(|directory| !is_removed(directory));
    }
}

fn is_removed(directory: &Path) -> bool {
    fs::remove_dir(directory).is_ok() || !directory.exists()
}

/// The directory for this process's runs below the node's own; those of processes that have ended are removed.
fn parent(own: &Path, version: Version, controllers: &[Controller]) -> io::Result<PathBuf> {
    for old in fs::read_dir(own)?.filter_map(Result::ok) {
        let name = old.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(RUNS));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            for run in fs::read_dir(old.path())?.filter_map(Result::ok).filter(|entry| entry.path().is_dir()) {
                is_removed(&run.path());
            }
            is_removed(&old.path());
        }
    }
    let runs = own.join(format!("{RUNS}{}", std::process::id()));
    if !runs.is_dir() {
        fs::create_dir(&runs)?;
    }
    if version == Version::Two {
        // A group with processes can't pass controllers on to groups below it, save for the topmost one.
        if enable(own, controllers).is_err() {
            let node = own.join(NODE);
            if !node.is_dir() {
                fs::create_dir(&node)?;
            }
            fs::write(node.join("cgroup.procs"), "0")?;
            enable(own, controllers)?;
        }
        enable(&runs, controllers)?;
    }
    Ok(runs)
}

fn enable(directory: &Path, controllers: &[Controller]) -> io::Result<()> {
    let all: Vec<String> = controllers.iter().map(|controller| format!("+{}", controller.as_str())).collect();
    fs::write(directory.join("cgroup.subtree_control"), all.join(" "))
}

impl Group {
    /// Files that a process writes `0` into to join.
    pub fn doors(&self) -> Vec<PathBuf> {
        self.directories.iter().map(|directory| directory.join("cgroup.procs")).collect()
    }

    /// After the run: `by_force` kills what is left of it. What to say of a run that the kernel killed something of.
    pub async fn end(self, by_force: bool) -> Option<String> {
        let ended = tokio::task::spawn_blocking(move || {
            if by_force {
                self.kill();
                return None;
            }
            self.out_of_memory()
        });
        ended.await.ok().flatten()
    }

    /// Kills whatever is in it, daemons included.
    pub fn kill(&self) {
        for directory in &self.directories {
            if fs::write(directory.join("cgroup.kill"), "1").is_ok() {
                continue;
            }
            // A few rounds for those that are being born.
            for _ in 0..10 {
                let members = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
                let members: Vec<i32> = members.lines().filter_map(|line| line.parse().ok()).collect();
                for pid in &members {
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), super::end::Signal::SIGKILL);
                }
                if members.is_empty() {
                    break;
                }
            }
        }
    }

    /// What to say of a run that the kernel killed something of, for want of memory.
    pub fn out_of_memory(&self) -> Option<String> {
        let limit = self.groups.limits.memory?;
        let killed = self.directories.iter().any(|directory| {
            ["memory.events", "memory.oom_control"].iter().any(|file| {
                let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
                let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok());
                count.is_some_and(|count| count > 0)
            })
        });
        killed.then(|| format!("a process of the action was killed: together they may use {limit} bytes of memory"))
    }
}

impl Drop for Group {
    /// What a run left running keeps its bounds, and its group until it has ended.
    fn drop(&mut self) {
        for directory in self.directories.drain(..) {
            if !is_removed(&directory) {
                let mut left = self.groups.left.lock();
                if left.len() < LEFT {
                    left.push(directory);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_into_groups() {
        let limits = GroupLimits { memory: Some(1 << 20), processes: Some(5), cpus: Some(0.5) };
        let all = |version| -> Vec<_> {
            limits.controllers().into_iter().flat_map(|one| limits.settings(one, version)).collect()
        };
        let text = |settings: Vec<(&str, String)>| {
            settings.iter().map(|(file, value)| format!("{file}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(text(all(Version::Two)), "memory.max=1048576 memory.swap.max=0 pids.max=5 cpu.max=50000 100000");
        assert_eq!(
            text(all(Version::One)),
            "memory.limit_in_bytes=1048576 memory.memsw.limit_in_bytes=1048576 pids.max=5 cpu.cfs_period_us=100000 \
             cpu.cfs_quota_us=50000"
        );
        assert!(Groups::prepare(GroupLimits::default()).unwrap().is_none());
    }

    /// Plain directories in place of the kernel's.
    #[test]
    fn groups_come_and_go() {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path();
        // No process has this number.
        let old = own.join(format!("{RUNS}99999999"));
        fs::create_dir_all(old.join("run")).unwrap();
        let runs = parent(own, Version::Two, &[Controller::Memory, Controller::Pids]).unwrap();
        assert!(!old.exists());
        assert_eq!(fs::read_to_string(own.join("cgroup.subtree_control")).unwrap(), "+memory +pids");
        assert_eq!(fs::read_to_string(runs.join("cgroup.subtree_control")).unwrap(), "+memory +pids");
        let limits = GroupLimits { memory: Some(4096), ..GroupLimits::default() };
        let parents = vec![(runs.clone(), Version::Two, vec![Controller::Memory])];
        let groups = Arc::new(Groups { limits, parents, left: Mutex::default() });
        let group = groups.make("one").unwrap();
        assert_eq!(group.doors(), [runs.join("one/cgroup.procs")]);
        assert_eq!(fs::read_to_string(runs.join("one/memory.max")).unwrap(), "4096");
        assert_eq!(group.out_of_memory(), None);
        fs::write(runs.join("one/memory.events"), "low 0\noom 1\noom_kill 1\n").unwrap();
        assert!(group.out_of_memory().unwrap().contains("4096 bytes"));
        // The files make it look as if something lived there.
        drop(group);
        assert_eq!(groups.left.lock().len(), 1);
        for file in fs::read_dir(runs.join("one")).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        drop(groups.make("two").unwrap());
        assert!(!runs.join("one").exists());
    }
}
