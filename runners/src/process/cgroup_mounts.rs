//! Where this process's control groups are: from `/proc/self/cgroup` and `/proc/self/mountinfo`.

use std::path::{Path, PathBuf};

/// What can be bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    Memory,
    Pids,
    Cpu,
}

impl Controller {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
        }
    }
}

/// Version 1 has a hierarchy for each controller, version 2 one for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    One,
    Two,
}

/// A hierarchy: this process's group in it, and what of the wanted it bounds.
pub type Place = (PathBuf, Version, Vec<Controller>);

/// Places for all that is wanted.
///
/// # Errors
/// The controller that the system doesn't have.
pub fn find(own: &str, mounts: &str, wanted: &[Controller]) -> Result<Vec<Place>, String> {
    let mut places: Vec<Place> = Vec::new();
    for controller in wanted {
        let name = controller.as_str();
        // Lines are `id:controllers:path`; those of version 2 are `0::path`.
        let path_of = |is_it: &dyn Fn(&str) -> bool| {
            own.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (controllers, path) = (parts.next()?, parts.next()?);
                is_it(controllers).then(|| path.to_owned())
            })
        };
        let first = path_of(&|controllers| controllers.split(',').any(|one| one == name));
        let place = match first {
            Some(path) => mounted(mounts, "cgroup", Some(name), &path).map(|directory| (directory, Version::One)),
            None => path_of(&str::is_empty)
                .and_then(|path| mounted(mounts, "cgroup2", None, &path))
                .filter(|directory| has(directory, name))
                .map(|directory| (directory, Version::Two)),
        };
        let (directory, version) = place.ok_or_else(|| format!("the system has no control groups for {name} here"))?;
        match places.iter_mut().find(|(known, ..)| *known == directory) {
            Some((.., controllers)) => controllers.push(*controller),
            None => places.push((directory, version, vec![*controller])),
        }
    }
    Ok(places)
}

/// The directory of a group, by the first mount of its hierarchy.
fn mounted(mounts: &str, kind: &str, controller: Option<&str>, path: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        // `id parent device root point options … - kind source options`
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let (this, options) = (right.next()?, right.nth(1)?);
        if this != kind || controller.is_some_and(|name| !options.split(',').any(|option| option == name)) {
            return None;
        }
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, left.next()?);
        // In a container the mount shows a part of the hierarchy only.
        let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        Some(Path::new(point).join(below))
    })
}

fn has(directory: &Path, controller: &str) -> bool {
    let text = std::fs::read_to_string(directory.join("cgroup.controllers")).unwrap_or_default();
    text.split_whitespace().any(|one| one == controller)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_has_a_place_for_each() {
        let own = "8:pids:/\n4:memory:/jobs/a\n1:cpu,cpuacct:/x\n0::/\n";
        let mounts = "30 24 0:26 / /cg/memory rw - cgroup cgroup rw,memory\n31 24 0:27 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                      32 24 0:28 / /cg/pids rw - cgroup cgroup rw,pids\n33 24 0:29 / /cg/unified rw - cgroup2 cgroup2 rw\n";
        let places = find(own, mounts, &[Controller::Memory, Controller::Pids, Controller::Cpu]).unwrap();
        let paths: Vec<_> = places.iter().map(|(path, ..)| path.to_str().unwrap()).collect();
        assert_eq!(paths, ["/cg/memory/jobs/a", "/cg/pids/", "/cg/cpu/x"]);
        assert!(places.iter().all(|(_, version, _)| *version == Version::One));
    }

    #[test]
    fn version_2_has_one_for_all_that_it_may_pass_on() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("squall.service")).unwrap();
        std::fs::write(directory.path().join("squall.service/cgroup.controllers"), "memory pids\n").unwrap();
        let own = "0::/system.slice/squall.service\n";
        let mounts = format!("30 24 0:26 /system.slice {} rw - cgroup2 cgroup2 rw\n", directory.path().display());
        let places = find(own, &mounts, &[Controller::Memory, Controller::Pids]).unwrap();
        assert_eq!(
            places,
            [(directory.path().join("squall.service"), Version::Two, vec![Controller::Memory, Controller::Pids])]
        );
        assert!(find(own, &mounts, &[Controller::Cpu]).unwrap_err().contains("cpu"));
        assert!(find(own, "", &[Controller::Memory]).is_err());
    }
}
