//! (project: being written)
