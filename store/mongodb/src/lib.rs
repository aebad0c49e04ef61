//! The MongoDB adapter of [`store::Store`]: what a cluster's nodes share (DESIGN §2 rule 1).
//!
//! * [`MongoStore`] is opened with [`MongoOptions`]; the node gives it to everything else as a `Store`.
//! * A document is `{_id, rev, body, k_<field>…, w}`: the JSON text as it was given, the declared keys beside it, and
//!   the mark of the commit that wrote it.
//! * A batch of one write is one operation; a longer or fenced one is a transaction (`commit`). Everything is written
//!   with `w: majority` and journaled; reads see what a majority has.
//! * A change of primary, a lost connection and a write conflict are met by trying again until the deadline. Whether an
//!   unanswered write took effect is found out by its mark; where that can't be told, the answer is `Unavailable`.
//!
//! Collections are named `<prefix>.<collection>`, so that several clusters can share a database.

#![warn(missing_docs)]

mod blobs;
mod commit;
mod documents;
mod failure;
mod options;
mod queries;
mod schema;
mod store;

pub use failure::OpenError;
pub use options::{MongoOptions, Password, TlsFiles};
pub use store::MongoStore;
