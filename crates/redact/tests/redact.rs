//! What is found, what is left, and what holds for every text.

use lyceum_redact::{AuditKey, Kind, Redactor};
use proptest::prelude::*;

fn redact(text: &str) -> String {
    Redactor::new().redact(text).text.into_owned()
}

/// Each is found as a whole, alone, in a sentence, and between Chinese characters.
fn found(kind: Kind, originals: &[&str]) {
    for original in originals {
        let here = kind.placeholder();
        assert_eq!(redact(original), here, "{original}");
        assert_eq!(
            redact(&format!("So: {original}, ok.")),
            format!("So: {here}, ok.")
        );
        assert_eq!(
            redact(&format!("号码（{original}）。")),
            format!("号码（{here}）。")
        );
        assert_eq!(
            redact(&format!("\"{original}\"\n")),
            format!("\"{here}\"\n")
        );
    }
}

fn left(texts: &[&str]) {
    for text in texts {
        assert_eq!(redact(text), *text);
    }
}

#[test]
fn mail() {
    found(
        Kind::Email,
        &[
            "ada@example.org",
            "ada.l+tag@sub.example.co.uk",
            "a_b-c%d@x-y.io",
            "ＡＤＡ＠ｅｘａｍｐｌｅ．ｃｏｍ",
            "müller@straße.de",
            "用户@例子.中国",
        ],
    );
    assert_eq!(redact("请联系zhang@example.com谢谢"), "请联系[email]谢谢");
    assert_eq!(redact("<mailto:a@b.com>"), "<mailto:[email]>");
    assert_eq!(redact("end with a@b.com."), "end with [email].");
    left(&[
        "a @ b.com",
        "@name",
        "user@localhost",
        "icon@2x.png",
        "a@b",
        "a@b.c",
    ]);
}

#[test]
fn phones() {
    found(
        Kind::Phone,
        &[
            "13800138000",
            "138 0013 8000",
            "138-0013-8000",
            "１３８００１３８０００",
            "+8613800138000",
            "+86 138 0013 8000",
            "86-13800138000",
            "0086 13800138000",
            "010-62345678",
            "0755-2345678",
            "+1 (415) 555-2671",
            "+14155552671",
            "(415) 555-2671",
            "415-555-2671",
            "415.555.2671",
            "1-415-555-2671",
            "415\u{2011}555\u{2011}2671",
            "+44 20 7946 0958",
            "+49 (30) 901820",
            "+33 6 12 34 56 78",
            "138\u{200b}0013\u{200b}8000",
        ],
    );
    assert_eq!(redact("phone 4155552671"), "phone [phone]");
    assert_eq!(redact("+86 13800138000 2024"), "[phone] 2024");
}

#[test]
fn cards() {
    found(
        Kind::Card,
        &[
            "4111111111111111",
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "4222222222222",
            "378282246310005",
            "3782 822463 10005",
            "30569309025904",
            "5555555555554444",
            "2223003122003222",
            "6200000000000005",
            "6212345678901234569",
            "４１１１ １１１１ １１１１ １１１１",
            "4111\u{a0}1111\u{a0}1111\u{a0}1111",
        ],
    );
    assert_eq!(redact("4111 1111 1111 1111 12/27 123"), "[card] 12/27 123");
    left(&[
        "4111111111111112",
        "4111 1111 1111 1112",
        "5555555555555555555555",
    ]);
}

#[test]
fn identities() {
    found(Kind::Ssn, &["123-45-6789", "123 45 6789", "899-99-9999"]);
    assert_eq!(redact("SSN: 123456789"), "SSN: [ssn]");
    left(&[
        "000-12-3456",
        "666-12-3456",
        "900-12-3456",
        "123-00-4567",
        "123-45-0000",
        "123456789",
    ]);
    found(
        Kind::ChineseId,
        &[
            "11010519491231002X",
            "11010519491231002x",
            "440524188001010014",
            "110105 19491231 002X",
            "110105491231002",
        ],
    );
    assert_eq!(
        redact("身份证号110105491231002。"),
        "身份证号[chinese_id]。"
    );
    left(&[
        "110105491331002",
        "990105491231002",
        "x110105491231002",
        "1101054912310021",
    ]);
    assert_eq!(
        redact("身份证１１０１０５１９４９１２３１００２Ｘ号"),
        "身份证[chinese_id]号"
    );
    left(&[
        "110105194912310021",
        "110105194902310024",
        "990105194912310023",
    ]);
    found(
        Kind::Iban,
        &[
            "DE89370400440532013000",
            "GB29 NWBK 6016 1331 9268 19",
            "FR14 2004 1010 0505 0001 3M02 606",
            "NO9386011117947",
            "de89 3704 0044 0532 0130 00",
        ],
    );
    left(&["DE88370400440532013000", "XX12345678901234"]);
}

