//! News: what scripts of other servers did, as they publish it. One thread listens. When it could not
//! for a while it asks for everything anew.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak, mpsc};
use std::task::Waker;
use std::time::{Duration, Instant};

use redis::{Connection, RedisResult};

use super::Shared;
use super::known::From;
use super::link;
use crate::store::{Due, lock, system_clock};

/// So long nothing is heard before the connection is tried.
const SILENCE: Duration = Duration::from_secs(1);

const RETRY: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// What has been heard, until a tick tells of it.
#[derive(Default)]
pub struct News {
    heard: Mutex<Due>,
    any: AtomicBool,
    waker: Mutex<Option<Waker>>,
    /// Something may have been done of which no answer told.
    doubt: AtomicBool,
    /// Since when nothing is heard, or not all that was missed is known.
    lost: Mutex<Option<Instant>>,
    ended: Mutex<bool>,
    end: Condvar,
}

impl News {
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    pub fn when_told(&self, waker: Waker) {
        *lock(&self.waker) = Some(waker);
    }

    pub fn take(&self) -> Due {
        self.any.store(false, Ordering::Release);
        std::mem::take(&mut *lock(&self.heard))
    }

    /// Tells those who wait, in a while.
    pub fn tell(&self, due: Due) {
        let any = !due.put.is_empty() || !due.returned.is_empty();
        let mut heard = lock(&self.heard);
        merge(&mut heard.put, due.put);
        merge(&mut heard.returned, due.returned);
        drop(heard);
        if any {
            self.any.store(true, Ordering::Release);
        }
        // That something is due sooner is news too.
        self.wake();
    }

    pub fn wake(&self) {
        if let Some(waker) = &*lock(&self.waker) {
            waker.wake_by_ref();
        }
    }

    /// All that there is shall be asked for.
    pub fn doubt(&self) {
        self.doubt.store(true, Ordering::Release);
    }

    /// How long it is that not all that others do is known here.
    pub fn lag(&self) -> Option<Duration> {
        lock(&self.lost).map(|since| since.elapsed())
    }

    /// The connection broke; true if that is new.
    fn lose(&self) -> bool {
        let mut lost = lock(&self.lost);
        let new = lost.is_none();
        lost.get_or_insert_with(Instant::now);
        new
    }

    pub fn end(&self) {
        *lock(&self.ended) = true;
        self.end.notify_all();
    }

    fn pause(&self, pause: Duration) {
        let ended = lock(&self.ended);
        if !*ended {
            drop(self.end.wait_timeout(ended, pause).map_err(PoisonError::into_inner));
        }
    }
}

fn merge<T: PartialEq>(all: &mut Vec<T>, more: Vec<T>) {
    for one in more {
        if all.last() != Some(&one) {
            all.push(one);
        }
    }
}

/// Listens on a thread of its own until the store is dropped; `ready` hears when it does, or cannot.
pub fn listen(
    shared: &Arc<Shared>,
    ready: mpsc::Sender<Result<(), String>>,
) -> std::io::Result<()> {
    let shared = Arc::downgrade(shared);
    let thread = std::thread::Builder::new().name("news".into());
    thread.spawn(move || run(&shared, ready)).map(drop)
}

fn run(shared: &Weak<Shared>, ready: mpsc::Sender<Result<(), String>>) {
    let mut ready = Some(ready);
    let mut pause = RETRY;
    while let Some(store) = shared.upgrade() {
        let connected = store.link.connect(SILENCE);
        drop(store);
        let heard = connected
            .and_then(|mut connection| hear(shared, &mut connection, &mut ready, &mut pause));
        let Err(error) = heard else { return };
        if let Some(ready) = ready.take() {
            // Nobody waits for a store that could not be opened.
            let _ = ready.send(Err(error.to_string()));
            return;
        }
        let Some(store) = shared.upgrade() else { return };
        store.link.presence().ask();
        if store.news.lose() {
            let why = link::reason(&error);
            tracing::warn!("no news from Redis ({why}): what other servers do is not heard of");
        }
        store.news.pause(pause);
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// Listens until the connection fails, or the store is dropped.
fn hear(
    shared: &Weak<Shared>,
    connection: &mut Connection,
    ready: &mut Option<mpsc::Sender<Result<(), String>>>,
    pause: &mut Duration,
) -> RedisResult<()> {
    let Some(store) = shared.upgrade() else { return Ok(()) };
    let mut listening = connection.as_pubsub();
    listening.subscribe(&store.channel)?;
    match ready.take() {
        Some(ready) => drop(ready.send(Ok(()))),
        None => store.news.doubt(),
    }
    drop(store);
    loop {
        if !learn_what_was_missed(shared, pause) {
            continue;
        }
        match listening.get_message() {
            Ok(told) => match shared.upgrade() {
                Some(store) => store.hear(told.get_payload_bytes()),
                None => return Ok(()),
            },
            Err(error) if error.is_timeout() => {
                if shared.strong_count() == 0 {
                    return Ok(());
                }
                listening.ping::<redis::Value>()?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Asks for all that there is, if something may have been missed; false if that has to be tried again.
fn learn_what_was_missed(shared: &Weak<Shared>, pause: &mut Duration) -> bool {
    let Some(store) = shared.upgrade() else { return true };
    if !store.news.doubt.swap(false, Ordering::AcqRel) {
        return true;
    }
    match store.learn_all(From::Anew) {
        Ok(due) => {
            *pause = RETRY;
            if let Some(since) = lock(&store.news.lost).take() {
                let seconds = since.elapsed().as_secs_f64();
                tracing::info!("what Redis holds is known again after {seconds:.1} s");
            }
            store.news.tell(due);
            true
        }
        Err(error) => {
            tracing::debug!("what Redis holds is not known yet: {error}");
            store.news.doubt();
            store.news.pause(RETRY);
            false
        }
    }
}

impl Shared {
    /// What some server's script did.
    fn hear(&self, told: &[u8]) {
        let Ok(told) = std::str::from_utf8(told) else { return };
        // The own answers tell the same.
        if told.split(' ').next() == Some(self.server.as_str()) {
            return;
        }
        let before = self.known.due();
        let Some(done) = self.known.learn(told, From::News, system_clock()) else { return };
        if !done.put.is_empty() || !done.returned.is_empty() || self.known.due() < before {
            self.news.tell(done);
        }
    }
}
