//! Network namespaces with a name in the file system, and working inside them.

use std::fs::{self, File};
use std::future::Future;
use std::path::Path;

use miette::{IntoDiagnostic, Result, WrapErr};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// Makes a network namespace and keeps it alive under `path`.
pub fn create(path: &Path) -> Result<()> {
    let attempt = || -> std::io::Result<()> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        File::create(path)?;
        let target = path.to_owned();
        std::thread::spawn(move || -> std::io::Result<()> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            mount(Some("/proc/thread-self/ns/net"), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            Ok(())
        })
        .join()
        .map_err(|_| std::io::Error::other("the thread panicked"))?
    };
    attempt().into_diagnostic().wrap_err_with(|| format!("cannot make network namespace {}", path.display()))
}

/// Whether a namespace lives behind `path` (a plain file is the rest of a half-made one).
pub fn exists(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).is_ok_and(|s| s.filesystem_type() == nix::sys::statfs::NSFS_MAGIC)
}

/// Lets go of the namespace; a missing one is fine.
pub fn remove(path: &Path) {
    while exists(path) && umount2(path, MntFlags::MNT_DETACH).is_ok() {}
    let _ = fs::remove_file(path);
}

/// Moves the calling thread into the namespace; threads it starts later are born there.
pub fn enter(path: &Path) -> std::io::Result<()> {
    setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?;
    Ok(())
}

/// Runs `work` to its end on a thread inside the namespace.
pub fn inside<T, F, Fut>(path: &Path, work: F) -> Result<T>
where
    T: Send,
    F: FnOnce() -> Fut + Send,
    Fut: Future<Output = Result<T>>,
{
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(path).into_diagnostic().wrap_err_with(|| format!("cannot enter {}", path.display()))?;
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().into_diagnostic()?;
            runtime.block_on(work())
        });
        thread
            .join()
            .unwrap_or_else(|_| Err(miette::miette!("the thread inside {} panicked", path.display())))
    })
}
