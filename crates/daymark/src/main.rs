//! Daymark, the binary: it only wires.

mod agent;
mod cli;
mod cluster;
mod command;
mod daemon;
mod interrupt;
mod lan;
mod node;
mod say;
mod teardown;

use clap::{CommandFactory, Parser};
use miette::{IntoDiagnostic, Report, Result};

use cli::{Cli, Command};
use cluster::process::Readiness;

fn main() -> std::process::ExitCode {
    if let Some(code) = reexec() {
        return code;
    }
    let cli = Cli::parse();
    log_to_stderr(&cli.command);
    // One provider for the whole process; a second call would only find it there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(cli.command) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("{}", told(&why));
            std::process::ExitCode::FAILURE
        }
    }
}

/// The programs that this binary also is: a pod's shim, and the web server of the built-in image. They
/// must not share a process with threads or a runtime, so they are told apart before anything starts.
fn reexec() -> Option<std::process::ExitCode> {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let code = match args.get(1).and_then(|a| a.to_str()) {
        Some("shim") => daymark_node::shim::main(&args[2..]),
        Some("web") => daymark_node::web::main(&args[2..]),
        _ => return None,
    };
    Some(std::process::ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

fn run(command: Command) -> Result<std::process::ExitCode> {
    if let Command::Verify(args) = &command {
        return runtime()?.block_on(command::verify::run(args));
    }
    carry_out(command).map(|()| std::process::ExitCode::SUCCESS)
}

fn carry_out(command: Command) -> Result<()> {
    match command {
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "daymark", &mut std::io::stdout());
            Ok(())
        }
        Command::Image(what) => command::image::run(&what),
        Command::Node { cluster, node } => node::run(&cluster.name, &node, Readiness::from_env()),
        Command::Daemon(cluster) => runtime()?.block_on(daemon::run(&cluster.name, Readiness::from_env())),
        Command::Up(args) => runtime()?.block_on(command::up::run(&args)),
        Command::Down(args) => runtime()?.block_on(command::down::run(&args)),
        Command::Start(args) => runtime()?.block_on(command::start::run(&args)),
        Command::Stop(args) => runtime()?.block_on(command::stop::run(&args)),
        Command::Status(args) => runtime()?.block_on(command::status::run(&args)),
        Command::Dump(args) => runtime()?.block_on(command::dump::run(&args)),
        Command::Top(cli::Top::Services(args)) => runtime()?.block_on(command::top::run(&args)),
        Command::Verify(args) => runtime()?.block_on(command::verify::run(&args)).map(drop),
        Command::Agent(args) => {
            agent::standalone::start_over_with_large_pages();
            runtime()?.block_on(agent::standalone::run(&args))
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().into_diagnostic()
}

/// Long-lived processes log; commands speak through their output and their errors.
fn log_to_stderr(command: &Command) {
    let level = match command {
        Command::Daemon(_) | Command::Node { .. } | Command::Agent(_) => "info",
        // What libraries have to say of an API server that is away is in our error.
        _ => "off,daymark=warn",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("DAYMARK_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}

/// An error as the user reads it: what failed, why, and what to do.
fn told(why: &Report) -> String {
    let help = why.help().map_or_else(String::new, |h| format!("\n  help: {h}"));
    format!("error: {}{help}", one_line(why))
}

/// The error and its causes on one line.
fn one_line(why: &Report) -> String {
    why.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
