//! Buses on the shared broker or on one of a test's own.
