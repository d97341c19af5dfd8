//! Watch streams that recover: streaming lists where the server has them, plain lists where not.

use std::fmt::Debug;
use std::time::Duration;

use futures::stream::{self, BoxStream, Stream, StreamExt};
use kube::runtime::watcher::{self, Config, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

pub const FIRST_DELAY: Duration = Duration::from_millis(50);
pub const LAST_DELAY: Duration = Duration::from_secs(5);

type Events<K> = BoxStream<'static, watcher::Result<Event<K>>>;

struct Watching<K> {
    open: Box<dyn Fn(bool) -> Events<K> + Send>,
    events: Events<K>,
    streaming: bool,
    delay: Option<Duration>,
}

/// Watches a collection for ever. Errors are passed on for logging; the stream then waits (50 ms,
/// doubling to 5 s while errors last) and goes on.
pub fn watch<K>(api: Api<K>, config: Config) -> impl Stream<Item = watcher::Result<Event<K>>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    recovering(move |streaming| {
        let config = if streaming { config.clone().streaming_lists() } else { config.clone() };
        watcher::watcher(api.clone(), config).boxed()
    })
}

fn recovering<K: Send + 'static>(
    open: impl Fn(bool) -> Events<K> + Send + 'static,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send {
    let events = open(true);
    let watching = Watching { open: Box::new(open), events, streaming: true, delay: None };
    stream::unfold(watching, |mut w| async move {
        loop {
            if let Some(delay) = w.delay {
                tokio::time::sleep(delay).await;
            }
            match w.events.next().await? {
                Err(error) if w.streaming && refuses_streaming(&error) => {
                    w.streaming = false;
                    w.events = (w.open)(false);
                }
                Err(error) => {
                    w.delay = Some(w.delay.map_or(FIRST_DELAY, |d| (d * 2).min(LAST_DELAY)));
                    return Some((Err(error), w));
                }
                Ok(event) => {
                    w.delay = None;
                    return Some((Ok(event), w));
                }
            }
        }
    })
}

/// An API server without WatchList answers 400 or 422 to `sendInitialEvents`.
fn refuses_streaming(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => matches!(status.code, 400 | 422),
        watcher::Error::WatchError(status) => matches!(status.code, 400 | 422),
        _ => false,
    }
}
