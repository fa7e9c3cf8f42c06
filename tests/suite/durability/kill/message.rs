//! The messages of the kill test: each has its own number, which determines its text.

use std::time::{Duration, Instant};

use crate::suite::support::random::Random;

/// One topic for each producer, and one for all.
pub const TOPICS: [&str; 5] = ["own.0", "own.1", "own.2", "own.3", "shared"];
pub const SHARED: usize = 4;

/// A topic without messages.
pub const IDLE: &str = "idle";

/// A message that was put, or whose put has no answer.
#[derive(Clone, Debug)]
pub struct Put {
    pub number: u64,
    pub topic: usize,
    pub producer: usize,
    pub confirm: bool,
    pub priority: Option<u64>,
    pub ttl: Option<Duration>,
    pub delay: Option<Duration>,
    /// The number from which the dedupe key is made.
    pub dedupe: Option<u64>,
    pub sent: Instant,
    pub answered: Option<Instant>,
    pub answer: Answer,
}

/// The known result of a put.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    /// Unknown: it may be stored.
    None,
    /// Stored, perhaps with a known id.
    Stored(Option<u64>),
    /// Stored as a delayed message that is due at this time.
    Due(u64),
    /// Not stored.
    Refused,
}

impl Put {
    pub fn new(number: u64, topic: usize, producer: usize) -> Put {
        Put {
            number,
            topic,
            producer,
            confirm: true,
            priority: None,
            ttl: None,
            delay: None,
            dedupe: None,
            sent: Instant::now(),
            answered: None,
            answer: Answer::None,
        }
    }

    pub fn request(&self) -> String {
        let Put { number, topic, .. } = self;
        let mut request =
            format!(r#"{{"action":"put","topic":"{}","tag":{number}"#, TOPICS[*topic]);
        if self.confirm {
            request += r#","confirm":true"#;
        }
        if let Some(priority) = self.priority {
            request += &format!(r#","priority":{priority}"#);
        }
        for (name, duration) in [("ttl", self.ttl), ("delay", self.delay)] {
            if let Some(duration) = duration {
                request += &format!(r#","{name}":{}"#, duration.as_secs_f64());
            }
        }
        if let Some(key) = self.dedupe {
            request += &format!(r#","dedupe":"key {key}""#);
        }
        request + r#","message":"# + &text_of(*number) + "}\n"
    }

    /// The message has certainly not expired before this time.
    pub fn fresh_until(&self) -> Option<Instant> {
        self.ttl.map(|ttl| (self.sent + ttl).checked_sub(super::work::MARGIN).unwrap_or(self.sent))
    }

    /// The message has certainly expired from this time on.
    pub fn stale_from(&self) -> Option<Instant> {
        Some(self.answered? + self.ttl? + super::work::MARGIN)
    }
}

/// The text of the message with this number. Most are short, some are near the length at which the
/// store keeps the body apart, and a few take several pages.
pub fn text_of(number: u64) -> String {
    let mut random = Random(number);
    let len = match random.below(100) {
        0..=79 => random.below(200),
        80..=94 => 1_000 + random.below(2_000),
        95..=98 => 3_000 + random.below(6_000),
        _ => 10_000 + random.below(30_000),
    };
    let pad: String = (0..len / 16 + 1).map(|_| format!("{:016x}", random.next())).collect();
    format!(r#"{{"n":{number},"pad":"{pad}"}}"#)
}

/// The number of a message, if its text is intact.
pub fn number_of(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix(r#"{"n":"#).and_then(|rest| rest.split(',').next());
    let Some(number) = digits.and_then(|digits| digits.parse().ok()) else {
        return Err(format!("it was never put: {}", start_of(text)));
    };
    if text_of(number) == text {
        Ok(number)
    } else {
        Err(format!("message {number} was changed: {}", start_of(text)))
    }
}

fn start_of(text: &str) -> String {
    text.chars().take(200).collect()
}
