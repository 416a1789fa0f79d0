//! Texts of contributions, made from a seed: prose, and what is hard to sort.
#![allow(dead_code)]

fn next(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*state >> 33).unwrap()
}

const WORDS: [&str; 28] = [
    "the",
    "of",
    "a",
    "in",
    "and",
    "to",
    "hearing",
    "impairment",
    "congenital",
    "onset",
    "is",
    "was",
    "that",
    "which",
    "kernel",
    "index",
    "é",
    "naïve",
    "学",
    "习",
    "мир",
    "zero",
    "one",
    "two",
    "these",
    "words",
    "thereof",
    "x",
];

/// So many contributions of about so many bytes: documents of 300 to 3,000 bytes, one in five of which repeats an earlier one.
pub(crate) fn prose(contributions: usize, bytes: usize) -> Vec<String> {
    let mut state = 11;
    let mut documents: Vec<String> = Vec::new();
    let mut texts = Vec::new();
    for _ in 0..contributions {
        let mut text = String::new();
        while text.len() < bytes {
            let document = match documents.get(next(&mut state) % (documents.len() + 1)) {
                Some(earlier) if next(&mut state).is_multiple_of(5) => earlier.clone(),
                _ => {
                    let words = 50 + next(&mut state) % 450;
                    (0..words).map(|_| format!("{} ", WORDS[(next(&mut state) % 28).min(next(&mut state) % 40)])).collect()
                }
            };
            text.push_str(&document);
            text.push('\0');
            documents.push(document);
        }
        texts.push(text);
    }
    texts
}

/// Inputs that a sort may be slow on, of about so many bytes each.
pub(crate) fn pathological(bytes: usize) -> Vec<(&'static str, Vec<String>)> {
    let (mut a, mut b) = ("a ".to_owned(), "b ".to_owned());
    while b.len() < bytes {
        (a, b) = (b.clone(), b + &a);
    }
    let header = "this file is part of the project, which is free software: you can redistribute it under the terms of its licence";
    let headers: String = (0..bytes / 130).map(|number| format!("{header} {}\0", number % 7)).collect();
    // Han, kana, Thai, Khmer, Lao, Tibetan, Burmese, Hangul: none puts spaces between words.
    let scripts = [
        "学而时习之不亦说乎",
        "かなもじばかりのぶん",
        "สวัสดีชาวโลก",
        "សួស្តីពិភពលោក",
        "ສະບາຍດີຊາວໂລກ",
        "བོད་སྐད་ཡིག",
        "မင်္ဂလာပါကမ္ဘာ",
        "안녕하세요세계",
    ];
    let mut state = 5;
    let mut scripted = String::new();
    while scripted.len() < bytes {
        let script: Vec<char> = scripts[next(&mut state) % scripts.len()].chars().collect();
        let from = next(&mut state) % script.len();
        scripted.extend(&script[from..]);
    }
    vec![
        ("one repeated byte", vec!["a".repeat(bytes) + "\0"]),
        ("one repeated word", vec!["a ".repeat(bytes / 2) + "\0"]),
        ("one giant word", vec![format!("x {} y\0", "ab".repeat(bytes / 2))]),
        ("a Fibonacci string", vec![b + "\0"]),
        ("equal headers", vec![headers]),
        ("eight scripts without spaces", vec![scripted + "\0"]),
    ]
}
