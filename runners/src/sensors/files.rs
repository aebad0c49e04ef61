//! Whether the code of a running sensor changed.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use model::Id;

/// More files than this are not watched.
const MAX_FILES: usize = 2000;

/// A file as it was: what tells cheaply that nothing happened, and what tells for sure.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    times: Option<(u64, i64, i64, u64)>,
    content: Option<Id>,
}

/// Files of a sensor, as they were when it had read them.
#[derive(Debug, Clone, Default)]
pub struct Files {
    marks: BTreeMap<PathBuf, Mark>,
    /// In which round (see [`super::known::Known`]) they were looked at last.
    pub round: u64,
}

impl Files {
    /// Reads those that are new. Blocks.
    pub fn add(&mut self, paths: Vec<PathBuf>) {
        for path in paths {
            if self.marks.len() >= MAX_FILES {
                return;
            }
            self.marks.entry(path).or_insert_with_key(|path| Mark { times: times(path), content: content(path) });
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

fn times(path: &PathBuf) -> Option<(u64, i64, i64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.size()))
}

fn content(path: &PathBuf) -> Option<Id> {
    std::fs::read(path).ok().map(|bytes| Id::of_content(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

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
