//! The health of a server in one word, with the measure that decided it. Part of the broker.

use std::time::Duration;

use super::Broker;
use crate::error::Result;
use crate::limits;
use crate::ops::{Batch, Op, Topic};
use crate::store::Usage;

/// In order from best to worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    #[default]
    Good,
    Degraded,
    Overloaded,
    Overflowed,
}

/// The measures that decide the health.
#[derive(Clone, Debug, Default)]
pub struct Vitals {
    /// How long a request waits for the store.
    pub wait: Duration,
    /// Why the last request to the store failed.
    pub failure: Option<String>,
    pub connections: u64,
    pub max_connections: u64,
    pub store: Usage,
    /// Whether a full store refuses puts; otherwise it drops its oldest messages.
    pub refuses: bool,
    /// Messages dropped recently.
    pub dropped: u64,
    /// Requests refused recently because the store was full.
    pub refused: u64,
    /// Whether messages are also dropped because of their age, which is not a fault.
    pub drops_old: bool,
}

impl Health {
    pub const ALL: [Health; 4] =
        [Health::Good, Health::Degraded, Health::Overloaded, Health::Overflowed];

    pub fn as_str(self) -> &'static str {
        match self {
            Health::Good => "good",
            Health::Degraded => "degraded",
            Health::Overloaded => "overloaded",
            Health::Overflowed => "overflowed",
        }
    }
}

/// The meaning of each word, for people. The thresholds are those of [`Vitals::judge`].
pub fn rules() -> [(Health, String); 4] {
    let ms = |wait: Duration| format!("{} ms", wait.as_millis());
    let (some, most) = (limits::HEALTH_DEGRADED_PERCENT, limits::HEALTH_OVERLOADED_PERCENT);
    let shares = |percent| {
        format!(
            "{percent} % of the connections are taken, \
             or {percent} % of a store that refuses puts when it is full"
        )
    };
    [
        (Health::Good, "none of these".to_owned()),
        (
            Health::Degraded,
            format!(
                "a request waits more than {} for the store (the median of 5 measurements, one \
                 a second), or {}",
                ms(limits::HEALTH_WAIT_DEGRADED),
                shares(some)
            ),
        ),
        (
            Health::Overloaded,
            format!(
                "it waits more than {}, or {}",
                ms(limits::HEALTH_WAIT_OVERLOADED),
                shares(most)
            ),
        ),
        (
            Health::Overflowed,
            format!(
                "messages are lost or refused: the full store dropped or refused some in the last \
                 {} s, or it fails",
                limits::HEALTH_DROPS.as_secs()
            ),
        ),
    ]
}

impl Vitals {
    /// The worst result of all measures, and its reason.
    pub fn judge(&self) -> (Health, String) {
        let judged = [self.by_wait(), self.by_connections(), self.by_room(), self.by_losses()];
        // Of two equal results the later one is more serious.
        judged.into_iter().max_by_key(|(health, _)| *health).unwrap_or_default()
    }

    fn by_wait(&self) -> (Health, String) {
        let health = match self.wait {
            wait if wait > limits::HEALTH_WAIT_OVERLOADED => Health::Overloaded,
            wait if wait > limits::HEALTH_WAIT_DEGRADED => Health::Degraded,
            _ => return (Health::Good, String::new()),
        };
        (health, format!("a request waits {} ms for the store", self.wait.as_millis()))
    }

    fn by_connections(&self) -> (Health, String) {
        let percent = percent(self.connections, self.max_connections);
        (by_share(percent), format!("{percent} % of the connections are taken"))
    }

    fn by_room(&self) -> (Health, String) {
        let full = percent(self.store.bytes, self.store.max_bytes.unwrap_or(u64::MAX));
        match self.refuses {
            true => (by_share(full), format!("the store is {full} % full")),
            false => (Health::Good, String::new()),
        }
    }

