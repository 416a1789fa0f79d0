//! Build speed of a segment and the time to attribute an answer of about 256 tokens.
//!
//! `cargo bench -p attribution --bench span --profile dev -- [FILE [MEGABYTES]]`: a UTF-8 text, cut into documents of about 2 kB and repeated with
//! numbers changed until it is long enough; without one, generated prose. Prints medians.

use std::{env, error::Error, fs, hint::black_box, sync::Arc, time::Instant};

use attribution::{
    index::{DatanetIndex, Index, Segment, Source},
    parameters::Parameters,
    span::attribute,
};
use types::{
    id::{Address, AssetId, AssetVersion},
    text::{canonical_lossy, text_root},
};

fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Words of set 1, short ones more often, in sentences.
fn prose(bytes: usize) -> String {
    let rows = Parameters::builtin(1).expect("set 1 is built in").table().rows();
    let (mut state, mut text) = (7, String::with_capacity(bytes + 20));
    while text.len() < bytes {
        let place = usize::try_from(next(&mut state)).expect("31 bits") % rows.len();
        text.push_str(&rows[place].0);
        text.push_str(if next(&mut state).is_multiple_of(12) { ". " } else { " " });
    }
    text
}

/// Contribution text: documents of about 2 kB, each followed by a zero byte.
fn contribution(text: &str, bytes: usize) -> String {
    let mut out = String::with_capacity(bytes + 4_096);
    let mut round = 0;
    while out.len() < bytes {
        for line in text.split_inclusive(['\n', '.']) {
            out.push_str(line);
            if out.len() - out.rfind('\0').map_or(0, |at| at + 1) > 2_000 {
                out.push_str(&format!(" {round}\0"));
            }
            if out.len() >= bytes {
                break;
            }
        }
        round += 1;
    }
    out.push_str(" end\0");
    out
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let megabytes: usize = arguments.get(1).map_or(Ok(9), |text| text.parse())?;
    let source =
        arguments.first().map_or_else(|| Ok(prose(megabytes * 1_000_000)), |path| fs::read(path).map(|bytes| canonical_lossy(&bytes)))?;
    let text = contribution(&source, megabytes * 1_000_000);
    let entry =
        Source { contributor: Address([1; 20]), block: 1, ordinal: 0, text_root: text_root(text.as_bytes()), text: text.as_bytes() };

    let mut build = Vec::new();
    let mut segment = None;
    for _ in 0..3 {
        let start = Instant::now();
        segment = Some(Segment::build(&[entry], 0)?);
        build.push(start.elapsed().as_secs_f64());
    }
    let segment = segment.ok_or("three builds")?;
    let megabytes = text.len() as f64 / 1e6;
    println!(
        "build: {:.2} s, {:.1} MB/s over {megabytes:.1} MB, {} word starts",
        median(build.clone()),
        megabytes / median(build),
        segment.array().len()
    );

    // An answer of about 256 tokens (1,100 bytes): quotes of some 90 bytes from all over the text, between words of its own.
    let mut state = 3;
    let mut answer = String::new();
    while answer.len() < 1_100 {
        let at = usize::try_from(next(&mut state)).expect("31 bits") % (text.len() - 200);
        let at = (at..).find(|at| text.is_char_boundary(*at)).ok_or("a boundary")?;
        answer.extend(text[at..].chars().take(90).map(|c| if c == '\0' { ' ' } else { c }));
        answer.push_str(" which was said before, ");
    }
    let prompt = [&[2][..], prose(2_000).as_bytes(), &[0]].concat();
    let index = Index::new(vec![Arc::new(DatanetIndex::new(AssetVersion { asset: AssetId(1), version: 1 }, vec![segment])?)])?;
    let parameters = Parameters::builtin(1).ok_or("set 1 is built in")?;
    let mut times = Vec::new();
    let mut spans = 0;
    for _ in 0..101 {
        let start = Instant::now();
        spans = black_box(attribute(&index, parameters, &prompt, black_box(&answer))?).spans.len();
        times.push(start.elapsed().as_secs_f64());
    }
    println!("attribute: {:.3} ms for {} bytes, {spans} spans", 1e3 * median(times), answer.len());
    Ok(())
}
