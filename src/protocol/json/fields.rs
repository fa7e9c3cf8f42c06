//! The fields of a request: which there are, and where each stands in its text.

/// The fields that some action reads; others are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Action,
    Topic,
    Message,
    Confirm,
    Wait,
    Since,
    Meta,
    Tag,
    Priority,
    Ttl,
    Delay,
    Dedupe,
    Lease,
    Id,
    Deliveries,
    From,
    Limit,
    Policy,
    Delayed,
}

const FIELDS: usize = Field::Delayed as usize + 1;

/// The names of the fields, in the order of [`Field`].
pub const NAMES: [&str; FIELDS] = [
    "action",
    "topic",
    "message",
    "confirm",
    "wait",
    "since",
    "meta",
    "tag",
    "priority",
    "ttl",
    "delay",
    "dedupe",
    "lease",
    "id",
    "deliveries",
    "from",
    "limit",
    "policy",
    "delayed",
];

impl Field {
    pub fn name(self) -> &'static str {
        NAMES.get(self as usize).copied().unwrap_or_default()
    }

    /// By the key as it stands between its quotes, without escapes.
    pub fn named(key: &[u8]) -> Option<Field> {
        Some(match key {
            b"action" => Field::Action,
            b"topic" => Field::Topic,
            b"message" => Field::Message,
            b"confirm" => Field::Confirm,
            b"wait" => Field::Wait,
            b"since" => Field::Since,
            b"meta" => Field::Meta,
            b"tag" => Field::Tag,
            b"priority" => Field::Priority,
            b"ttl" => Field::Ttl,
            b"delay" => Field::Delay,
            b"dedupe" => Field::Dedupe,
            b"lease" => Field::Lease,
            b"id" => Field::Id,
            b"deliveries" => Field::Deliveries,
            b"from" => Field::From,
            b"limit" => Field::Limit,
            b"policy" => Field::Policy,
            b"delayed" => Field::Delayed,
            _ => return None,
        })
    }
}

/// Where a field's value stands in the request, without the white space around it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

/// The known fields of a request. Of a field that is there twice, the last counts.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// A bit for each field that is there. The spans of the others are old.
    there: u32,
    spans: [Span; FIELDS],
}

impl Fields {
    /// A field's JSON text.
    pub fn get<'a>(&self, request: &'a [u8], field: Field) -> Option<&'a [u8]> {
        let span = self.spans.get(field as usize)?;
        let there = self.there & 1 << field as u32 != 0;
        if there { request.get(span.start..span.end) } else { None }
    }

    pub fn set(&mut self, field: Field, span: Span) {
        if let Some(slot) = self.spans.get_mut(field as usize) {
            *slot = span;
            self.there |= 1 << field as u32;
        }
    }

    pub fn clear(&mut self) {
        self.there = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_found_by_its_name() {
        for (index, name) in NAMES.iter().enumerate() {
            let field = Field::named(name.as_bytes()).unwrap();
            assert_eq!((field as usize, field.name()), (index, *name));
        }
    }
}
