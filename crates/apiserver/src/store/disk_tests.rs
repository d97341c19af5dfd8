//! A disk that loses power, or a process that is killed, after every single write and sync: whatever of
//! the store's writes is left, the store opens with everything that it acknowledged and nothing in halves.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::{Mutex, mpsc};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redb::{Database, StorageBackend};

use super::*;

/// The least that a disk writes as a whole.
const SECTOR: usize = 512;
const PREFIX: &str = "core/pods/";
const ROUNDS: usize = 24;

/// What was asked of the disk.
#[derive(Clone, Debug)]
enum Step {
    Write(usize, Vec<u8>),
    Len(usize),
    Sync,
}

/// Remembers every step, and lets no sync through while a gate is shut.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<(Vec<u8>, Vec<Step>)>>, Arc<Mutex<Option<Gate>>>);

#[derive(Debug)]
struct Gate {
    arrived: mpsc::Sender<()>,
    pass: mpsc::Receiver<()>,
}

impl Disk {
    fn with<T>(&self, act: impl FnOnce(&mut Vec<u8>, &mut Vec<Step>) -> T) -> T {
        let (bytes, steps) = &mut *self.0.lock().unwrap();
        act(bytes, steps)
    }

    fn step(&self, step: Step) {
        self.with(|bytes, steps| {
            perform(&step, bytes);
            steps.push(step);
        });
    }

    /// How many steps there were.
    fn now(&self) -> usize {
        self.with(|_, steps| steps.len())
    }
}

