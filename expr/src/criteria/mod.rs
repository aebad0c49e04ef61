//! Rule criteria (placeholder until the next commit).
