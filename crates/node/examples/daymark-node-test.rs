//! The program that tests run as shim and as the built-in image: what `daymark shim` and `daymark web` do.

use std::ffi::OsString;

fn main() {
    let args = std::env::args_os().skip(1).collect::<Vec<OsString>>();
    let code = match args.split_first() {
        Some((command, rest)) if command == "shim" => daymark_node::shim::main(rest),
        Some((command, rest)) if command == "web" => daymark_node::web::main(rest),
        _ => 2,
    };
    std::process::exit(code);
}