#[test]
fn addresses_of_machines() {
    found(
        Kind::Ip,
        &[
            "192.168.1.10",
            "8.8.8.8",
            "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
            "2001:db8::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ],
    );
    assert_eq!(redact("from 10.1.2.3:8080"), "from [ip]:8080");
    assert_eq!(redact("[2001:db8::1]:443"), "[[ip]]:443");
    left(&[
        "127.0.0.1:8080",
        "0.0.0.0",
        "::1",
        "version 1.2.3.4",
        "v1.2.3.4",
        "1.2.3.4.5",
        "256.1.1.1",
    ]);
    left(&[
        "12:30:45",
        "std::fmt",
        "a::b",
        "u8::MAX",
        "::",
        "ratio 3:4",
        "00:1a:2b:3c:4d:5e",
    ]);
}

#[test]
fn secrets() {
    found(
        Kind::ApiKey,
        &[
            "sk-proj-abcDEF1234567890abcDEF",
            "sk-ant-api03-AbCdEf0123456789_-x",
            "AKIAIOSFODNN7EXAMPLE",
            "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
            "github_pat_11ABCDEFG0123456789_abcdefghij",
            "xoxb-1234567890-abcdefghij",
            "AIzaSyA-1234567890abcdefghijklmnopqrstu",
            "glpat-ABCDEFGHIJ0123456789",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-DEF_123",
            "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
            "SG.abcdefghij-KLMNOPQRST_.0123456789abcdefghij-KLMNOPQRSTUVWXYZ_01234",
            "ya29.a0AfH6SMBx-0123456789_abcdefghij",
        ],
    );
    assert_eq!(
        redact("Authorization: Bearer abcdef0123456789abcdef"),
        "Authorization: Bearer [api_key]"
    );
    let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    for (before, after) in [
        ("aws_secret_access_key = ", "\n"),
        ("export AWS_SECRET_ACCESS_KEY=", ""),
        ("{\"SecretAccessKey\": \"", "\"}"),
        ("secretAccessKey: '", "',"),
    ] {
        assert_eq!(
            redact(&format!("{before}{secret}{after}")),
            format!("{before}[api_key]{after}")
        );
        // A digest of another length is none.
        let longer = format!("{before}{secret}a{after}");
        assert_eq!(redact(&longer), longer);
    }
    left(&[
        secret,
        "SG.short.one",
        "ya29.short",
        "MSG.2024",
        "the secret access key is safe",
    ]);
    let key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow+/=\nabc\n-----END RSA PRIVATE KEY-----";
    assert_eq!(redact(&format!("a {key} b")), "a [private_key] b");
    assert_eq!(
        redact("-----BEGIN PRIVATE KEY-----\nMIIEow"),
        "[private_key]"
    );
    left(&[
        "sk-learn",
        "sk-and-some-more-words",
        "ASIA",
        "-----BEGIN CERTIFICATE-----",
        "task-force-one-two",
    ]);
}

#[test]
fn plain_prose_stays() {
    left(&[
        "In 2024 we sold 1,234,567 units at 3.14159265358979 each on 2024-01-15 13:45:30.",
        "Version 10.0.19045.3693, commit 3f2a9c1, build 20240115.123456, took 1700000000000 ms.",
        "ISBN 978-0-306-40615-7, order 4155552671, ratio 16:9, pages 100-200, 1 2 3 4 5 6 7 8 9 10.",
        "2024年1月15日，圆周率是3.14159，共１２３４人，第12345678号。",
        "id 550e8400-e29b-41d4-a716-446655440000 and 0xdeadbeef and 1e10 and 50%",
    ]);
}

#[test]
fn the_digest_is_keyed_and_tells_originals_apart() {
    let text = "a@b.com, c@d.com, a@b.com";
    let digests = |key| {
        let redacted = Redactor::with_audit(AuditKey::new(&[key; 32])).redact(text);
        let found = redacted.found.into_iter();
        found.map(|found| found.digest.unwrap()).collect::<Vec<_>>()
    };
    let (one, other) = (digests(1), digests(2));
    assert_eq!(one[0], one[2]);
    assert_ne!(one[0], one[1]);
    assert_ne!(one[0], other[0]);
    assert_eq!(one[0].to_string().len(), 64);
    assert_eq!(Redactor::new().redact("a@b.com").found[0].digest, None);
}

/// Texts that are full of beginnings and ends of what is looked for.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "a",
        "Z",
        "0",
        "1",
        "138",
        "00138000",
        "13800138000",
        "4111",
        "4111111111111111",
        "+",
        "86",
        "(",
        ")",
        " ",
        "-",
        ".",
        ",",
        "@",
        "＠",
        "b.com",
        "zhang@example.com",
        "张",
        "é",
        "\u{200b}",
        "１",
        "８．８．８．８",
        "1.2.3.4",
        ":",
        "::",
        "fe80::1",
        "2001:db8",
        "sk-",
        "sk-abcDEF0123456789abc",
        "AKIAIOSFODNN7EXAMPLE",
        "SG.",
        "SG.abcdefghijklmnopqrstuv.0123456789012345678901234567890123456789abc",
        "ya29.",
        "ya29.a0AfH6SMBx0123456789abc",
        "_secret_access_key=",
        "SecretAccessKey",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "110105491231002",
        "eyJ",
        "eyJhbGciOiJI.eyJzdWIiOiIx",
        "Bearer ",
        "abcdef0123456789ABCDEF",
        "xoxb-",
        "-----BEGIN PRIVATE KEY-----",
        "-----END PRIVATE KEY-----",
        "DE89370400440532013000",
        "GB29 NWBK 6016",
        "11010519491231002X",
        "123-45-6789",
        "415-555-2671",
        "415",
        "555",
        "2671",
        "_",
        "x",
        "[",
        "]",
        "phone ",
        "ssn ",
        "version ",
        "4155552671",
        "123456789",
        "0086",
        "010-",
        "62345678",
        "\n",
        "，",
        "\u{2011}",
        "[phone]",
        "[email]",
    ]);
    prop::collection::vec(pieces, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(17), ..ProptestConfig::with_cases(1_500) })]

    #[test]
    fn redacting_twice_is_redacting_once(text in hostile()) {
        let once = redact(&text);
        prop_assert_eq!(redact(&once), once, "of {:?}", text);
    }

    #[test]
    fn spans_are_in_order_and_give_the_text(text in hostile()) {
        let redacted = Redactor::new().redact(&text);
        let (mut expected, mut end) = (String::new(), 0);
        for found in &redacted.found {
            prop_assert!(found.span.start >= end && found.span.end > found.span.start);
            expected += &text[end..found.span.start];
            expected += found.kind.placeholder();
            end = found.span.end;
        }
        expected += &text[end..];
        prop_assert_eq!(&*redacted.text, expected.as_str());
        prop_assert_eq!(Redactor::new().text(&text), redacted.text);
    }

    #[test]
    fn any_text_is_read(text in any::<String>()) {
        let once = redact(&text);
        prop_assert_eq!(redact(&once), once);
    }

    #[test]
    fn what_was_planted_is_gone(words in prop::collection::vec("[a-z]{1,8}|[你我他的是]{1,4}", 1..20), places in prop::collection::vec(0_usize..6, 1..6)) {
        let planted = ["ada@example.org", "13800138000", "4111111111111111", "sk-proj-abcDEF1234567890", "2001:db8::17", "11010519491231002X"];
        let mut text = words.join(" ");
        for place in places {
            text = format!("{text} {}，{}", planted[place], words[0]);
        }
        let redacted = redact(&text);
        for original in planted {
            prop_assert!(!redacted.contains(original), "{}", redacted);
        }
    }
}

#[test]
fn texts_made_to_be_slow_are_read_in_linear_time() {
    const SIZE: usize = 1_000_000;
    let pieces = [
        "@",
        "a@",
        "a.",
        "a@a.",
        "1",
        "1-",
        "4111 ",
        "12345678901234567890",
        "+1(",
        "::",
        "a:",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN A",
        "_",
        "sk-a",
        "Bearer a",
        "eyJa.",
        "AIza",
        "SG.a.",
        "ya29.",
        "secret_access_key",
        "DE89 3704 ",
        "1\u{200b}",
        "张@",
    ];
    // Linear work takes seconds at most, unoptimised and on a busy machine; quadratic work hours.
    for piece in pieces {
        let text: String = piece.repeat(SIZE / piece.len());
        let started = std::time::Instant::now();
        assert!(!Redactor::new().text(&text).is_empty());
        let spent = started.elapsed();
        assert!(spent.as_secs() < 60, "{piece:?} took {spent:?}");
    }
}
