//! How long a node's books keep the sealed text of an answer, on a disk that may change it.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use attribution::{bundle::Bundle, transcript::wrap::ExchangeSecret};
use node::{
    books::{
        Books,
        texts::{Term, Text, Windows},
    },
    evidence,
};
use storage::store::{Config, Store};
use types::{encoding::Document as _, key::Signed, quote::Class, time::BlockRef};

use super::world::{World, account};

fn books(folder: &Path) -> Books {
    Books::new(Store::open(folder, Config::default()).unwrap().records())
}

/// Texts of so many checked answers, whose receipts name block 10, 11 and so on: made of one that was answered.
async fn keep(books: &Books, count: u64) -> Vec<Term> {
    let world = World::start().await;
    let (answer, last) = world.honest(&world.lane(types::amount::WEI_PER_OPEN, 1)).await;
    let answered = world.books.receipts(&[0]).unwrap().remove(0);
    let voucher = Signed::new(&world.client, &world.domains, last);
    assert_eq!(evidence::messages(&answer.begin.turns).unwrap(), answered.messages);
    for number in 0..count {
        let mut receipt = answered.receipt.document.clone();
        (receipt.class, receipt.block) = (Class::Checked, BlockRef { number: 10 + number, ..receipt.block });
        let bundle = Bundle { receipt: Signed::new(&account(1), &answered.domains, receipt), ..answered.clone() };
        let text = Text::of(&bundle, ExchangeSecret::of(&account(1)).public(), None, &[5; 32]).unwrap();
        assert_eq!(books.keep_closed(&bundle, &bundle.lane, &voucher, Some(&text)).unwrap(), number);
        assert_eq!(text.open(&ExchangeSecret::of(&account(1)), &bundle.receipt, &bundle.domains), Ok(bundle.clone()));
        assert!(text.open(&ExchangeSecret::of(&account(9)), &bundle.receipt, &bundle.domains).is_err(), "by its own account alone");
    }
    books.terms().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sealed_texts_are_kept_over_a_restart_until_their_epochs_are_over_in_files_of_the_nodes_own_user() {
    let folder = tempfile::tempdir().unwrap();
    let terms = keep(&books(folder.path()), 4).await;
    for entry in std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap).filter(|entry| entry.file_name() != "LOCK") {
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{entry:?}");
    }
    let books = books(folder.path());
    assert_eq!(books.terms().unwrap(), terms);
    assert!(terms.iter().all(|term| books.text(term.receipt).unwrap().is_some()));
    // 0 is past; 1 stands; 2 is under no root and too old for one; 3 waits for one.
    let windows = Windows { past: [0].into(), standing: [1].into(), oldest_block: 13 };
    assert_eq!(books.forget_texts(&windows).unwrap(), 2);
    let left: Vec<u64> = books.terms().unwrap().iter().map(|term| term.number).collect();
    assert_eq!(left, [1, 3]);
    assert!(books.text(terms[0].receipt).unwrap().is_none() && books.text(terms[2].receipt).unwrap().is_none());
    assert_eq!(books.forget_texts(&windows).unwrap(), 0);
    // The bytes of what was forgotten count no more.
    books.forget_oldest_texts(terms[1].bytes + terms[3].bytes).unwrap();
    assert_eq!(books.terms().unwrap().len(), 2);
    assert_eq!(books.receipts(&[0]).unwrap()[0].receipt.document.hash(), terms[0].receipt, "receipts stay");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_sealed_texts_are_too_many_the_oldest_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let books = books(folder.path());
    let terms = keep(&books, 4).await;
    let bytes = |terms: &[Term]| terms.iter().map(|term| term.bytes).sum::<u64>();
    books.forget_oldest_texts(bytes(&terms)).unwrap();
    assert_eq!(books.terms().unwrap(), terms);
    books.forget_oldest_texts(bytes(&terms[2..]) + 1).unwrap();
    assert_eq!(books.terms().unwrap(), terms[2..]);
    books.forget_oldest_texts(0).unwrap();
    assert_eq!(books.terms().unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_text_that_the_disk_changed_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let books = books(folder.path());
    let term = keep(&books, 1).await[0];
    let good = books.records().get("transcripts", &term.receipt.0).unwrap().unwrap();
    // Format, receipt's number, wrap for the node, whether a client's follows, then magic, format and receipt of the sealed transcript.
    let (clients, sealed) = (1 + 8 + 80, 1 + 8 + 80 + 1);
    for (change, why) in [(0, "format"), (clients, "clients"), (sealed, "magic"), (sealed + 8, "format"), (sealed + 9, "another receipt's")]
    {
        let mut bytes = good.clone();
        bytes[change] ^= 0x40;
        books.records().put("transcripts", &term.receipt.0, &bytes).unwrap();
        let told = books.text(term.receipt).unwrap_err().to_string();
        assert!(told.contains(why) && told.contains("transcripts"), "{told}");
    }
    for len in [0, 40, clients, clients + 20, good.len() - 1] {
        books.records().put("transcripts", &term.receipt.0, &good[..len]).unwrap();
        assert!(books.text(term.receipt).is_err(), "{len} bytes");
    }
}
