//! The status machines: pure tables of edges (spec/orquesta.md §16). What isn't listed leaves a status as it is.

pub mod task;
pub mod workflow;

#[cfg(test)]
mod tests;
