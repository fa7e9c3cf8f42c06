//! A call in XML. There are no entities but XML's own, no document types, and no elements but those
//! of a call with texts: so nothing is nested deep, and nothing grows.

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesRef, Event};

use crate::error::{Code, Error, Result};

/// A method, and what it is given.
#[derive(Debug, Default, PartialEq)]
pub struct Call {
    pub method: String,
    pub params: Vec<String>,
}

/// Where texts may stand. An element must lie on the way to one of them.
const METHOD: [&str; 2] = ["methodCall", "methodName"];
const VALUE: [&str; 5] = ["methodCall", "params", "param", "value", "string"];

/// More than any method takes.
const PARAMS_MAX: usize = 8;

pub fn parse(body: &[u8]) -> Result<Call> {
    let text = str::from_utf8(body).map_err(|_| bad("the call is no UTF-8"))?;
    let mut reader = Reader::from_str(text);
    let mut parser = Parser::default();
    loop {
        match reader.read_event().map_err(|error| bad(format!("the call is no XML: {error}")))? {
            Event::Start(element) => parser.enter(element.name().as_ref())?,
            Event::End(_) => parser.leave()?,
            Event::Empty(element) => {
                parser.enter(element.name().as_ref())?;
                parser.leave()?;
            }
            Event::Text(text) => parser.text(&text.xml10_content()),
            Event::CData(text) => parser.text(&text.xml10_content()),
            Event::GeneralRef(entity) => parser.text(&resolved(&entity)?),
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            Event::DocType(_) => return Err(bad("a call has no document type")),
            Event::Eof => return parser.end(),
        }
    }
}

#[derive(Default)]
struct Parser {
    call: Call,
    /// The elements around this place.
    path: Vec<&'static str>,
    text: String,
    /// What a `string` inside the `value` held.
    string: Option<String>,
    ended: bool,
}

impl Parser {
    fn enter(&mut self, name: &str) -> Result<()> {
        let depth = self.path.len();
        let next = [&METHOD[..], &VALUE[..]].into_iter().find_map(|way| {
            let next = way.get(depth).filter(|next| **next == name)?;
            way.starts_with(&self.path).then_some(*next)
        });
        match next {
            Some(next) if !self.ended => self.path.push(next),
            None if self.path.last() == Some(&"value") => {
                return Err(bad("queues and values must be strings"));
            }
            _ => return Err(bad("this is no call of a method with strings")),
        }
        self.text.clear();
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        match self.path.pop() {
            Some("methodName") => self.call.method = self.text.trim().to_owned(),
            Some("string") => self.string = Some(std::mem::take(&mut self.text)),
            Some("value") => {
                if self.call.params.len() == PARAMS_MAX {
                    return Err(bad("no method takes so many parameters"));
                }
                let text = std::mem::take(&mut self.text);
                self.call.params.push(self.string.take().unwrap_or(text));
            }
            _ => self.ended = self.path.is_empty(),
        }
        Ok(())
    }

    /// Where no text is awaited it does no harm.
    fn text(&mut self, text: &str) {
        if matches!(self.path.last(), Some(&("methodName" | "string" | "value"))) {
            self.text.push_str(text);
        }
    }

    fn end(self) -> Result<Call> {
        if self.ended { Ok(self.call) } else { Err(bad("the call is not whole")) }
    }
}

/// The character that a reference stands for.
fn resolved(entity: &BytesRef<'_>) -> Result<String> {
    let character = entity.resolve_char_ref().map_err(|error| bad(format!("no XML: {error}")))?;
    match (character, resolve_xml_entity(entity)) {
        (Some(character), _) => Ok(character.into()),
        (None, Some(text)) => Ok(text.to_owned()),
        (None, None) => Err(bad("there are no entities but those of XML itself")),
    }
}

fn bad(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Code::BadField, text)
}
