//! What *should be*, decided purely from the model. No I/O, no clock, no randomness, no logging.

pub mod tables;
