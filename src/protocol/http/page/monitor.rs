//! The monitor: takes a snapshot of the server once a second, starting with the first request for
//! one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::broker::{Caller, Health, Stats, Vitals};
use crate::config::WhenFull;
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::protocol::http::app::App;

const EVERY: Duration = Duration::from_secs(1);

/// Health uses the median of this many probes, so that one slow probe does not matter.
const WAITS: usize = 5;

#[derive(Default)]
pub struct Monitor {
    snapshots: OnceLock<watch::Receiver<Arc<Snapshot>>>,
}

/// The state of the server at one second.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub number: u64,
    pub stats: Stats,
    /// Connections by protocol.
    pub protocol_counts: BTreeMap<&'static str, u64>,
    pub wait: Duration,
    pub health: Health,
    /// The reason for a health other than good.
    pub why: String,
    /// The last seconds, with this one at the end.
    pub points: VecDeque<RatePoint>,
}

/// Rates over one second, in messages per second.
#[derive(Clone, Copy, Debug, Default)]
pub struct RatePoint {
    /// Unix seconds.
    pub at: f64,
    pub put: f64,
    pub out: f64,
}

impl Monitor {
    /// Subscribes to the snapshots; the latest is available at once.
    pub async fn snapshots(&self, app: &Arc<App>) -> Result<watch::Receiver<Arc<Snapshot>>> {
        let snapshots = self.snapshots.get_or_init(|| {
            let (sender, snapshots) = watch::channel(Arc::default());
            tokio::spawn(monitor(app.clone(), sender));
            snapshots
        });
        let mut snapshots = snapshots.clone();
        let first = snapshots.wait_for(|snapshot| snapshot.number > 0).await.map(drop);
        first.map_err(|_| Error::new(Code::Closing, "the server is closing: try again later"))?;
        Ok(snapshots)
    }

    /// The latest snapshot.
    pub async fn latest(&self, app: &Arc<App>) -> Result<Arc<Snapshot>> {
        Ok(self.snapshots(app).await?.borrow().clone())
    }
}

/// Takes snapshots until the server stops.
async fn monitor(app: Arc<App>, snapshots: watch::Sender<Arc<Snapshot>>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut probe = Probe::begin(&app, Instant::now());
    let mut waits = VecDeque::new();
    let (mut drops, mut refusals) = (RecentLosses::default(), RecentLosses::default());
    let mut before = Instant::now();
    loop {
        let due = tokio::select! {
            due = ticks.tick() => due,
            () = app.stopping() => return,
        };
        probe = probe.go_on(&app, due).await;
        waits.push_back(probe.waited.max(probe.pending()));
        waits.drain(..waits.len().saturating_sub(WAITS));
        let (broker, server) = (app.broker(), Caller::server());
        let (stats, away) = (broker.stats(&server), broker.check_store(&server).err());
        let passed = std::mem::replace(&mut before, Instant::now()).elapsed();
        let vitals = Vitals {
            wait: median(&waits),
            failure: away.map(|error| error.text.into_owned()).or_else(|| probe.failure.clone()),
            connections: stats.connections,
            max_connections: app.config.max_connections as u64,
            store: stats.store.clone(),
            refuses: app.config.when_full() == WhenFull::Refuse,
            dropped: drops.recent(stats.dropped, before),
            refused: refusals.recent(stats.store.refused, before),
            drops_old: app.config.keep.is_some(),
        };
        let last = snapshots.borrow().clone();
        snapshots.send_replace(Arc::new(next(&app, &last, stats, &vitals, passed)));
    }
}

/// The snapshot that follows `last` after `passed`.
fn next(app: &App, last: &Snapshot, stats: Stats, vitals: &Vitals, passed: Duration) -> Snapshot {
    let out = |stats: &Stats| stats.takes + stats.reads;
    let seconds = passed.as_secs_f64().max(0.001);
    let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
    let mut points = last.points.clone();
    // The first snapshot has no earlier counts to compare with.
    if last.number > 0 {
        points.push_back(RatePoint {
            at: unix_seconds(),
            put: rate(stats.puts, last.stats.puts),
            out: rate(out(&stats), out(&last.stats)),
        });
    }
    points.drain(..points.len().saturating_sub(limits::PAGE_POINTS));
    let (health, why) = vitals.judge();
    let protocol_counts = app.broker().protocol_counts();
    Snapshot {
        number: last.number + 1,
        stats,
        protocol_counts,
        wait: vitals.wait,
        health,
        why,
        points,
    }
}

/// Probes of the store, one at a time.
struct Probe {
    since: Instant,
    task: JoinHandle<Result<Duration>>,
    /// Time of the last completed probe, from when it was due.
    waited: Duration,
    failure: Option<String>,
}

impl Probe {
    fn begin(app: &Arc<App>, due: Instant) -> Probe {
        let app = app.clone();
        let task = tokio::spawn(async move {
            app.run(|broker| broker.probe()).await??;
            Ok(due.elapsed())
        });
        Probe { since: due, task, waited: Duration::ZERO, failure: None }
    }

    /// Time that the unfinished probe has been waiting.
    fn pending(&self) -> Duration {
        if self.task.is_finished() { Duration::ZERO } else { self.since.elapsed() }
    }

    async fn go_on(self, app: &Arc<App>, due: Instant) -> Probe {
        if !self.task.is_finished() {
            return self;
        }
        let next = Probe::begin(app, due);
        match self.task.await {
            Ok(Ok(waited)) => Probe { waited, ..next },
            Ok(Err(error)) => Probe { failure: Some(error.to_string()), ..next },
            Err(error) => Probe { failure: Some(error.to_string()), ..next },
        }
    }
}

/// The lost messages at each snapshot of the last seconds.
#[derive(Default)]
struct RecentLosses(VecDeque<(Instant, u64)>);

impl RecentLosses {
    fn recent(&mut self, lost: u64, now: Instant) -> u64 {
        self.0.push_back((now, lost));
        while self.0.front().is_some_and(|(at, _)| now - *at > limits::HEALTH_DROPS) {
            self.0.pop_front();
        }
        lost.saturating_sub(self.0.front().map_or(lost, |(_, before)| *before))
    }
}

fn median(waits: &VecDeque<Duration>) -> Duration {
    let mut sorted: Vec<_> = waits.iter().copied().collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn unix_seconds() -> f64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_1970.map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_long_wait_of_five_is_ignored() {
        let of =
            |waits: &[u64]| median(&waits.iter().map(|ms| Duration::from_millis(*ms)).collect());
        assert_eq!(of(&[1, 900, 1, 2, 1]), Duration::from_millis(1));
        assert_eq!(of(&[1, 900, 800, 2, 700]), Duration::from_millis(700));
        assert_eq!(of(&[]), Duration::ZERO);
    }

    #[test]
    fn drops_expire_after_ten_seconds() {
        let (mut drops, start) = (RecentLosses::default(), Instant::now());
        let mut at = |seconds, dropped| drops.recent(dropped, start + Duration::from_secs(seconds));
        // Drops before the first snapshot have an unknown age.
        assert_eq!([at(0, 7), at(1, 7), at(2, 9)], [0, 0, 2]);
        assert_eq!([at(10, 9), at(12, 9), at(13, 9)], [2, 0, 0]);
    }
}
