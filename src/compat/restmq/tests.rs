//! Property tests of the small parsers behind RestMQ's routes.

use proptest::prelude::*;
use serde_json::Value;

use super::{check_callback, id_of, key, on_one_line};
use crate::ops::Topic;

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        r#"["\\ \n\t\r]{0,8}"#.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 30, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(r#"[a"\\ ]{0,4}"#, inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn message_on_one_line_keeps_its_value(value in json()) {
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        let line = on_one_line(pretty.replace('\n', "\r\n\t").as_bytes());
        prop_assert_eq!(String::from_utf8(line).unwrap(), pretty.replace('\n', "\t"));
    }

    #[test]
    fn callback_can_only_be_a_name(name in ".{0,12}") {
        let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '.');
        prop_assert!(check_callback(&name).is_err() || name.chars().all(harmless));
    }

    #[test]
    fn key_leads_back_to_its_id(name in "[a:0-9]{1,9}", id in any::<u64>(), other in ".{0,12}") {
        let queue = Topic::new(&name).unwrap();
        prop_assert_eq!(id_of(&queue, &key(&queue, id)), Some(id));
        prop_assert!(id_of(&queue, &other).is_none_or(|id| key(&queue, id) == other));
    }
}
