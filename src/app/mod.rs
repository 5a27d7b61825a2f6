//! (app: being written)
