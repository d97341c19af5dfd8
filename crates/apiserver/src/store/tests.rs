//! The store from inside its process: preconditions, order, the past, compaction, expiry.

use super::*;

fn open(dir: &tempfile::TempDir, ring: usize) -> Store {
    let options = Options { ring, ..Options::new(dir.path().join("store.redb")) };
    Store::open(options).unwrap()
}

fn write(key: &str, expect: Expect, text: &str) -> Write {
    let head = format!("{{\"text\":\"{text}\",\"resourceVersion\":\"");
    let at = head.len();
    let object = Template { json: format!("{head}\"}}").into_bytes(), at };
    Write { key: key.into(), expect, object, delete: false, expires: 0 }
}

async fn put(store: &Store, key: &str, text: &str) -> u64 {
    let expect = store.get(key).map_or(Expect::Absent, |o| Expect::Revision(o.modified));
    store.write(write(key, expect, text)).await.unwrap().modified
}

async fn delete(store: &Store, key: &str) -> u64 {
    let expect = Expect::Revision(store.get(key).unwrap().modified);
    store.write(Write { delete: true, ..write(key, expect, "gone") }).await.unwrap().modified
}

fn text(bytes: &[u8]) -> String {
    serde_json::from_slice::<serde_json::Value>(bytes).unwrap()["text"].as_str().unwrap().to_owned()
}

fn shown(page: &Page) -> Vec<(String, String)> {
    page.items.iter().map(|(key, object)| (key.to_string(), text(&object.bytes))).collect()
}

fn pair(a: &str, b: &str) -> (String, String) {
    (a.into(), b.into())
}

async fn drain(watcher: &mut Watcher, until: u64) -> Vec<(u64, EventKind, String)> {
    let mut seen = Vec::new();
    while watcher.cursor() < until {
        let batch = watcher.ready().await.unwrap();
        seen.extend(batch.events.iter().map(|e| (e.revision, e.kind, e.key.to_string())));
    }
    seen
}

#[tokio::test]
async fn writes_need_what_they_expect() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 100);
    let first = store.write(write("core/pods/a/p", Expect::Absent, "1")).await.unwrap();
    assert_eq!(&first.bytes[..], br#"{"text":"1","resourceVersion":"2"}"#);
    let again = store.write(write("core/pods/a/p", Expect::Absent, "1")).await;
    assert_eq!(again.unwrap_err(), StoreError::Exists);
    let stale = store.write(write("core/pods/a/p", Expect::Revision(1), "2")).await;
    assert_eq!(stale.unwrap_err(), StoreError::Conflict(2));
    let missing = store.write(write("core/pods/a/q", Expect::Revision(2), "2")).await;
    assert_eq!(missing.unwrap_err(), StoreError::Missing);
    let second = store.write(write("core/pods/a/p", Expect::Revision(2), "2")).await.unwrap();
    assert_eq!((second.created, second.modified), (2, 3));
    assert_eq!(store.revision(), 3, "refused writes take no revision");
}

#[tokio::test]
async fn of_racing_writes_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 100);
    let base = put(&store, "core/pods/a/p", "0").await;
    let racers = (0..20).map(|n| store.write(write("core/pods/a/p", Expect::Revision(base), &n.to_string())));
    let results = futures::future::join_all(racers).await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
    assert!(results.iter().all(|r| matches!(r, Ok(_) | Err(StoreError::Conflict(_)))));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 100);
    put(&store, "core/pods/a/p", "1").await;
    put(&store, "core/pods/a/q", "1").await;
    put(&store, "core/pods/a/p", "2").await;
    let last = delete(&store, "core/pods/a/q").await;
    drop(store);
    let store = open(&dir, 100);
    assert_eq!(store.revision(), last);
    let object = store.get("core/pods/a/p").unwrap();
    assert_eq!((object.created, object.modified, text(&object.bytes).as_str()), (2, 4, "2"));
    assert!(store.get("core/pods/a/q").is_none());
    let mut watcher = store.watch("core/pods/", 1).unwrap();
    let kinds: Vec<EventKind> =
        drain(&mut watcher, last).await.into_iter().map(|(_, kind, _)| kind).collect();
    use EventKind::{Added, Deleted, Modified};
    assert_eq!(kinds, [Added, Added, Modified, Deleted], "a watch reaches back beyond the restart");
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _store = open(&dir, 100);
    let second = Store::open(Options::new(dir.path().join("store.redb")));
    assert!(matches!(second, Err(OpenError::Locked { .. })));
}

#[tokio::test]
async fn pages_show_the_moment_of_the_first() {
    for ring in [100, 2] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir, ring);
        for name in ["a", "b", "c", "d"] {
            put(&store, &format!("core/pods/x/{name}"), "old").await;
        }
        put(&store, "core/podtemplates/x/z", "other").await;
        let range = Range { prefix: "core/pods/".into(), limit: 2, ..Range::default() };
        let first = store.range(range.clone()).await.unwrap();
        assert_eq!(shown(&first), [pair("core/pods/x/a", "old"), pair("core/pods/x/b", "old")]);
        assert_eq!(first.remaining, 2);
        put(&store, "core/pods/x/c", "new").await;
        put(&store, "core/pods/x/c", "newer").await;
        delete(&store, "core/pods/x/d").await;
        put(&store, "core/pods/x/e", "new").await;
        let rest = Range {
            after: Some("core/pods/x/b".into()),
            at: Some(first.revision),
            limit: 0,
            ..range.clone()
        };
        let second = store.range(rest.clone()).await.unwrap();
        assert_eq!(shown(&second), [pair("core/pods/x/c", "old"), pair("core/pods/x/d", "old")]);
        assert_eq!((second.remaining, second.revision), (0, first.revision));
        assert_eq!(second.items[0].1.modified, 4, "the revision is that of then");
        store.compact(store.revision()).await.unwrap();
        assert!(matches!(store.range(rest).await, Err(StoreError::Compacted { .. })));
        let future = Range { at: Some(999), ..range };
        assert!(matches!(store.range(future).await, Err(StoreError::Future { .. })));
    }
}

