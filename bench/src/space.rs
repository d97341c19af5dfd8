//! Network namespaces, and processes in them. Both end with the value that stands for them.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace without a name: it is gone when nothing is in it any more.
pub struct Space {
    file: File,
}

impl Space {
    pub fn new() -> Result<Self> {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("benchmarks need root")?;
            Ok::<_, anyhow::Error>(File::open("/proc/thread-self/ns/net")?)
        });
        let space = Self { file: joined(made.join())? };
        space.command("ip link set lo up")?;
        Ok(space)
    }

    /// The one that this process is in.
    pub fn own() -> Result<Self> {
        Ok(Self { file: File::open("/proc/self/ns/net")? })
    }

    /// Does something inside, on a thread of its own.
    pub fn run<T: Send>(&self, action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET)?;
                action()
            });
            joined(inside.join())
        })
    }

    /// Leaves a thread inside until the process ends.
    pub fn serve(&self, action: impl FnOnce() + Send + 'static) -> Result<()> {
        let file = self.file.try_clone()?;
        std::thread::spawn(move || {
            if setns(&file, CloneFlags::CLONE_NEWNET).is_ok() {
                action();
            }
        });
        Ok(())
    }

    /// Runs a command line to success.
    pub fn command(&self, line: &str) -> Result<String> {
        self.run(|| {
            let mut words = line.split(' ');
            let mut command = Command::new(words.next().unwrap_or_default());
            run(command.args(words))
        })
    }

    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        self.run(|| std::fs::write(format!("/proc/sys/{name}"), value).with_context(|| name.to_owned()))
    }

    /// Starts a process inside; what it says goes to a file.
    pub fn start(&self, command: &mut Command, log: &Path) -> Result<Running> {
        let log = File::create(log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.run(|| Ok(Running(command.spawn().with_context(|| format!("cannot run {command:?}"))?)))
    }

    /// A path that `ip link … netns` takes.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }
}

fn joined<T>(result: std::thread::Result<Result<T>>) -> Result<T> {
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs a command to success and returns what it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let done = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let out = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        bail!("{command:?} failed:\n{out}{}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(out)
}

/// Of this process; see [`Running::cpu_seconds`].
pub fn own_cpu_seconds() -> Result<f64> {
    cpu_seconds("self")
}

fn cpu_seconds(process: &str) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    // The kernel counts in hundredths of a second for user space, whatever its own tick.
    Ok((ticks(11) + ticks(12)) / 100.0)
}

/// A process, killed when dropped.
pub struct Running(pub Child);

impl Running {
    /// Seconds of processor time that it has used, user and system.
    pub fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(&self.0.id().to_string())
    }

    /// Resident memory in MiB.
    pub fn resident_mib(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }

    /// Memory of the BPF maps that it holds open, in MiB.
    pub fn maps_mib(&self) -> Result<f64> {
        let mut maps = std::collections::BTreeMap::new();
        for entry in std::fs::read_dir(format!("/proc/{}/fdinfo", self.0.id()))?.flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let field = |name: &str| {
                text.lines().find_map(|l| l.strip_prefix(name)).and_then(|v| v.trim().parse::<u64>().ok())
            };
            if let (Some(id), Some(bytes)) = (field("map_id:"), field("memlock:")) {
                maps.insert(id, bytes);
            }
        }
        #[allow(clippy::cast_precision_loss, reason = "megabytes")]
        Ok(maps.values().sum::<u64>() as f64 / f64::from(1 << 20))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
