//! The built-in web server image: shows which pod answers, calls a next tier, echoes TCP and UDP.

mod client;
mod echo;
mod identity;
mod listen;
mod page;
mod server;

use std::ffi::OsString;
use std::time::Duration;

use identity::Identity;

const USAGE: &str = "usage: daymark web [--port N] [--tcp-echo PORT] [--udp-echo PORT]
       daymark web get [--count N] [--timeout SECONDS] URL

Environment: PORT (80), WEB_VERSION, BACKEND_URL (the next tier, asked for each page),
POD_NAME, POD_NAMESPACE, POD_IP, NODE_NAME (otherwise found out).
Paths: / /hostname /clientip /json /healthz /readyz /fetch?url=…, POST /ready?on=false";

/// What the command line asks for.
#[derive(Debug, PartialEq)]
enum Command {
    Serve(Ports),
    Get { url: String, count: u32, timeout: Duration },
}

/// Where to listen.
#[derive(Clone, Debug, Default, PartialEq)]
struct Ports {
    http: Option<u16>,
    tcp_echo: Vec<u16>,
    udp_echo: Vec<u16>,
}

/// Runs `daymark web ARGS`; returns the process's exit code.
pub fn main(args: &[OsString]) -> i32 {
    let args = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}");
        return 0;
    }
    let command = match parse(&args) {
        Ok(command) => command,
        Err(problem) => {
            eprintln!("daymark web: {problem}\n{USAGE}");
            return 2;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("daymark web: {error}");
            return 1;
        }
    };
    let result = match command {
        Command::Serve(ports) => runtime.block_on(serve(ports)),
        Command::Get { url, count, timeout } => runtime.block_on(get(&url, count, timeout)),
    };
    // A name look-up that hangs must not keep the program from ending.
    runtime.shutdown_background();
    match result {
        Ok(()) => 0,
        Err(problem) => {
            eprintln!("daymark web: {problem}");
            1
        }
    }
}

fn parse(args: &[String]) -> Result<Command, String> {
    let getting = args.first().is_some_and(|arg| arg == "get");
    let (mut ports, mut url, mut count, mut timeout) = (Ports::default(), None, 1, 10.0);
    let mut rest = args.iter().skip(usize::from(getting));
    while let Some(arg) = rest.next() {
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            _ => (arg.as_str(), None),
        };
        let mut value =
            || inline.clone().or_else(|| rest.next().cloned()).ok_or(format!("{name} needs a value"));
        match (getting, name) {
            (false, "--port") => ports.http = Some(number(name, &value()?)?),
            (false, "--tcp-echo") => ports.tcp_echo.push(number(name, &value()?)?),
            (false, "--udp-echo") => ports.udp_echo.push(number(name, &value()?)?),
            (true, "--count") => count = number(name, &value()?)?,
            (true, "--timeout") => timeout = number(name, &value()?)?,
            (true, text) if !text.starts_with('-') && url.is_none() => url = Some(arg.clone()),
            _ => return Err(format!("unknown argument {arg:?}")),
        }
    }
    if !getting {
        return Ok(Command::Serve(ports));
    }
    let url = url.ok_or("get needs a URL")?;
    let timeout = Duration::try_from_secs_f64(timeout).map_err(|error| format!("--timeout: {error}"))?;
    Ok(Command::Get { url, count, timeout })
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{name}: {text:?} is not a proper number"))
}

async fn serve(ports: Ports) -> Result<(), String> {
    let identity = Identity::find();
    for port in &ports.tcp_echo {
        echo::tcp(*port).await?;
    }
    for port in &ports.udp_echo {
        echo::udp(*port, identity.pod.clone()).await?;
    }
    let port = match (ports.http, std::env::var("PORT")) {
        (Some(port), _) => port,
        (None, Ok(text)) => number("PORT", &text)?,
        (None, Err(_)) => 80,
    };
    server::run(port, identity).await
}

async fn get(url: &str, count: u32, timeout: Duration) -> Result<(), String> {
    for _ in 0..count {
        let answer = client::get(url, timeout, 0).await?;
        print!("{}", answer.body);
        if !answer.body.ends_with('\n') {
            println!();
        }
        if !(200..300).contains(&answer.status) {
            return Err(format!("{url} answered {}", answer.status));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Result<Command, String> {
        parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn flags_are_understood_in_both_forms() {
        let ports = Ports { http: Some(8080), tcp_echo: vec![7], udp_echo: vec![7, 9] };
        let given = args("--port=8080 --tcp-echo 7 --udp-echo 7 --udp-echo=9");
        assert_eq!(given, Ok(Command::Serve(ports)));
        let get =
            Command::Get { url: "http://a/b?c=d".into(), count: 3, timeout: Duration::from_millis(500) };
        assert_eq!(args("get --count 3 --timeout 0.5 http://a/b?c=d"), Ok(get));
    }

    #[test]
    fn nonsense_is_named() {
        assert!(args("--port x").expect_err("no number").contains("\"x\""));
        assert!(args("--frob").expect_err("unknown").contains("--frob"));
        assert!(args("get").expect_err("no url").contains("URL"));
        assert!(args("get --timeout -1 http://a").is_err());
    }
}
