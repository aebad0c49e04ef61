//! The state as bytes, with a format version. Old formats are read for ever (samples in `testdata/`).

use serde::{Deserialize, Serialize};

use super::{COMMAND_VERSION, State};

/// The highest format that this release reads. Written is the one that the members agreed on, see [`State::format`].
pub const SNAPSHOT_FORMAT: u16 = COMMAND_VERSION;

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("the snapshot can't be read: {0}")]
    Damaged(#[from] serde_json::Error),
    #[error("snapshot format {0} is not known to this release (up to {SNAPSHOT_FORMAT})")]
    Format(u16),
}

#[derive(Serialize)]
struct Written<'a> {
    format: u16,
    state: &'a State,
}

#[derive(Deserialize)]
struct Read {
    format: u16,
    state: serde_json::Value,
}

impl State {
    pub fn to_snapshot(&self) -> Result<Vec<u8>, SnapshotError> {
        Ok(serde_json::to_vec(&Written { format: self.agreed_version(), state: self })?)
    }

    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let read: Read = serde_json::from_slice(bytes)?;
        if read.format == 0 || read.format > SNAPSHOT_FORMAT {
            return Err(SnapshotError::Format(read.format));
        }
        Ok(serde_json::from_value(read.state)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Command, PermitHolder, Proposal, Response, Secret};

    /// Applies a sample file and compares the outcome with the sample snapshot.
    fn samples_decode(commands: &str, snapshot: &str) -> (State, usize) {
        let mut state = State::default();
        let mut count = 0;
        for line in commands.lines() {
            let proposal: Proposal = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&proposal).unwrap(), line, "the encoding of a version has changed");
            assert_eq!(proposal.v, proposal.command.version());
            state.apply(&proposal.command);
            count += 1;
        }
        let written = String::from_utf8(state.to_snapshot().unwrap()).unwrap();
        assert_eq!(written, snapshot.trim(), "the meaning of a version has changed");
        assert_eq!(State::from_snapshot(snapshot.trim().as_bytes()).unwrap().hash(), state.hash());
        (state, count)
    }

    /// Files written by the first release; they must decode for ever, to the same meaning.
    #[test]
    fn version_1_samples_decode() {
        let commands = include_str!("../../testdata/commands-v1.jsonl");
        let (state, count) = samples_decode(commands, include_str!("../../testdata/snapshot-v1.json"));
        assert_eq!((count, state.agreed_version()), (9, 1));
    }

    #[test]
    fn version_2_samples_decode() {
        let commands = include_str!("../../testdata/commands-v2.jsonl");
        let (state, count) = samples_decode(commands, include_str!("../../testdata/snapshot-v2.json"));
        assert_eq!((count, state.agreed_version()), (22, 2));
    }

    #[test]
    fn version_3_samples_decode() {
        let commands = include_str!("../../testdata/commands-v3.jsonl");
        let (state, count) = samples_decode(commands, include_str!("../../testdata/snapshot-v3.json"));
        assert_eq!((count, state.agreed_version()), (4, 3));
    }

    #[test]
    fn newer_and_damaged_formats_are_refused() {
        let newer = br#"{"format":4,"state":{"whatever":1}}"#;
        assert!(matches!(State::from_snapshot(newer), Err(SnapshotError::Format(4))));
        assert!(matches!(State::from_snapshot(b"{"), Err(SnapshotError::Damaged(_))));
        let newer = r#"{"v":4,"command":{"new_thing":{}}}"#;
        assert!(serde_json::from_str::<Proposal>(newer).unwrap_err().to_string().contains("version 4"));
    }

    #[test]
    fn texts_for_logs_show_no_content() {
        let secret = "hunter2";
        let command = Command::AcquirePermit {
            key: secret.into(),
            limit: 1,
            request: secret.into(),
            node: 1,
            session: 1,
            wait: true,
        };
        for text in [
            command.to_string(),
            format!("{command:?}"),
            format!("{:?}", Proposal::new(command.clone())),
            Command::AdvanceContent { hash: secret.into() }.to_string(),
            Command::Agree { name: "n".into(), value: Secret::new(secret.into()) }.to_string(),
            format!("{:?}", Response::Agreed(Secret::new(secret.into()))),
            Command::AskPermit { key: secret.into(), limit: 1, request: secret.into(), wait: true }.to_string(),
            Command::RestorePermits { key: secret.into(), limit: 1, holders: vec![(secret.into(), 0)] }.to_string(),
            format!("{:?}", Response::Holders(vec![PermitHolder { request: secret.into(), slot: 0, token: 1 }])),
            Command::CancelPermit { key: secret.into(), request: secret.into() }.to_string(),
        ] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
