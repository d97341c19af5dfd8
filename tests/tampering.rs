//! What becomes of a node's data plane when its agent is killed, or somebody breaks it by hand.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{Cluster, Laptop, check, eventually};

const DAYMARK: &str = env!("CARGO_BIN_EXE_daymark");

fn bpf(laptop: &Laptop, node: &str) -> PathBuf {
    laptop.path("run").join(&laptop.name).join("bpf").join(node)
}

fn maps(laptop: &Laptop, node: &str) -> PathBuf {
    let folders = fs::read_dir(bpf(laptop, node)).expect("pins").flatten().map(|e| e.path());
    let named = |path: &Path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("maps-"));
    folders.into_iter().find(|path| named(path)).expect("a folder of maps")
}

/// Exit code and output.
fn verify(laptop: &Laptop) -> (i32, String) {
    let done = laptop.output(&[DAYMARK, "verify"]);
    let text = support::text(&done.stdout) + &support::text(&done.stderr);
    (done.status.code().unwrap_or(-1), text)
}

fn is_equal(laptop: &Laptop) -> Result<(), String> {
    let (code, text) = verify(laptop);
    check(code == 0, format!("verify ended with {code}:\n{text}"))
}

fn json(laptop: &Laptop, args: &[&str]) -> Value {
    serde_json::from_str(&laptop.daymark(&[args, &["-o", "json"]].concat())).expect("JSON")
}

/// A deployment behind node port 30008; the node ports' address on node1.
fn serve<'a>(laptop: &'a Laptop) -> (Cluster<'a>, String) {
    let cluster = laptop.up();
    cluster.create_example("deployment.yml");
    cluster.create_example("service-definition.yml");
    laptop.kubectl("rollout status deployment/myapp-deployment --timeout=60s");
    let address = format!("{}:30008", cluster.node_ips()[0]);
    eventually("the Service answers", || cluster.curl(&format!("http://{address}/hostname")));
    eventually("the kernel holds what the API says", || is_equal(laptop));
    (cluster, address)
}

fn kill_node1(laptop: &Laptop) {
    let status = json(laptop, &["status"]);
    let rows = status["processes"].as_array().expect("processes");
    let row = rows.iter().find(|row| row["process"] == "node1").expect("node1");
    laptop.run(&["kill", "-9", &row["pid"].to_string()]);
}

#[test]
fn a_dead_agent_leaves_everything_as_it_was_for_all_to_see() {
    let laptop = Laptop::new();
    let (cluster, address) = serve(&laptop);
    let shown = || json(&laptop, &["dump", "--node", "node1"])[0]["frontends"].clone();
    let before = shown();
    let all = before.as_array().expect("frontends");
    assert!(all.iter().any(|row| row["address"] == address.as_str()), "{before}");
    kill_node1(&laptop);
    assert_eq!(shown(), before);
    is_equal(&laptop).expect("nothing is lost");
    cluster.curl(&format!("http://{address}/hostname")).expect("pinned programs serve on");
}

#[test]
fn verify_finds_what_was_changed_by_hand_and_a_new_agent_mends_it() {
    let laptop = Laptop::new();
    let (_cluster, address) = serve(&laptop);
    // The first 14 slots are in the Service's own entry.
    laptop.kubectl("scale deployment/myapp-deployment --replicas=16");
    laptop.kubectl("rollout status deployment/myapp-deployment --timeout=60s");
    eventually("all backends are known", || is_equal(&laptop));
    kill_node1(&laptop);
    let frontends = raw::Map::open(&maps(&laptop, "node1").join("frontends"));
    frontends.delete_where(20, |key| key[16..18] == 30008_u16.to_be_bytes());
    let (code, text) = verify(&laptop);
    assert_eq!(code, 1, "{text}");
    let told = |line: &str| line.contains("node1") && line.contains(&format!("{address}/TCP"));
    assert!(text.lines().any(|line| told(line) && line.contains("nothing")), "{text}");

    let slots = raw::Map::open(&maps(&laptop, "node1").join("slots"));
    slots.delete_where(12, |key| key[8..12] == 14_u32.to_ne_bytes());
    let links = bpf(&laptop, "node1").join("links");
    let uplink = fs::read_dir(&links).expect("links").flatten().map(|e| e.path());
    let uplink = uplink.into_iter().find(|path| path.display().to_string().contains("/uplink-"));
    fs::remove_file(uplink.expect("the uplink's link")).expect("removing it");
    let (code, text) = verify(&laptop);
    assert_eq!(code, 1, "{text}");
    for part in ["default/myapp-service:80/TCP", "backends", "uplink", "nowhere"] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    laptop.daymark(&["start"]);
    eventually("the new agent mends what was changed", || is_equal(&laptop));
}

