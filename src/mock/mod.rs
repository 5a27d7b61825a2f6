//! (mock: being written)
