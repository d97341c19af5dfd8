//! What each command does, in order, for the user to follow.

pub mod down;
pub mod dump;
pub mod image;
pub mod observe;
pub mod progress;
pub mod start;
pub mod status;
pub mod stop;
pub mod top;
pub mod up;
pub mod verify;

/// A table without lines, as kubectl prints them.
fn table<const N: usize>(header: [&str; N]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(header);
    table
}
