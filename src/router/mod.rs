//! (router: being written)
