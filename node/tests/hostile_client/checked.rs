//! What a node keeps of an answer that is not open, and how its client has it back.

use attribution::{
    bundle::{self, Bundle},
    transcript::wrap::{ExchangeSecret, Wrap},
};
use inference::proto::{
    message::{FromClient, FromNode, RefusalCode},
    recall::Recall,
};
use node::{ask::key::ReceiptKey, books::texts::Windows, evidence};
use types::{
    amount::WEI_PER_OPEN,
    encoding::Document as _,
    id::{ExchangeKey, Hash32},
    key::Signed,
    quote::Class,
};

use super::world::World;

const QUESTION: &str = "What is gout?";

impl World {
    /// An answer of a class, paid to its end by a client that gave a key or not: its bundle, and the wrap that came before its receipt.
    async fn in_class(&self, nonce: u64, class: Class, exchange: Option<ExchangeKey>) -> (Bundle, Option<Wrap>) {
        let mut talk = self.talk().await;
        if let Some(key) = exchange {
            talk.send(&FromClient::Exchange(key)).await;
        }
        let quote = talk.quote_in(&self.manifest, class).await;
        let mut answer = self.first_token_by_quote(talk, quote, self.lane(WEI_PER_OPEN, nonce), None).await;
        answer.talk.send(&self.sign(answer.due())).await;
        answer.rest_of_it().await;
        let last = answer.due();
        answer.talk.send(&self.sign(last)).await;
        let (delivered, wrap) = match answer.talk.recv().await {
            FromNode::Receipt(delivered) => (delivered, None),
            FromNode::Wrapped { wrap } => match answer.talk.recv().await {
                FromNode::Receipt(delivered) => (delivered, Some(Wrap::decode(&wrap.0).unwrap())),
                other => panic!("no receipt behind the wrap: {other:?}"),
            },
            other => panic!("no receipt: {other:?}"),
        };
        let voucher = Signed::new(&self.client, &self.domains, last);
        let bundle = evidence::assemble(&self.domains, &answer.begin, &voucher, *delivered, &answer.tokens).unwrap();
        bundle::verify(&bundle).unwrap();
        (bundle, wrap)
    }

