//! (upstream: being written)
