//! Chores that need more than the build: run as `cargo xtask NAME`.

mod go;
mod golden;
mod rbac;
mod schema;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask NAME

  schema   extract the schema table from the published Kubernetes API modules (needs Go and network)
  rbac     extract the default roles and bindings from the published Kubernetes module (needs Go and network)
  golden   renew the test vectors with Kubernetes' own libraries (needs Go and network)
";

fn main() -> ExitCode {
    let name = std::env::args().nth(1);
    let done = match name.as_deref() {
        Some("schema") => schema::run(),
        Some("rbac") => rbac::run(),
        Some("golden") => golden::run(),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why:#}");
            ExitCode::FAILURE
        }
    }
}
