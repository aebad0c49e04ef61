//! How far timers have fired.

use serde::{Deserialize, Serialize};

use crate::id::Id;
use crate::resource::{Collection, Keys, Resource};
use crate::time::Timestamp;

/// The one document of its collection: every slot up to `at` was fired, or left out by the misfire policy. Slots
/// later than that may have been fired too; their derived ids tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerCursor {
    pub id: Id,
    pub at: Timestamp,
}

impl TimerCursor {
    pub fn new(at: Timestamp) -> Self {
        Self { id: Self::only_id(), at }
    }

    pub fn only_id() -> Id {
        Id::derive("timer-cursor", Timestamp::default(), &[])
    }
}

impl Resource for TimerCursor {
    const COLLECTION: &'static Collection = &Collection { name: "timer_cursors", fields: &[], indexes: &[] };

    fn id(&self) -> Id {
        self.id
    }

    fn keys(&self) -> Keys {
        Keys::new()
    }
}
