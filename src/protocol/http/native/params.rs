//! The parameters of our own routes, from path, query and body. The JSON protocol's functions read
//! their values, so its rules and its errors hold here as well.

use axum::http::Uri;

use super::super::extract::Form;
use crate::error::Result;
use crate::limits;
use crate::protocol::json::{self, Field, FieldValue, Fields, Source};

/// The parameters of one request.
#[derive(Default)]
pub struct Params {
    /// What the route says. It goes before the body, and the body before the query.
    path: Vec<(Field, String)>,
    /// The fields of a body that is a JSON object.
    json: Vec<u8>,
    fields: Fields,
    /// The fields of the query, then those of a body that is a form: the last counts.
    form: Form,
}

impl Params {
    /// The parameters of the query; unknown ones are ignored.
    pub fn new(uri: &Uri) -> Params {
        let form = Form::new(uri.query().unwrap_or_default().as_bytes());
        Params { form, ..Params::default() }
    }

    /// Adds those of a body that is a JSON object, a form, or empty.
    pub fn body(mut self, body: &[u8], max_message: usize) -> Result<Params> {
        let body = body.trim_ascii();
        if body.first() == Some(&b'{') {
            self.fields = json::object(body, max_message)?;
            self.json = body.to_vec();
        } else {
            self.form = self.form.and(Form::new(body));
            let values = json::NAMES.iter().filter_map(|name| self.form.get(name));
            if values.map(str::len).sum::<usize>() > limits::REQUEST_OVERHEAD_BYTES {
                return Err(json::request_too_large());
            }
        }
        Ok(self)
    }

    /// Adds a parameter that the route says.
    pub fn path(mut self, field: Field, value: &str) -> Params {
        self.path.push((field, value.to_owned()));
        self
    }
}

impl<'a> Source<'a> for &'a Params {
    fn field(self, field: Field) -> Option<FieldValue<'a>> {
        let path = self.path.iter().find(|(name, _)| *name == field).map(|(_, value)| &**value);
        let json = || self.fields.get(&self.json, field).map(FieldValue::Json);
        let form = || self.form.get(field.name()).map(FieldValue::Text);
        path.map(FieldValue::Text).or_else(json).or_else(form)
    }
}
