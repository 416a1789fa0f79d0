//! Bundles: files of strangers, and right ones of which some fields were changed and signed again.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, LazyLock},
};

use attribution::{
    answer::answer_root,
    bundle::{Bundle, Reading, assets, compare_reading, openings, verify, verify_full_under, verify_under},
    fault::find_false_spans,
    index::{DatanetIndex, Index, Segment, Source},
    parameters::Parameters,
    prompt::prompt_bytes,
    proof::find,
    span::weigh,
    transcript,
    watch::{Mine, watch},
};
use serde_json::Value;
use types::{
    id::{Address, AssetId, AssetVersion},
    key::{Account, Signed},
    text::{prompt_root, text_root},
};

use crate::edits::{Numbers, edited};

/// Bytes written as hex, with or without 0x.
pub(crate) fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = digits.as_chunks::<2>();
    pairs.1.is_empty().then(|| pairs.0.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect())?
}

/// The files of `tests/fixtures/bundles` whose names begin so, by name.
fn fixtures(begins: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/bundles");
    let files = fs::read_dir(folder).expect("the fixtures are there").map(|file| file.expect("a file of them").path());
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let files = files.filter_map(|path| Some((name(&path)?, path))).filter(|(name, _)| name.starts_with(begins) && name != "expected.json");
    files.map(|(name, path)| (name, fs::read(path).expect("a fixture can be read"))).collect()
}

/// What all inputs of a process share.
pub(crate) struct World {
    /// Right bundles.
    honest: Vec<Value>,
    pub(crate) bundles: Vec<Bundle>,
    pub(crate) account: Account,
    /// Over their answers, so that each has matches there.
    pub(crate) index: Index,
}

pub(crate) static WORLD: LazyLock<World> = LazyLock::new(|| {
    let files = fixtures("honest");
    let honest = files.values().map(|bytes| serde_json::from_slice(bytes).expect("JSON")).collect();
    let bundles: Vec<Bundle> = files.values().map(|bytes| Bundle::from_json(bytes).expect("a right bundle")).collect();
    let texts: Vec<String> = bundles.iter().map(|bundle| format!("{}\0", bundle.answer)).filter(|text| text.len() > 1).collect();
    let datanets = [(3, &texts[..1]), (4, &texts[1..])].map(|(asset, texts)| {
        let sources: Vec<Source<'_>> = (1..).zip(texts).map(|(block, text)| source(block, text)).collect();
        let segment = Segment::build(&sources, 0).expect("canonical documents");
        Arc::new(DatanetIndex::new(AssetVersion { asset: AssetId(asset), version: 1 }, vec![segment]).expect("small"))
    });
    let account = Account::from_bytes(&[7; 32]).expect("a secret");
    World { honest, bundles, account, index: Index::new(datanets.to_vec()).expect("two Datanets") }
});

pub(crate) fn source(block: u64, text: &str) -> Source<'_> {
    let contributor = Address([u8::try_from(block % 200).expect("below 200"); 20]);
    Source { contributor, block, ordinal: 0, text_root: text_root(text.as_bytes()), text: text.as_bytes() }
}

/// What anybody asks of a bundle: one of five questions, or all.
fn ask(bundle: &Bundle, which: u8) {
    let (world, parameters) = (&*WORLD, Parameters::builtin(1).expect("built in"));
    let is_asked = |question: u8| which >= 5 || which == question;
    if is_asked(0) {
        let (alone, under) = (verify(bundle), verify_under(bundle, parameters));
        if bundle.receipt.document.parameters == 1 {
            assert_eq!(alone, under);
        }
    }
    if is_asked(1) {
        let _ = verify_full_under(bundle, parameters, &world.index);
    }
    if is_asked(2) {
        let _ = find(bundle, parameters, &world.index);
    }
    if is_asked(3) {
        let _ = find_false_spans(bundle, &world.index);
        let _ = openings(&world.index, &bundle.receipt.document.spans);
    }
    if is_asked(4) {
        let _ = watch(bundle, Mine { account: Address([1; 20]), index: &world.index }, parameters);
    }
    let _ = (transcript::check(bundle), assets(&bundle.manifest), bundle.request_signer());
    let _ = compare_reading(bundle, &Reading { answer: bundle.answer.clone(), prompt_tokens: 7 });
}

/// Makes whatever is made once: tables of weights, keys, this process's world.
pub(crate) fn warm() {
    WORLD.bundles.iter().take(3).for_each(|bundle| ask(bundle, u8::MAX));
}

/// A file as it comes.
pub(crate) fn file(bytes: &[u8]) {
    let Ok(bundle) = Bundle::from_json(bytes) else { return };
    assert_eq!(Bundle::from_json(bundle.to_json().as_bytes()).as_ref(), Ok(&bundle), "what was read is written otherwise");
    ask(&bundle, u8::MAX);
}

pub(crate) fn file_seeds() -> Vec<Vec<u8>> {
    fixtures("").into_values().collect()
}

/// Which right bundle, what is made right again behind the edits, and the edits.
pub(crate) fn claim(bytes: &[u8]) {
    let world = &*WORLD;
    let mut numbers = Numbers(bytes);
    let (which, right) = (numbers.below(world.honest.len()), numbers.byte());
    let value = edited(world.honest[which].clone(), &mut numbers);
    let Ok(mut bundle) = Bundle::from_json(value.to_string().as_bytes()) else { return };
    if right & 1 != 0 {
        bundle.receipt.document.index = world.index.root();
    }
    if right & 2 != 0 {
        let words = weigh(Parameters::builtin(1).expect("built in"), &bundle.answer);
        bundle.receipt.document.answer_root = answer_root(&bundle.answer, &words, bundle.answer_salt);
    }
    if right & 4 != 0 {
        bundle.receipt.document.prompt_root = prompt_root(&prompt_bytes(&bundle.messages), bundle.prompt_salt);
    }
    if right & 8 != 0 {
        bundle.receipt.document.manifest = bundle.manifest.root();
    }
    if right & 16 != 0 {
        bundle.receipt.document.node = world.account.address();
        bundle.receipt = Signed::new(&world.account, &bundle.domains, bundle.receipt.document);
    }
    ask(&bundle, right >> 5);
}

pub(crate) fn claim_seeds() -> Vec<Vec<u8>> {
    let edits = [&[][..], &[0, 0, 40, 0, 0, 1], &[0, 1, 0, 2, 0, 9, 0, 0, 90, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]];
    let which = 0..u8::try_from(WORLD.honest.len()).expect("a dozen");
    let rights = [0x1f, 0x3f, 0x5f, 0x7f, 0x9f, 0xff, 0x00];
    which.flat_map(|which| rights.map(|right| [&[0, 0, which, right][..], edits[usize::from(right) % edits.len()]].concat())).collect()
}
