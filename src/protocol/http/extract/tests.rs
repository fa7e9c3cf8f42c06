//! Forms: whatever was encoded is what is found, and nothing of a stranger's breaks it.

use proptest::collection::vec;
use proptest::prelude::*;

use super::Form;
use crate::error::Code;

proptest! {
    #[test]
    fn what_was_encoded_is_what_is_found(fields in vec((".{0,9}", ".{0,40}"), 0..6)) {
        let mut text = form_urlencoded::Serializer::new(String::new());
        text.extend_pairs(&fields);
        let form = Form::strict(text.finish().as_bytes()).unwrap();
        prop_assert_eq!(form.0, fields);
    }

    #[test]
    fn any_bytes_are_the_fields_of_the_standard_or_no_utf8(
        text in vec(prop_oneof![any::<u8>(), prop::sample::select(b"%&=+e9fF0".to_vec())], 0..60)
    ) {
        match Form::strict(&text) {
            Ok(form) => prop_assert_eq!(form.0, Form::new(&text).0),
            Err(error) => {
                prop_assert_eq!(error.code, Code::BadUtf8);
                let lossy = Form::new(&text).0;
                let replaced = |text: &String| text.contains('\u{fffd}');
                prop_assert!(lossy.iter().any(|(name, value)| replaced(name) || replaced(value)));
            }
        }
    }
}
