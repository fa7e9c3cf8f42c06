//! Mezzenger's frames, `name|pickle`: reading what a frame asks for, and writing frames for
//! messages of other protocols.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Code, Error, Result};
use crate::ops::{Id, Message, Topic};
use crate::wire::pickle::{Pickle, PickleError, PickleValue, PickleWriter};

/// What a frame asks for.
pub enum Command<'m> {
    Ping,
    /// Acknowledges the message with this checksum; the id is that of its stored form, once found.
    Ack(String, Option<Id>),
    Publish(Publication<'m>),
}

pub struct Publication<'m> {
    pub topic: Topic,
    /// The frame for subscribers.
    pub frame: Cow<'m, [u8]>,
    /// The payload as JSON, for the other protocols.
    pub json: Vec<u8>,
    /// Identifies the message in acknowledgements.
    pub checksum: String,
    /// The body stored until the message is acknowledged; `None` if the sender asks for no
    /// acknowledgement.
    pub unacked: Option<String>,
    /// Whether this frame stores the message as unacknowledged, rather than an earlier one.
    pub is_stored_here: bool,
}

pub fn parse(frame: &[u8], max_message: usize) -> Result<Command<'_>> {
    let Some(bar) = frame.iter().position(|byte| *byte == b'|') else {
        return Err(wrong("a message is NAME|PICKLE, but this one has no bar"));
    };
    let (name, pickled) = frame.split_at_checked(bar).unwrap_or((frame, &[]));
    let pickled = pickled.get(1..).unwrap_or_default();
    let name = str::from_utf8(name)
        .map_err(|_| Error::new(Code::BadUtf8, "the message's name is not UTF-8"))?;
    let pickle = Pickle::read(pickled).map_err(error)?;
    let fields = MessageDict::new(&pickle, name)?;
    match name {
        "ping" => Ok(Command::Ping),
        "ack" => match pickle.text(fields.payload) {
            Some(checksum) => Ok(Command::Ack(checksum, None)),
            None => Err(wrong("the payload of an ack must be the checksum of a message")),
        },
        _ => publication(frame, pickled, &pickle, &fields, max_message).map(Command::Publish),
    }
}

/// The dict in a message's pickle.
struct MessageDict<'n> {
    name: &'n str,
    payload: PickleValue,
    ack: bool,
    timestamp: Option<PickleValue>,
    checksum: Option<String>,
}

impl MessageDict<'_> {
    fn new<'n>(pickle: &Pickle<'_>, name: &'n str) -> Result<MessageDict<'n>> {
        let get = |key| pickle.get(pickle.root(), key);
        let inner = get("name").ok_or(wrong("the pickle is not the dict of a message"))?;
        if pickle.text(inner).as_deref() != Some(name) {
            return Err(wrong("the name in the pickle is not the one before the bar"));
        }
        let payload = get("payload").ok_or(wrong("the message has no payload"))?;
        let ack = match get("ack") {
            None | Some(PickleValue::None) => false,
            Some(PickleValue::Bool(ack)) => ack,
            Some(PickleValue::Int(ack)) => ack > 0,
            Some(_) => return Err(wrong("the message's ack must be 0 or 1")),
        };
        let checksum = get("checksum").and_then(|checksum| pickle.text(checksum));
        let checksum = checksum.filter(|checksum| !checksum.is_empty());
        Ok(MessageDict { name, payload, ack, timestamp: get("timestamp"), checksum })
    }
}

fn publication<'m>(
    frame: &'m [u8],
    pickled: &[u8],
    pickle: &Pickle<'_>,
    fields: &MessageDict<'_>,
    max_message: usize,
) -> Result<Publication<'m>> {
    let topic = Topic::new(fields.name)?;
    let json = match pickle.json(fields.payload, max_message) {
        // Only Python can read such a value, so the topic holds the complete pickle in Base64.
        Err(PickleError::NotPlain) => {
            format!("{{\"$pickle\":\"{}\"}}", STANDARD.encode(pickled)).into_bytes()
        }
        json => json.map_err(error)?,
    };
    let (frame, checksum) = match &fields.checksum {
        Some(checksum) => (Cow::Borrowed(frame), checksum.clone()),
        None => {
            let time = fields.timestamp.and_then(|time| pickle.json(time, max_message).ok());
            let text = pickle.text(fields.payload).map_or(json.clone(), String::into_bytes);
            let checksum = checksum(fields.name, &text, &time.unwrap_or_default());
            (Cow::Owned(with_checksum(frame, &checksum)), checksum)
        }
    };
    let unacked = fields.ack.then(|| unacked(&topic, &checksum, &frame));
    if unacked.as_ref().map_or(json.len(), String::len) > max_message {
        return Err(error(PickleError::TooLarge));
    }
    Ok(Publication { topic, frame, json, checksum, unacked, is_stored_here: false })
}

/// The checksum as Mezzenger's clients compute it.
fn checksum(name: &str, payload: &[u8], timestamp: &[u8]) -> String {
    format!("{:x}", md5::compute([name.as_bytes(), payload, timestamp].concat()))
}

/// Adds a checksum to a frame without one: the pickle ends with the dict as the only value on its
/// stack, and two more instructions set the key.
fn with_checksum(frame: &[u8], checksum: &str) -> Vec<u8> {
    let mut frame = frame.strip_suffix(b".").unwrap_or(frame).to_vec();
    for text in ["checksum", checksum] {
        frame.push(b'X');
        frame.extend_from_slice(&(text.len() as u32).to_le_bytes());
        frame.extend_from_slice(text.as_bytes());
    }
    frame.extend_from_slice(b"s.");
    frame
}

/// The stored form of an unacknowledged message.
fn unacked(topic: &Topic, checksum: &str, frame: &[u8]) -> String {
    let frame = STANDARD.encode(frame);
    serde_json::json!({ "topic": topic.as_str(), "checksum": checksum, "frame": frame }).to_string()
}

/// The checksum and the frame of a stored unacknowledged message.
pub fn read_unacked(body: &[u8]) -> Option<(String, Vec<u8>)> {
    let unacked: serde_json::Value = serde_json::from_slice(body).ok()?;
    let checksum = unacked.get("checksum")?.as_str()?.to_owned();
    let frame = STANDARD.decode(unacked.get("frame")?.as_str()?).ok()?;
    Some((checksum, frame))
}

/// Writes the frame of a message that another protocol put.
pub fn write(out: &mut Vec<u8>, topic: &Topic, message: Message<'_>) {
    let time = crate::ops::Timestamp(message.id).to_string();
    let checksum = checksum(topic.as_str(), message.body, time.as_bytes());
    let mut pickle = PickleWriter::new();
    pickle.dict();
    pickle.text(b"name");
    pickle.text(topic.as_str().as_bytes());
    pickle.text(b"payload");
    pickle.json(message.body);
    pickle.text(b"ack");
    pickle.int(0);
    pickle.text(b"timestamp");
    pickle.float(message.id as f64 / 1e6);
    pickle.text(b"checksum");
    pickle.text(checksum.as_bytes());
    pickle.end_dict();
    out.extend_from_slice(topic.as_str().as_bytes());
    out.push(b'|');
    out.extend_from_slice(&pickle.end());
}

fn wrong(text: &'static str) -> Error {
    Error::new(Code::BadField, text)
}

fn error(error: PickleError) -> Error {
    let code = match error {
        PickleError::TooDeep => Code::TooDeep,
        PickleError::TooLarge | PickleError::TooManyValues => Code::MessageTooLarge,
        _ => Code::BadField,
    };
    Error::new(code, error.to_string())
}
