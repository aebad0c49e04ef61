//! The persistence port: documents by id and declared keys, changed by atomic batches of compare-and-set writes.
//!
//! * [`Store`] is the port; [`sqlite`] is the embedded adapter. Every adapter passes [`contract`].
//! * [`Batch`] is one atomic change; [`Query`] finds documents by the keys that their collection declares.
//! * [`StoreExt`] reads and writes typed resources.
//!
//! The store is the truth (DESIGN §2 rule 1): nothing is acknowledged to a client before [`Store::commit`] returned.

pub mod batch;
#[cfg(feature = "contract")]
pub mod contract;
pub mod error;
pub mod limits;
pub mod port;
pub mod query;
pub mod sqlite;

pub use batch::{Applied, Batch, Fence, Write};
pub use error::StoreError;
pub use port::{Document, Store, StoreExt};
pub use query::{Cond, Order, Query};
pub use sqlite::{OpenError, SqliteOptions, SqliteStore};
