//! Pickles written by hand, one for each rule, and Python's own pickles.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::check::{pickle, read};
use super::*;

fn json(bytes: &[u8]) -> String {
    String::from_utf8(read(bytes).unwrap()).unwrap()
}

fn fault(bytes: &[u8]) -> PickleError {
    read(bytes).unwrap_err()
}

fn written(json: &str) -> Vec<u8> {
    let mut writer = PickleWriter::new();
    writer.json(json.as_bytes());
    writer.end()
}

#[test]
fn values_of_every_protocol_are_read() {
    for (bytes, expected) in [
        (&b"N."[..], "null"),
        (b"I01\n.", "true"),
        (b"I00\n.", "false"),
        (b"\x80\x02\x88.", "true"),
        (b"I-7\n.", "-7"),
        (b"K\xff.", "255"),
        (b"M\xff\xff.", "65535"),
        (b"J\xff\xff\xff\xff.", "-1"),
        (b"L123456789012345678901234567890L\n.", "123456789012345678901234567890"),
        (b"L-123456789012345678901L\n.", "-123456789012345678901"),
        (b"\x8a\x00.", "0"),
        (b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00.", "18446744073709551615"),
        (b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\xff.", "-18446744073709551616"),
        (b"F1e+16\n.", "1e+16"),
        (b"G\x3f\xf8\x00\x00\x00\x00\x00\x00.", "1.5"),
        (b"S'it\\'s \\xc3\\xa9\\n'\np0\n.", r#""it's é\n""#),
        (b"V\\u20ac\xe9\\u005c\\u000a\np0\n.", r#""€é\\\n""#),
        (b"V\\ud800\n.", r#""\ud800""#),
        (b"X\x03\0\0\0\xed\xb0\x80.", r#""\udc00""#),
        (b"U\x02ab.", r#""ab""#),
        (b"c_codecs\nencode\n(V\xc3\xa9\nVlatin1\ntR.", r#""é""#),
        (b"c__builtin__\nbytes\n)R.", r#""""#),
        (b"(lp0\nI1\naI2\na.", "[1,2]"),
        (b"(I1\n(I2\nt0t.", "[1]"),
        (b"}(U\x01aK\x01U\x01bK\x02u.", r#"{"a":1,"b":2}"#),
        (b"(dS'a'\n]s.", r#"{"a":[]}"#),
        (b"\x80\x04\x95\x05\0\0\0\0\0\0\0\x8c\x01a\x94.", r#""a""#),
        (b"(]\x94h\x00j\0\0\0\x0000)1N.", "null"),
    ] {
        assert_eq!(json(bytes), expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn objects_are_never_made() {
    for bytes in [
        &b"cos\nsystem\n(S'touch /tmp/never'\ntR."[..],
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R.",
        b"(S'ls'\nios\nsystem\n.",
        b"\x80\x02cos\nsystem\n)\x81}b.",
        b"\x80\x04\x8f(K\x01\x90.",
        b"\x80\x05\x96\x01\0\0\0\0\0\0\0a.",
        b"Pid\n.",
        b"\x82\x01.",
        b"Finf\n.",
        b"Fnan\n.",
        b"U\x01\xff.",
        b"}K\x01Ns.",
        b"}(U\x01aNX\x01\0\0\0aNu.",
        b"c_codecs\nencode\n.",
    ] {
        assert_eq!(fault(bytes), PickleError::NotPlain, "{}", bytes.escape_ascii());
    }
}

#[test]
fn claimed_lengths_allocate_nothing() {
    for claim in [
        &b"X\xff\xff\xff\xff"[..],
        b"T\xff\xff\xff\xff",
        b"B\xff\xff\xff\xff",
        b"\x8b\xff\xff\xff\xff",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x95\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x96\0\0\0\0\0\0\0\x80",
    ] {
        assert_eq!(fault(claim), PickleError::Broken("a length exceeds the bytes that are left"));
    }
    // The highest memo number allocates one entry.
    assert_eq!(json(b"Nr\xff\xff\xff\xff0j\xff\xff\xff\xff."), "null");
}

#[test]
fn expansion_to_huge_json_is_refused() {
    let nested = [&b"]".repeat(100_000)[..], &b"a".repeat(99_999), b"."].concat();
    assert_eq!(fault(&nested), PickleError::TooDeep);
    assert_eq!(fault(b"]q\0h\0a."), PickleError::TooDeep, "it holds itself");
    assert_eq!(fault(b"}q\0U\x01ah\0s."), PickleError::TooDeep);
    // Each list holds the one before ten times: 10^30 texts.
    let mut bomb = b"]q\0(".to_vec();
    (0..10).for_each(|_| bomb.extend_from_slice(b"U\x03lol"));
    bomb.push(b'e');
    for level in 0..30 {
        bomb.extend_from_slice(&[b']', b'q', level + 1, b'(']);
        (0..10).for_each(|_| bomb.extend_from_slice(&[b'h', level]));
        bomb.push(b'e');
    }
    // Everything below the last list is dropped first.
    let bomb = [b"(", &bomb[..], b"q\xff1h\xff."].concat();
    assert_eq!(fault(&bomb), PickleError::TooLarge);
    assert_eq!(
        fault(&[&b"N"[..], &b"2".repeat(limits::PICKLE_VALUES)].concat()),
        PickleError::TooManyValues
    );
    assert_eq!(fault(&b"(".repeat(limits::PICKLE_VALUES + 1)), PickleError::TooManyValues);
    let memos = [&b"N"[..], &b"\x94".repeat(limits::PICKLE_VALUES)].concat();
    assert_eq!(fault(&memos), PickleError::TooManyValues);
    let digits = "9".repeat(limits::PICKLE_INTEGER_DIGITS);
    assert_eq!(json(format!("L{digits}L\n.").as_bytes()), digits);
    assert_eq!(fault(format!("L9{digits}L\n.").as_bytes()), PickleError::HugeInteger);
    let bytes = limits::PICKLE_INTEGER_BYTES as u32 + 1;
    let long = [b"\x8b", &bytes.to_le_bytes()[..], &vec![1; bytes as usize], b"."].concat();
    assert_eq!(fault(&long), PickleError::HugeInteger);
}

#[test]
fn depth_has_the_limit_of_messages() {
    let nested =
        |levels: usize| [&b"]".repeat(levels)[..], &b"a".repeat(levels - 1), b"."].concat();
    assert_eq!(json(&nested(limits::DEPTH_LEVELS)).len(), 2 * limits::DEPTH_LEVELS);
    assert_eq!(fault(&nested(limits::DEPTH_LEVELS + 1)), PickleError::TooDeep);
}

#[test]
fn invalid_pickles_are_refused_with_the_reason() {
    for (bytes, why) in [
        (&b""[..], "the pickle is cut off"),
        (b"N", "the pickle is cut off"),
        (b"I1", "the pickle is cut off"),
        (b".", "an instruction needs more values than the stack holds"),
        (b"(N00N0.", "an instruction needs more values than the stack holds"),
        (b"N(a.", "an instruction needs more values than the stack holds"),
        (b"N.N", "there are bytes after its end"),
        (b"NN.", "values are left on the stack"),
        (b"N(.", "an instruction needs more values than the stack holds"),
        (b"e", "a mark is missing"),
        (b"NNa.", "a value is added to something that is not a container"),
        (b")Na.", "a value is added to something that is not a container"),
        (b"}(Nu.", "a dict has a key without a value"),
        (b"(Nd.", "a dict has a key without a value"),
        (b"\x80\x06N.", "its protocol is later than 5"),
        (b"\x97.", "out-of-band buffers are not supported"),
        (b"Hello, world", "it has an unknown instruction"),
        (b"h\x00.", "it reads an empty memo entry"),
        (b"Np-1\n.", "a memo number is invalid"),
        (b"I0x1f\n.", "an integer is invalid"),
        (b"L007L8\n.", "an integer is invalid"),
        (b"L099999999999999999999L\n.", "an integer begins with a zero"),
        (b"Fone\n.", "a float is invalid"),
        (b"X\x01\0\0\0\xff.", "a text is not validly encoded"),
        (b"S'a\n.", "a text is not validly encoded"),
        (b"V\\u12\n.", "a text is not validly encoded"),
    ] {
        let PickleError::Broken(text) = fault(bytes) else { panic!("{}", bytes.escape_ascii()) };
        assert_eq!(text, why, "{}", bytes.escape_ascii());
    }
}

#[test]
fn fields_are_found_by_text_and_by_bytes() {
    let bytes = b"}(U\x01aK\x01X\x01\0\0\0bU\x02hiU\x01aK\x02u.";
    let pickle = Pickle::read(bytes).unwrap();
    let get = |key| pickle.get(pickle.root(), key);
    assert!(matches!(get("a"), Some(PickleValue::Int(2))), "the last one counts");
    assert_eq!(get("b").and_then(|value| pickle.text(value)).as_deref(), Some("hi"));
    assert!(get("c").is_none());
}

fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        "-?[1-9][0-9]{18,60}",
        (-1e300..1e300).prop_map(|value: f64| serde_json::to_string(&value).unwrap()),
        ".{0,20}".prop_map(|value: String| serde_json::to_string(&value).unwrap()),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..6);
        let dict = prop::collection::btree_map("[a-z\"\\\\é]{0,4}", inner, 0..6);
        let pair = |(key, value): (String, String)| {
            format!("{}:{value}", serde_json::to_string(&key).unwrap())
        };
        prop_oneof![
            list.prop_map(|list| format!("[{}]", list.join(","))),
            dict.prop_map(move |dict| {
                let pairs: Vec<String> = dict.into_iter().map(pair).collect();
                format!("{{{}}}", pairs.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn written_pickles_read_back_unchanged(text in any_json()) {
        prop_assert_eq!(json(&written(&text)), text);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        pickle(&bytes);
    }

    #[test]
    fn any_instructions_are_read_or_refused(
        codes in prop::collection::vec(
            prop::sample::select(&b"(0123N])}lt\x85ae\x86\x94h\x00q\x01K\x02U\x01asudR\x81b\x8f\x90"[..]),
            0..60,
        )
    ) {
        pickle(&[&codes[..], b"."].concat());
    }
}

/// Python pickles values in every protocol and compares the JSON with its own.
#[test]
#[ignore = "needs Python: make test finds it"]
fn pythons_pickles_give_pythons_json() {
    let python = std::env::var_os("DSMQ_TEST_PYTHON").unwrap_or_else(|| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/pickles.py");
    let mut command = Command::new(python);
    command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = command.spawn().unwrap();
    let mut answers = python.stdin.take().unwrap();
    let mut lines = BufReader::new(python.stdout.take().unwrap()).lines();
    let mut count = 0;
    for line in &mut lines {
        let line = line.unwrap();
        if line.starts_with("all ") {
            break;
        }
        let bytes = unhex(&line);
        let answer = match read_large(&bytes) {
            Ok(json) => {
                let text = String::from_utf8(json).unwrap();
                format!("{text}\n{}", hex(&written(&text)))
            }
            Err(PickleError::NotPlain) => "not plain".to_owned(),
            Err(fault) => format!("{fault}"),
        };
        writeln!(answers, "{answer}").unwrap();
        answers.flush().unwrap();
        count += 1;
    }
    drop(answers);
    assert!(python.wait().unwrap().success());
    assert!(count > 4_000, "{count} pickles");
}

fn read_large(bytes: &[u8]) -> Result<Vec<u8>> {
    let pickle = Pickle::read(bytes)?;
    pickle.json(pickle.root(), limits::MESSAGE_BYTES)
}

fn unhex(line: &str) -> Vec<u8> {
    let pairs = (0..line.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