#[tokio::test]
async fn a_watch_misses_nothing_wherever_it_begins() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 8);
    let mut revisions = Vec::new();
    for n in 0..300 {
        revisions.push(put(&store, &format!("core/pods/x/p{}", n % 7), "v").await);
        if n % 3 == 0 {
            put(&store, "core/nodes/n", "noise").await;
        }
    }
    let last = store.revision();
    for from in [1, 2, 150, 300, last - 9, last] {
        let mut watcher = store.watch("core/pods/x/", from).unwrap();
        let seen: Vec<u64> = drain(&mut watcher, last).await.into_iter().map(|(r, ..)| r).collect();
        let expected: Vec<u64> = revisions.iter().copied().filter(|r| *r > from).collect();
        assert_eq!(seen, expected, "from {from}");
    }
    assert!(matches!(store.watch("core/pods/", last + 1), Err(StoreError::Future { .. })));
}

#[tokio::test]
async fn a_waiting_watch_sees_events_with_what_was_before() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 2);
    let mut watcher = store.watch("core/pods/x/", store.revision()).unwrap();
    let reader = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.len() < 3 {
            for event in watcher.next().await.unwrap().events {
                seen.push((event.kind, text(&event.object), event.previous.as_deref().map(text)));
            }
        }
        seen
    });
    tokio::task::yield_now().await;
    put(&store, "core/pods/x/p", "1").await;
    put(&store, "core/pods/y/p", "elsewhere").await;
    put(&store, "core/pods/x/p", "2").await;
    delete(&store, "core/pods/x/p").await;
    let seen = reader.await.unwrap();
    assert_eq!(
        seen,
        [
            (EventKind::Added, "1".into(), None),
            (EventKind::Modified, "2".into(), Some("1".into())),
            (EventKind::Deleted, "gone".into(), Some("2".into())),
        ]
    );
}

#[tokio::test]
async fn many_writers_and_watchers_agree() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 16);
    let watchers = (0..3).map(|_| {
        let mut watcher = store.watch("core/pods/", 1).unwrap();
        tokio::spawn(async move {
            let mut seen = Vec::new();
            while seen.len() < 200 {
                seen.extend(watcher.next().await.unwrap().events.iter().map(|e| e.revision));
            }
            seen
        })
    });
    let watchers: Vec<_> = watchers.collect();
    let writers = (0..10).map(|w| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..20 {
                put(&store, &format!("core/pods/w{w}/p{n}"), "v").await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    for watcher in watchers {
        assert_eq!(watcher.await.unwrap(), (2..=201).collect::<Vec<u64>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_forgets_the_past_and_keeps_the_present() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 2);
    for n in 0..50 {
        put(&store, "core/pods/x/p", &n.to_string()).await;
    }
    put(&store, "core/pods/x/still", "here").await;
    let middle = store.revision();
    for n in 0..5 {
        put(&store, "core/pods/x/p", &format!("late {n}")).await;
    }
    delete(&store, "core/pods/x/p").await;
    let mut behind = store.watch("core/pods/", 1).unwrap();
    assert_eq!(store.compact(middle).await.unwrap(), middle);
    assert!(matches!(store.watch("core/pods/", middle - 1), Err(StoreError::Compacted { .. })));
    assert!(matches!(behind.ready().await, Err(StoreError::Compacted { .. })), "a reader behind it is ended");
    let mut watcher = store.watch("core/pods/", middle).unwrap();
    let batch = watcher.ready().await.unwrap();
    assert_eq!(batch.events.len(), 6);
    assert_eq!(batch.events[0].previous.as_deref().map(text).as_deref(), Some("49"), "its past is kept");
    assert_eq!(store.compact(store.revision()).await.unwrap(), store.revision());
    drop((store, behind, watcher));
    let store = open(&dir, 2);
    assert!(store.get("core/pods/x/p").is_none());
    assert_eq!(text(&store.get("core/pods/x/still").unwrap().bytes), "here");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expires_is_deleted_with_an_event() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, 100);
    let short = Write { expires: 100, ..write("core/events/x/short", Expect::Absent, "e") };
    store.write(short).await.unwrap();
    let long = Write { expires: 1_000, ..write("core/events/x/long", Expect::Absent, "e") };
    store.write(long).await.unwrap();
    put(&store, "core/pods/x/p", "never").await;
    assert_eq!(store.expire(100).await.unwrap(), 0, "not before its time");
    drop(store);
    let store = open(&dir, 100);
    assert_eq!(store.expire(101).await.unwrap(), 1, "the time survives a restart");
    assert!(store.get("core/events/x/short").is_none());
    assert!(store.get("core/events/x/long").is_some() && store.get("core/pods/x/p").is_some());
    let mut watcher = store.watch("core/events/", 4).unwrap();
    let batch = watcher.ready().await.unwrap();
    assert_eq!(batch.events[0].kind, EventKind::Deleted);
    assert_eq!(&batch.events[0].object[..], br#"{"text":"e","resourceVersion":"5"}"#);
}
