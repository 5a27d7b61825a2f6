//! Random files and random edits.
