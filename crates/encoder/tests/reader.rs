//! What the middle layers say has a row a token, and the tokens stand in the text.

use lyceum_encoder::{ReadError, Reader};

const ENGLISH: &str = "The moon pulls the sea. So there are two tides a day, and nobody knows why.";
const CHINESE: &str = "月球吸引海水，所以每天有两次涨潮。水温（约12℃）不变。";

#[test]
fn every_token_has_its_place_and_its_numbers() {
    for (reader, text) in [(Reader::english(), ENGLISH), (Reader::chinese(), CHINESE)] {
        let reader = reader.unwrap();
        let read = reader.read("tides", text).unwrap();
        for layer in &read.layers {
            assert_eq!(layer.len(), read.ranges.len() * Reader::WIDTH);
            assert!(layer.iter().all(|number| number.is_finite()));
        }
        let mut covered = vec![false; text.len()];
        for range in &read.ranges {
            assert!(text.get(range.clone()).is_some(), "{range:?}");
            covered[range.clone()].fill(true);
        }
        for (at, sign) in text.char_indices().filter(|(_, sign)| *sign != ' ') {
            assert!(covered[at], "{sign} at {at} of {text}");
        }
        assert_eq!(reader.read("tides", text).unwrap().layers, read.layers);
    }
}

#[test]
fn a_word_means_another_thing_beside_other_words() {
    let reader = Reader::english().unwrap();
    let word = |text: &str| {
        let read = reader.read("", text).unwrap();
        let at = text.find("bank").unwrap();
        let token = read.ranges.iter().position(|range| *range == (at..at + 4));
        let from = token.unwrap() * Reader::WIDTH;
        read.layers[1][from..from + Reader::WIDTH].to_vec()
    };
    let distance =
        |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum() };
    let river = word("we fished from the bank of the river");
    let shore = word("she swam back to the bank of the stream");
    let money = word("he borrowed money from the bank for a house");
    assert!(distance(&river, &shore) < distance(&river, &money));
}

#[test]
fn a_text_in_pieces_has_all_its_tokens_and_a_longer_one_is_refused() {
    let reader = Reader::english().unwrap();
    let text = "tide ".repeat(1_000);
    let read = reader.read("sea", &text).unwrap();
    let placed = read.ranges.iter().filter(|range| !range.is_empty());
    assert_eq!(placed.count(), 1_000);
    let long = reader.read("sea", &"tide ".repeat(2_000));
    assert!(matches!(long, Err(ReadError::Long { tokens: 2_000 })));
    let nothing = reader.read("", "").unwrap();
    assert!(nothing.layers[0].is_empty());
}
