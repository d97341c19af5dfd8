//! What each command does, in order, for the user to follow.

pub mod down;
pub mod image;
pub mod progress;
pub mod start;
pub mod status;
pub mod stop;
pub mod up;
