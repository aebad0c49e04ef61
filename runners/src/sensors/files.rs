//! Whether the code of a running sensor changed.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use model::Id;

/// More files than this are not watched.
const MAX_FILES: usize = 2000;

/// A file as it was: what tells cheaply that nothing happened, and what tells for sure.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    times: Option<(u64, i64, i64, u64)>,
    content: Option<Id>,
}

impl Mark {
    fn of(path: &Path) -> Self {
        Self { times: times(path), content: content(path) }
    }
}

/// Files of a sensor, as they were when it read them.
#[derive(Debug, Clone, Default)]
pub struct Files {
    marks: BTreeMap<PathBuf, Mark>,
    /// Files beside the sensor as they were before its process began: a change while it starts is a change.
    before: BTreeMap<PathBuf, Mark>,
    /// In which round (see [`super::known::Known`]) they were looked at last.
    pub round: u64,
}

impl Files {
    /// To be made before the process is launched. Blocks.
    pub fn beside(sensor: &Path) -> Self {
        let mut before = BTreeMap::new();
        let mut directories: Vec<PathBuf> = sensor.parent().map(Path::to_owned).into_iter().collect();
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                let path = entry.path();
                if before.len() >= MAX_FILES {
                    break;
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    directories.push(path);
                } else if path.extension().is_some_and(|extension| extension == "py") {
                    let mark = Mark::of(&path);
                    before.insert(path, mark);
                }
            }
        }
        // What was launched may be no Python.
        before.entry(sensor.to_owned()).or_insert_with_key(|path| Mark::of(path));
        Self { before, ..Self::default() }
    }

    /// Notes files that the process has read; reads those that weren't there before it began. Blocks.
    pub fn add(&mut self, paths: Vec<PathBuf>) {
        for path in paths {
            if self.marks.len() >= MAX_FILES {
                return;
            }
            let before = &self.before;
            let mark = |path: &PathBuf| before.get(path).cloned().unwrap_or_else(|| Mark::of(path));
            self.marks.entry(path).or_insert_with_key(mark);
        }
    }

    /// Whether one of them has another content now. Blocks.
    pub fn have_changed(&mut self) -> Option<PathBuf> {
        for (path, mark) in &mut self.marks {
            let times = times(path);
            if times == mark.times {
                continue;
            }
            if content(path) != mark.content {
                return Some(path.clone());
            }
            mark.times = times;
        }
        None
    }
}

fn times(path: &Path) -> Option<(u64, i64, i64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.size()))
}

fn content(path: &Path) -> Option<Id> {
    std::fs::read(path).ok().map(|bytes| Id::of_content(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_while_the_process_starts_is_a_change() {
        let directory = tempfile::tempdir().unwrap();
        let (sensor, helper) = (directory.path().join("a.py"), directory.path().join("lib/b.py"));
        std::fs::create_dir(directory.path().join("lib")).unwrap();
        for path in [&sensor, &helper] {
            std::fs::write(path, "1").unwrap();
        }
        for changed in [&sensor, &helper] {
            let mut files = Files::beside(&sensor);
            std::fs::write(changed, "2").unwrap();
            files.add(vec![sensor.clone(), helper.clone()]);
            assert_eq!(files.have_changed().as_ref(), Some(changed));
            std::fs::write(changed, "1").unwrap();
        }
        let mut files = Files::beside(&sensor);
        std::fs::write(&helper, "2").unwrap();
        files.add(vec![sensor]);
        assert_eq!(files.have_changed(), None, "it didn't read that one");
    }

    #[test]
    fn only_another_content_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.py");
        std::fs::write(&path, "1").unwrap();
        let mut files = Files::default();
        files.add(vec![path.clone(), directory.path().join("gone.py")]);
        assert_eq!(files.have_changed(), None);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "1").unwrap();
        assert_eq!(files.have_changed(), None);
        std::fs::write(&path, "2").unwrap();
        files.add(vec![path.clone()]);
        assert_eq!(files.have_changed(), Some(path.clone()));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(files.have_changed(), Some(path));
    }
}
