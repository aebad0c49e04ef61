//! Factories of the contract suite.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod postgres;