fn perform(step: &Step, bytes: &mut Vec<u8>) {
    match step {
        Step::Write(at, data) => {
            bytes.resize(bytes.len().max(at + data.len()), 0);
            bytes[*at..at + data.len()].copy_from_slice(data);
        }
        Step::Len(len) => bytes.resize(*len, 0),
        Step::Sync => {}
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|bytes, _| bytes.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = offset as usize;
        self.with(|bytes, _| {
            out.copy_from_slice(bytes.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.step(Step::Len(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if let Some(gate) = &*self.1.lock().unwrap() {
            gate.arrived.send(()).unwrap();
            gate.pass.recv().unwrap();
        }
        self.step(Step::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.step(Step::Write(offset as usize, data.to_vec()));
        Ok(())
    }
}

/// One write that was acknowledged, and the steps of the disk before it was asked for and when it was.
struct Written {
    asked: usize,
    acknowledged: usize,
    key: String,
    /// `None` for a deletion.
    object: Option<Bytes>,
}

/// What the store was asked and told.
#[derive(Default)]
struct Log {
    writes: BTreeMap<u64, Written>,
    /// Steps before and after, and the revision.
    compactions: Vec<(usize, usize, u64)>,
}

type State = BTreeMap<String, (u64, Bytes)>;

impl Log {
    fn state_at(&self, revision: u64) -> State {
        let mut state = State::new();
        for (revision, write) in self.writes.range(..=revision) {
            match &write.object {
                Some(object) => drop(state.insert(write.key.clone(), (*revision, object.clone()))),
                None => drop(state.remove(&write.key)),
            }
        }
        state
    }

    fn newest(&self, is: impl Fn(&Written) -> bool) -> u64 {
        self.writes.iter().rev().find(|(_, w)| is(w)).map_or(1, |(revision, _)| *revision)
    }

    /// Opens what is left of the disk after `step` steps, and compares.
    async fn check(&self, image: &[u8], step: usize, what: &str) {
        let dir =
            tempfile::tempdir_in(if std::path::Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" });
        let path = dir.as_ref().unwrap().path().join("store.redb");
        std::fs::write(&path, image).unwrap();
        let store =
            Store::open(Options::new(&path)).unwrap_or_else(|e| panic!("{what} after step {step}: {e}"));
        let revision = store.revision();
        let least = self.newest(|w| w.acknowledged <= step);
        let most = self.newest(|w| w.asked <= step);
        assert!(
            (least..=most).contains(&revision),
            "{what} after step {step}: revision {revision}, but {least} was acknowledged and {most} asked for"
        );
        let found: State = store
            .entries("")
            .into_iter()
            .map(|(key, object)| (key.to_string(), (object.modified, object.bytes)))
            .collect();
        assert!(found == self.state_at(revision), "{what} after step {step}: other objects at {revision}");
        self.check_events(&store, revision, step, what).await;
        let more = store.write(write("core/nodes/n", &Expect::Absent, "more", false)).await.unwrap();
        assert_eq!(more.modified, revision + 1, "{what} after step {step}");
    }

    /// Watches go back to the last compaction that was acknowledged, and no further.
    async fn check_events(&self, store: &Store, revision: u64, step: usize, what: &str) {
        let compacted = |limit: &dyn Fn(&(usize, usize, u64)) -> bool| {
            self.compactions.iter().filter(|c| limit(c)).map(|(.., to)| *to).max().unwrap_or(1)
        };
        let (done, asked) = (compacted(&|c| c.1 <= step), compacted(&|c| c.0 <= step));
        if done > 1 {
            let gone = store.watch(PREFIX, done - 1).err();
            assert!(matches!(gone, Some(StoreError::Compacted { .. })), "{what} after step {step}: {gone:?}");
        }
        let mut watcher = store.watch(PREFIX, asked).unwrap();
        let mut seen = Vec::new();
        while watcher.cursor() < revision {
            seen.extend(watcher.ready().await.unwrap().events);
        }
        let wanted: Vec<_> = self.writes.range((Bound::Excluded(asked), Bound::Included(revision))).collect();
        assert_eq!(seen.len(), wanted.len(), "{what} after step {step}: events from {asked} to {revision}");
        for (event, (revision, write)) in seen.iter().zip(wanted) {
            let before = self.state_at(revision - 1).get(&write.key).map(|(_, object)| object.clone());
            assert_eq!((event.revision, &*event.key), (*revision, write.key.as_str()));
            assert_eq!(event.previous, before, "{what} after step {step}: before {revision}");
            let object = (event.kind != EventKind::Deleted).then(|| event.object.clone());
            assert_eq!(object, write.object, "{what} after step {step}: {revision}");
        }
    }
}

fn write(key: &str, expect: &Expect, text: &str, delete: bool) -> Write {
    let head = format!("{{\"text\":\"{text}\",\"resourceVersion\":\"");
    let object = Template { at: head.len(), json: format!("{head}\"}}").into_bytes() };
    Write { key: key.into(), expect: *expect, object, delete, expires: 0 }
}

fn start(disk: &Disk) -> Store {
    let database =
        Database::builder().set_cache_size(open::CACHE_BYTES).create_with_backend(disk.clone()).unwrap();
    open::create_tables(&database).unwrap();
    let memory = open::load(&database, "simulated", 1_000).unwrap();
    Store::start(database, memory, Options::new("/nowhere"))
}

/// Creates, updates, deletes and compacts, up to eight at a time.
async fn work(disk: &Disk, rng: &mut StdRng) -> Log {
    let store = start(disk);
    disk.with(|_, steps| steps.push(Step::Sync)); // The file that `open` renames into place is whole.
    let mut log = Log::default();
    for round in 0..ROUNDS {
        let asked = disk.now();
        if round % 7 == 6 {
            let to = store.revision() - rng.random_range(0..20);
            store.compact(to).await.unwrap();
            log.compactions.push((asked, disk.now(), to));
        }
        let mut keys: Vec<u32> = (0..14).collect();
        let writes = (0..rng.random_range(1..=8)).map(|_| {
            let key = format!("{PREFIX}x/p{}", keys.swap_remove(rng.random_range(0..keys.len())));
            let present = store.get(&key);
            let delete = present.is_some() && rng.random_ratio(1, 4);
            let expect = present.map_or(Expect::Absent, |o| Expect::Revision(o.modified));
            let text = "x".repeat(rng.random_range(1..4_000));
            let asked = store.write(write(&key, &expect, &text, delete));
            async move {
                let object = asked.await.unwrap();
                (object.modified, key, (!delete).then_some(object.bytes), disk.now())
            }
        });
        let writes: Vec<_> = writes.collect();
        for (revision, key, object, acknowledged) in futures::future::join_all(writes).await {
            log.writes.insert(revision, Written { asked, acknowledged, key, object });
        }
    }
    log
}

/// `synced` and what happened to reach the disk of the steps since.
fn torn(synced: &[u8], since: &[Step], rng: &mut StdRng) -> Vec<u8> {
    let mut image = synced.to_vec();
    for step in since {
        match step {
            Step::Write(at, data) => {
                for (n, sector) in data.chunks(SECTOR).enumerate() {
                    let at = at + n * SECTOR;
                    // What lies beyond a length that was not written is lost too.
                    if rng.random_bool(0.5) && at + sector.len() <= image.len() {
                        image[at..at + sector.len()].copy_from_slice(sector);
                    }
                }
            }
            Step::Len(len) if rng.random_bool(0.5) => image.resize(*len, 0),
            Step::Len(_) | Step::Sync => {}
        }
    }
    image
}

#[tokio::test(flavor = "multi_thread")]
async fn no_crash_loses_what_was_acknowledged() {
    let seed =
        std::env::var("DAYMARK_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("DAYMARK_TEST_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let disk = Disk::default();
    let log = work(&disk, &mut rng).await;
    let steps = disk.with(|_, steps| steps.clone());
    let (mut cached, mut synced, mut since) = (Vec::new(), Vec::new(), 0);
    let first = log.writes.values().next().unwrap().asked;
    for (n, step) in steps.iter().enumerate() {
        if matches!(step, Step::Sync) {
            if n >= first {
                log.check(&synced, n, "power cut with nothing written").await;
            }
            synced.clone_from(&cached);
            since = n + 1;
        }
        perform(step, &mut cached);
        if n < first {
            continue;
        }
        log.check(&cached, n + 1, "killed").await;
        log.check(&torn(&synced, &steps[since..=n], &mut rng), n + 1, "power cut with some written").await;
    }
    let syncs = steps.iter().filter(|s| matches!(s, Step::Sync)).count();
    eprintln!("{} steps, {syncs} of them syncs, {} bytes", steps.len(), cached.len());
    assert!(syncs > ROUNDS, "the workload syncs");
}

#[tokio::test]
async fn nobody_is_refused_for_a_write_that_is_not_on_the_disk() {
    let disk = Disk::default();
    let store = start(&disk);
    let (arrived, arrivals) = mpsc::channel();
    let (passes, pass) = mpsc::channel();
    *disk.1.lock().unwrap() = Some(Gate { arrived, pass });
    let create = |name: &str| store.write(write(&format!("{PREFIX}x/{name}"), &Expect::Absent, "t", false));
    let mut first = std::pin::pin!(create("first"));
    assert!(futures::poll!(&mut first).is_pending());
    arrivals.recv().unwrap();
    // These two wait for the writer together, and so share a sync.
    let (mut second, mut third) = (std::pin::pin!(create("same")), std::pin::pin!(create("same")));
    assert!(futures::poll!(&mut second).is_pending() && futures::poll!(&mut third).is_pending());
    passes.send(()).unwrap();
    first.await.unwrap();
    arrivals.recv().unwrap();
    assert!(store.get("core/pods/x/same").is_none());
    assert!(futures::poll!(&mut third).is_pending(), "it is refused for what nobody can see");
    passes.send(()).unwrap();
    second.await.unwrap();
    assert_eq!(third.await.unwrap_err(), StoreError::Exists);
    *disk.1.lock().unwrap() = None;
}