    fn by_losses(&self) -> (Health, String) {
        if let Some(failure) = &self.failure {
            return (Health::Overflowed, format!("the store fails: {failure}"));
        }
        if self.refused > 0 {
            let text = format!("the store is full: it has refused {} requests", self.refused);
            return (Health::Overflowed, text);
        }
        let room = percent(self.store.bytes, self.store.max_bytes.unwrap_or(u64::MAX))
            < limits::HEALTH_DEGRADED_PERCENT;
        if self.dropped > 0 && !(self.drops_old && room) {
            let text = format!("the full store has dropped its {} oldest messages", self.dropped);
            return (Health::Overflowed, text);
        }
        (Health::Good, String::new())
    }
}

fn percent(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 100 / u128::from(whole.max(1))).unwrap_or(u64::MAX)
}

fn by_share(percent: u64) -> Health {
    match percent {
        limits::HEALTH_OVERLOADED_PERCENT.. => Health::Overloaded,
        limits::HEALTH_DEGRADED_PERCENT.. => Health::Degraded,
        _ => Health::Good,
    }
}

impl Broker {
    /// Sends the store a request that changes nothing but waits as a put does: for its turn and for
    /// the disk.
    pub fn probe(&self) -> Result<()> {
        let mut batch = Batch::default();
        // No message has this id.
        batch.ops.push(Op::Delete { topic: Topic::new("probe")?, id: 0 });
        self.store.apply(&mut batch);
        batch.outcomes.pop().map_or(Ok(()), |outcome| outcome.map(drop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Caller;
    use crate::store::{self, Rules};

    fn vitals() -> Vitals {
        let store = Usage { kind: "memory", max_bytes: Some(1_000), ..Usage::default() };
        Vitals { max_connections: 100, store, ..Vitals::default() }
    }

    #[test]
    fn each_measure_crosses_its_thresholds() {
        let ms = Duration::from_millis;
        let wait = |ms_| Vitals { wait: ms(ms_), ..vitals() }.judge().0;
        assert_eq!([100, 101, 1_000, 1_001].map(wait), {
            use Health::{Degraded, Good, Overloaded};
            [Good, Degraded, Degraded, Overloaded]
        });
        let taken = |connections| Vitals { connections, ..vitals() }.judge().0;
        let filled = |bytes, refuses| {
            let store = Usage { bytes, ..vitals().store };
            Vitals { store, refuses, ..vitals() }.judge().0
        };
        for (share, health) in [
            (79, Health::Good),
            (80, Health::Degraded),
            (94, Health::Degraded),
            (95, Health::Overloaded),
        ] {
            assert_eq!((taken(share), filled(share * 10, true)), (health, health), "{share}");
            assert_eq!(filled(share * 10, false), Health::Good);
        }
        assert_eq!((taken(100), filled(1_000, true)), (Health::Overloaded, Health::Overloaded));
    }

    #[test]
    fn what_is_lost_is_the_gravest() {
        let lost = |bytes, drops_old| {
            let store = Usage { bytes, ..vitals().store };
            Vitals { dropped: 3, drops_old, connections: 100, store, ..vitals() }.judge()
        };
        let text = "the full store has dropped its 3 oldest messages";
        assert_eq!(lost(900, true), (Health::Overflowed, text.to_owned()));
        assert_eq!(lost(100, false), (Health::Overflowed, text.to_owned()));
        assert_eq!(lost(100, true).0, Health::Overloaded);
        let refused = Vitals { refused: 1, refuses: true, ..vitals() }.judge();
        let text = "the store is full: it has refused 1 requests";
        assert_eq!(refused, (Health::Overflowed, text.to_owned()));
        let failing = Vitals { failure: Some("no disk".into()), ..vitals() };
        assert_eq!(failing.judge(), (Health::Overflowed, "the store fails: no disk".to_owned()));
        assert_eq!(vitals().judge().0, Health::Good);
    }

    #[test]
    fn the_document_says_when_it_is_what() {
        let document =
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/metrics.md"));
        for (health, rule) in rules() {
            let row = format!("| {} | {rule} |", health.as_str());
            assert_eq!(document.matches(&row).count(), 1, "{row}");
        }
    }

    #[test]
    fn a_probe_changes_nothing() {
        let broker = Broker::new(store::in_memory(Rules::default()).unwrap());
        broker.probe().unwrap();
        assert_eq!(broker.stats(&Caller::server()).topics, 0);
    }
}
