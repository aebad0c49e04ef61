//! The group of nodes, as far as work on resources asks for it.

/// What a node knows of itself and the others; set once, before roles start ([`crate::Services::nodes`]).
pub trait Nodes: Send + Sync + std::fmt::Debug {
    /// This node.
    fn name(&self) -> &str;

    /// Nodes that are up and keep packs on their disks; none while this node can't tell.
    fn with_packs(&self) -> Option<Vec<String>>;
}