    async fn recalled_bundle(&self, request: Hash32) -> Result<Bundle, RefusalCode> {
        let mut talk = self.talk().await;
        let asked = Recall { node: self.node, request, attempt: 0 };
        talk.send(&FromClient::Recall(Box::new(Signed::new(&self.client, &self.domains, asked)))).await;
        match talk.recv().await {
            FromNode::Kept { bundle } => Ok(Bundle::from_json(bundle.as_bytes()).unwrap()),
            FromNode::Refused(refusal) => Err(refusal.code),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_checked_answer_the_node_keeps_the_text_sealed_and_its_client_has_the_key_with_the_receipt() {
    let world = World::start().await;
    let reader = ExchangeSecret::of(&world.client);
    let (bundle, wrap) = world.in_class(1, Class::Checked, Some(reader.public())).await;
    let (receipt, request) = (bundle.receipt.document.hash(), bundle.request.document.id());
    let kept = world.books.receipts(&[0]).unwrap().remove(0);
    assert_eq!(kept, bundle.without_text());
    let (number, text) = world.books.text(receipt).unwrap().expect("it is kept, sealed");
    assert_eq!((number, text.client_wrap(), wrap.is_some()), (0, wrap, true));
    let shown = text.show(&ExchangeSecret::of(&world.answering.account), reader.public()).unwrap().unwrap();
    assert_eq!(shown.read(&reader, &bundle.receipt, &world.domains), Ok(bundle.clone()));
    let on_disk = world.books.records().get("transcripts", &receipt.0).unwrap().unwrap();
    assert!(!String::from_utf8_lossy(&on_disk).contains(QUESTION));

    // Cut off, it has the whole bundle as before; once nobody can be drawn to check it, its receipt's text is its own.
    assert_eq!(world.recalled_bundle(request).await, Ok(bundle.clone()));
    let windows = Windows { past: [0].into(), ..Windows::default() };
    assert_eq!(world.books.forget_texts(&windows).unwrap(), 1);
    assert_eq!(world.recalled_bundle(request).await, Err(RefusalCode::Expired));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_gave_no_key_has_its_receipt_alone_of_an_open_answer_all_is_kept_and_of_a_sealed_one_no_text() {
    let world = World::start().await;
    let key = Some(ExchangeSecret::of(&world.client).public());
    let (checked, wrap) = world.in_class(1, Class::Checked, None).await;
    assert_eq!(wrap, None);
    let (open, wrap) = world.in_class(2, Class::Open, key).await;
    assert_eq!(wrap, None, "whoever asks is shown it");
    let (sealed, wrap) = world.in_class(3, Class::Sealed, key).await;
    assert_eq!(wrap, None);
    let kept = world.books.receipts(&[0, 1, 2]).unwrap();
    assert_eq!(kept, [checked.without_text(), open.clone(), sealed.without_text()]);
    assert_eq!(world.books.terms().unwrap().len(), 1);
    for (bundle, expected) in [(&checked, Ok(checked.clone())), (&open, Ok(open.clone())), (&sealed, Err(RefusalCode::Expired))] {
        assert_eq!(world.recalled_bundle(bundle.request.document.id()).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_exchange_key_is_refused_before_anything_is_answered() {
    let world = World::start().await;
    let mut bad = ExchangeSecret::of(&world.client).public();
    bad.0[31] |= 0x80;
    for key in [ExchangeKey::ZERO, bad, ExchangeKey([0xff; 32])] {
        let mut talk = world.talk().await;
        talk.send(&FromClient::Exchange(key)).await;
        talk.refusal(RefusalCode::Invalid, "is no exchange key").await;
    }
    let mut talk = world.talk().await;
    for _ in 0..2 {
        talk.send(&FromClient::Exchange(ExchangeSecret::of(&world.client).public())).await;
    }
    talk.refusal(RefusalCode::Invalid, "has an exchange key already").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn this_crates_own_client_keeps_the_key_beside_its_bundle_and_opens_by_it_what_the_node_keeps() {
    let world = World::start().await;
    let folder = tempfile::tempdir().unwrap();
    let asker = world.asker(folder.path());
    let question = node::ask::Question { class: Class::Checked, ..world.question(&asker) };
    let answered = asker.ask(&question, std::slice::from_ref(&world.front), &mut |_| {}).await.unwrap();
    let files: Vec<_> = std::fs::read_dir(folder.path().join("receipts")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let of = |kind: &str| files.iter().find(|path| path.extension().is_some_and(|ending| ending == kind)).unwrap().clone();
    let bundle = Bundle::from_json(&std::fs::read(of("json")).unwrap()).unwrap();
    assert_eq!(bundle.receipt, answered.bundle.receipt);
    let key = ReceiptKey::load(&of("key")).unwrap();
    assert!(!std::fs::read_to_string(of("key")).unwrap().contains(QUESTION));
    let (_, text) = world.books.text(bundle.receipt.document.hash()).unwrap().unwrap();
    let own = ExchangeSecret::of(&world.client);
    let shown = text.show(&ExchangeSecret::of(&world.answering.account), own.public()).unwrap().unwrap();
    assert_eq!(key.open(&shown.sealed.0, &own).unwrap(), bundle);
    assert!(key.open(&shown.sealed.0, &ExchangeSecret::of(&super::world::account(9))).is_err());
    let mut changed = shown.sealed.0.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert!(key.open(&changed, &own).unwrap_err().to_string().contains("was changed"));
    std::fs::write(of("key"), "{}").unwrap();
    assert!(ReceiptKey::load(&of("key")).unwrap_err().to_string().contains("no receipt's key"));
}