#[test]
fn pins_that_somebody_deletes_are_restored_under_a_running_agent() {
    let laptop = Laptop::new();
    let (cluster, address) = serve(&laptop);
    let url = format!("http://{address}/hostname");
    let works = || {
        is_equal(&laptop)?;
        cluster.curl(&url).map(drop)
    };
    fs::remove_dir_all(bpf(&laptop, "node1").join("links")).expect("removing the links");
    eventually("programs are attached again", works);
    fs::remove_dir_all(maps(&laptop, "node1")).expect("removing the maps");
    eventually("maps are pinned and filled again", works);
    laptop.kubectl("scale deployment/myapp-deployment --replicas=1");
    laptop.kubectl("rollout status deployment/myapp-deployment --timeout=60s");
    eventually("the agent goes on", || {
        let dump = json(&laptop, &["dump", "--node", "node1"]);
        let rows = dump[0]["frontends"].as_array().cloned().unwrap_or_default();
        let row = rows.into_iter().find(|row| row["address"] == address.as_str());
        check(row.as_ref().is_some_and(|row| row["backends"] == 1), format!("{row:?}"))?;
        works()
    });
}

/// Maps changed without asking anybody.
mod raw {
    use std::ffi::CString;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::path::Path;

    use nix::libc;

    const DELETE: i32 = 3;
    const NEXT_KEY: i32 = 4;
    const OPEN: i32 = 7;

    pub struct Map(OwnedFd);

    fn bpf(command: i32, attributes: &mut [u64; 4]) -> i32 {
        // SAFETY: the attributes hold pointers to buffers that live until the call returns.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), 32) };
        i32::try_from(result).expect("a result")
    }

    impl Map {
        pub fn open(path: &Path) -> Self {
            let name = CString::new(path.display().to_string()).expect("a path");
            let fd = bpf(OPEN, &mut [name.as_ptr() as u64, 0, 0, 0]);
            assert!(fd >= 0, "cannot open {}: {}", path.display(), std::io::Error::last_os_error());
            // SAFETY: the kernel has just given us this descriptor.
            Self(unsafe { OwnedFd::from_raw_fd(fd) })
        }

        /// Deletes the entries whose key is so; there must be some.
        pub fn delete_where(&self, key_size: usize, is_so: impl Fn(&[u8]) -> bool) {
            let fd = u64::try_from(self.0.as_raw_fd()).expect("a descriptor");
            let mut keys: Vec<Vec<u8>> = Vec::new();
            loop {
                let mut next = vec![0_u8; key_size];
                let last = keys.last().map_or(0, |key| key.as_ptr() as u64);
                if bpf(NEXT_KEY, &mut [fd, last, next.as_mut_ptr() as u64, 0]) != 0 {
                    break;
                }
                keys.push(next);
            }
            keys.retain(|key| is_so(key));
            assert!(!keys.is_empty(), "nothing to delete");
            for key in keys {
                assert_eq!(bpf(DELETE, &mut [fd, key.as_ptr() as u64, 0, 0]), 0);
            }
        }
    }
}
