//! [`Reader`](crate::Reader) for states, which read by any connection, and drains, which read by their own. Where these
//! macros are used, a connection is called `Lease`.

/// A call of one of `Reading`'s functions.
macro_rules! read {
    ($self:ident, $name:ident($($argument:expr),*)) => {
        $self
            .read(|mut lease: Lease| async move {
                let done = lease.reading()?.$name($($argument),*).await?;
                Ok((lease, done))
            })
            .await
    };
}

macro_rules! reader {
    ($kind:ty) => {
        reader!(@all $kind;
                head() -> Option<$crate::Head>;
                task(seq: u32) -> Option<$crate::Task>;
                tasks(query: &$crate::TaskQuery) -> Vec<$crate::Task>;
                items(task: u32, query: &$crate::ItemQuery) -> Vec<$crate::Item>;
                some_items(task: u32, items: &[u32]) -> Vec<$crate::Item>;
                cell(space: &str, key: &str) -> Option<$crate::Cell>;
                cells(space: &str, after: Option<&str>, limit: u32) -> Vec<$crate::Cell>;
                events(from: u64, limit: u32) -> Vec<$crate::Event>;
                timers(after: Option<&str>, limit: u32) -> Vec<$crate::Timer>;
                documents(after: Option<&str>, limit: u32) -> Vec<$crate::DocumentInfo>;
                document_info(key: &str) -> Option<$crate::DocumentInfo>;
                document(key: &str) -> Option<Vec<u8>>;
        );
    };
    (@all $kind:ty; $($name:ident($($argument:ident: $type:ty),*) -> $found:ty;)*) => {
        #[async_trait::async_trait]
        impl $crate::Reader for $kind {
            $(async fn $name(&self, workflow: model::Id $(, $argument: $type)*) -> Result<$found, $crate::StateError> {
                read!(self, $name(workflow $(, $argument)*))
            })*
        }
    };
}
