//! Real images.
