//! Who is told of each step, to measure it: the node's telemetry. What it does takes no time and can't fail.

use model::{Execution, Status, Timestamp, TriggerInstance};

/// Is told of stored steps of executions and trigger instances, by the node that stored them.
///
/// To ensure correctness, calls come after the write and at most once for each change of status; a crash between the
/// two loses the call.
pub trait Observer: Send + Sync + std::fmt::Debug {
    /// A new execution; it may have failed already.
    fn requested(&self, execution: &Execution);

    /// An execution's status was `was` until now.
    fn moved(&self, execution: &Execution, was: Status);

    /// The rules of a trigger instance have ended, well or not.
    fn processed(&self, instance: &TriggerInstance, now: Timestamp);
}
