//! The gateway over real sockets, before a source in the same process that repeats what it is told.

mod client;
mod parrot;

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use self::{
    client::{Reply, Wire},
    parrot::Parrot,
};
use super::{
    Bounds, Gateway,
    keys::{Keys, Secret},
    limits::Limits,
    openapi, server,
    source::Extra,
};

/// How long anything may take before a test fails.
const DEADLINE: Duration = Duration::from_secs(20);

/// A gateway under test.
struct Scene {
    addr: SocketAddr,
    parrot: Arc<Parrot>,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

const GENEROUS: Limits = Limits { requests_per_minute: 100_000, tokens_per_minute: 100_000_000, running_max: 1_000 };

fn secret(byte: u8) -> Secret {
    Secret::new(&[byte; 32])
}

fn bearer(byte: u8) -> String {
    format!("Bearer {}", secret(byte).reveal())
}

impl Scene {
    fn new() -> Self {
        Self::with(GENEROUS, Bounds::default())
    }

    /// Key 1 is a user's, 2 an admin's, 3 another user's.
    fn with(limits: Limits, bounds: Bounds) -> Self {
        Self::before(Parrot::default(), limits, bounds)
    }

    fn before(parrot: Parrot, limits: Limits, bounds: Bounds) -> Self {
        let (mut keys, parrot) = (Keys::default(), Arc::new(parrot));
        for (name, byte, is_admin) in [("user", 1, false), ("admin", 2, true), ("other", 3, false)] {
            keys.add(name, &secret(byte), is_admin, limits).unwrap();
        }
        let listener = server::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (addr, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let gateway = Gateway::new(Arc::clone(&parrot), keys, bounds, vec!["gateway.example".to_owned()]);
        let served = tokio::spawn(server::serve(gateway, listener, stop.clone()));
        Self { addr, parrot, stop, served }
    }

    async fn say(&self, request: &client::Ask<'_>) -> Reply {
        timeout(DEADLINE, client::say(self.addr, request)).await.expect("no response came in time")
    }

    async fn post(&self, path: &str, body: &Value) -> Reply {
        self.say(&client::Ask { path, body: Some(body.to_string().into_bytes()), ..client::Ask::new(&bearer(1)) }).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.say(&client::Ask { path, ..client::Ask::new(&bearer(1)) }).await
    }

    async fn chat(&self, content: &str, change: Value) -> Reply {
        self.post("/v1/chat/completions", &question(content, change)).await
    }

    async fn once(&self, key: &str, who: u8, content: &str, change: Value) -> Reply {
        let body = question(content, change).to_string().into_bytes();
        let headers = [("Idempotency-Key", key)];
        self.say(&client::Ask { path: "/v1/chat/completions", body: Some(body), headers: &headers, ..client::Ask::new(&bearer(who)) }).await
    }

    async fn stop(self) {
        self.stop.cancel();
        timeout(DEADLINE, self.served).await.expect("the gateway did not stop in time").unwrap();
    }
}

fn question(content: &str, change: Value) -> Value {
    let mut body = json!({ "model": "parrot", "messages": [{ "role": "user", "content": content }] });
    for (name, value) in change.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[tokio::test]
async fn a_conversation_is_answered_whole_with_usage_receipt_and_sources() {
    let scene = Scene::new();
    let reply = scene.chat("one two three", json!({})).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let answer = reply.json();
    assert_eq!(answer["choices"][0]["message"], json!({ "role": "assistant", "content": "one two three ", "refusal": null }));
    assert_eq!((&answer["choices"][0]["finish_reason"], &answer["choices"][0]["logprobs"]), (&json!("stop"), &Value::Null));
    assert_eq!(answer["usage"], json!({ "prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6 }));
    assert_eq!(answer["attribution"][0]["quote"], "one");
    assert!(answer["receipt"]["hash"].as_str().is_some_and(|hash| hash.len() >= 64), "{answer}");
    let id = reply.header("x-request-id").unwrap();
    assert_eq!(answer["id"].as_str().unwrap().strip_prefix("chatcmpl-"), id.strip_prefix("req_"), "an answer is found by its request");
    assert_eq!(scene.chat("a b c d", json!({ "max_tokens": 2 })).await.json()["choices"][0]["finish_reason"], "length");
    scene.stop().await;
}

#[tokio::test]
async fn a_stream_says_the_same_piece_by_piece_and_ends_with_done() {
    let scene = Scene::new();
    let reply = scene.chat("one two three", json!({ "stream": true, "stream_options": { "include_usage": true } })).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/event-stream; charset=utf-8")));
    let events = reply.events();
    let (last, pieces) = events.split_last().unwrap();
    assert_eq!(last, "[DONE]");
    let pieces: Vec<Value> = pieces.iter().map(|piece| serde_json::from_str(piece).unwrap()).collect();
    let said: String = pieces.iter().filter_map(|piece| piece["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(said, "one two three ");
    assert!(pieces.iter().all(|piece| piece["id"] == pieces[0]["id"] && piece["object"] == "chat.completion.chunk"));
    let [.., end, usage] = pieces.as_slice() else { panic!("{pieces:?}") };
    assert_eq!((&end["choices"][0]["finish_reason"], &end["receipt"]["attempt"]), (&json!("stop"), &json!(0)));
    assert_eq!((&usage["choices"], &usage["usage"]["total_tokens"]), (&json!([]), &json!(6)));
    scene.stop().await;
}

#[tokio::test]
async fn legacy_completions_logarithms_and_embeddings_take_openais_forms() {
    let scene = Scene::new();
    let reply = scene.post("/v1/completions", &json!({ "model": "parrot", "prompt": "one two", "logprobs": 1 })).await.json();
    assert_eq!((&reply["object"], &reply["choices"][0]["text"]), (&json!("text_completion"), &json!("one two ")));
    assert_eq!(reply["choices"][0]["logprobs"]["tokens"], json!(["one ", "two "]));
    let told = scene.chat("one", json!({ "logprobs": true, "top_logprobs": 2 })).await.json();
    assert_eq!(told["choices"][0]["logprobs"]["content"][0]["top_logprobs"].as_array().unwrap().len(), 2);
    let embedded = scene.post("/v1/embeddings", &json!({ "model": "parrot", "input": ["ab", "c"] })).await.json();
    assert_eq!((&embedded["data"][1]["embedding"], &embedded["usage"]["total_tokens"]), (&json!([1.0, 99.0]), &json!(2)));
    scene.stop().await;
}

#[tokio::test]
async fn what_the_source_does_not_carry_is_refused_before_it_is_asked() {
    let scene = Scene::before(Parrot::carrying(&[Extra::Stop]), GENEROUS, Bounds::default());
    for (name, value) in [
        ("min_p", json!(0.1)),
        ("repetition_penalty", json!(1.2)),
        ("presence_penalty", json!(1)),
        ("frequency_penalty", json!(-1)),
        ("logit_bias", json!({ "1": 5 })),
        ("logprobs", json!(true)),
        ("response_format", json!({ "type": "json_object" })),
        ("seed", json!(1)),
    ] {
        let reply = scene.chat("a", json!({ name: value })).await;
        assert_eq!(
            (reply.status, &reply.json()["error"]["param"], &reply.json()["error"]["code"]),
            (400, &json!(name), &json!("unsupported_parameter"))
        );
    }
    assert_eq!(scene.parrot.begun(), 0);
    assert_eq!(scene.chat("a b c", json!({ "stop": "b" })).await.json()["choices"][0]["message"]["content"], "a ");
    scene.stop().await;
}

#[tokio::test]
async fn every_route_is_closed_to_strangers_and_those_that_change_things_to_users() {
    let scene = Scene::new();
    let document = scene.say(&client::Ask { path: "/openapi.json", ..client::Ask::new("") }).await;
    assert_eq!(document.status, 200);
    let paths = document.json()["paths"].as_object().unwrap().clone();
    assert!(paths.len() >= 9, "{paths:?}");
    for (path, methods) in &paths {
        for (method, operation) in methods.as_object().unwrap() {
            let (path, method) = (path.replace("{id}", "parrot"), method.to_uppercase());
            let body = (method == "POST").then(|| b"{}".to_vec());
            let is_open = operation["security"] == json!([]);
            for key in ["", "Bearer ", "Bearer trib-00", "Basic dXNlcg==", &bearer(9)] {
                let status =
                    scene.say(&client::Ask { method: &method, path: &path, body: body.clone(), ..client::Ask::new(key) }).await.status;
                assert_eq!(status, if is_open { 200 } else { 401 }, "{method} {path} with {key:?}");
            }
            let status =
                scene.say(&client::Ask { method: &method, path: &path, body: body.clone(), ..client::Ask::new(&bearer(1)) }).await.status;
            assert_eq!(status == 403, path.ends_with("lora_adapter"), "{method} {path} by a user: {status}");
        }
    }
    for path in ["/", "/v1", "/metrics", "/v1/chat/completions/", "/v1/../health", "/v1/models/a/b", "//health"] {
        assert_eq!(scene.say(&client::Ask { path, ..client::Ask::new("") }).await.status, 401, "{path} without a key");
        assert_eq!(scene.get(path).await.status, 404, "{path} with a key");
    }
    let wrong = scene.say(&client::Ask { method: "DELETE", path: "/v1/chat/completions", ..client::Ask::new(&bearer(1)) }).await;
    assert_eq!((wrong.status, &wrong.json()["error"]["code"]), (405, &json!("method_not_allowed")));
    scene.stop().await;
}

#[tokio::test]
async fn a_name_that_somebody_pointed_at_this_machine_is_not_served() {
    let scene = Scene::new();
    let port = scene.addr.port();
    for (host, status) in [
        (format!("127.0.0.1:{port}"), 200),
        (format!("localhost:{port}"), 200),
        (format!("[::1]:{port}"), 200),
        ("gateway.example".to_owned(), 200),
        ("GATEWAY.example:443".to_owned(), 200),
        ("evil.example".to_owned(), 403),
        (format!("evil.example:{port}"), 403),
        ("localhost.evil.example".to_owned(), 403),
        ("127.0.0.1.evil.example".to_owned(), 403),
        ("[evil]".to_owned(), 403),
        (String::new(), 403),
    ] {
        let reply = scene.say(&client::Ask { path: "/v1/models", host: Some(&host), ..client::Ask::new(&bearer(1)) }).await;
        assert_eq!(reply.status, status, "{host:?}");
    }
    scene.stop().await;
}

#[tokio::test]
async fn a_page_that_came_from_elsewhere_is_not_answered_and_no_page_may_read_across() {
    let scene = Scene::new();
    for (origin, status) in [
        ("http://localhost:3000", 200),
        ("http://127.0.0.1", 200),
        ("http://[::1]:8790", 200),
        ("https://gateway.example", 200),
        ("https://evil.example", 403),
        ("http://localhost.evil.example", 403),
        ("http://203.0.113.9", 403),
        ("null", 403),
        ("", 403),
        ("localhost", 403),
    ] {
        for (method, path) in [("GET", "/v1/models"), ("GET", "/health")] {
            let headers = [("Origin", origin)];
            let reply = scene.say(&client::Ask { method, path, headers: &headers, ..client::Ask::new(&bearer(1)) }).await;
            assert_eq!(reply.status, status, "{path} for {origin:?}");
            assert!(!reply.headers.iter().any(|(name, _)| name.starts_with("access-control")), "{:?}", reply.headers);
        }
    }
    let to_itself = [("Origin", "http://203.0.113.9:8790")];
    let key = bearer(1);
    let asked = client::Ask { path: "/v1/models", host: Some("203.0.113.9:8790"), headers: &to_itself, ..client::Ask::new(&key) };
    assert_eq!(scene.say(&asked).await.status, 200, "a page that this gateway's own address served");
    scene.stop().await;
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_refused_with_its_reason() {
    let scene = Scene::with(GENEROUS, Bounds { body_wait: Duration::from_millis(200), ..Bounds::default() });
    let key = bearer(1);
    let to = |body: Vec<u8>| client::Ask { path: "/v1/chat/completions", body: Some(body), ..client::Ask::new(&key) };
    let table: [(Vec<u8>, u16, &str); 6] = [
        (b"".to_vec(), 400, "invalid_json"),
        (b"{".to_vec(), 400, "invalid_json"),
        (b"[]".to_vec(), 400, "invalid_type"),
        (b"\xff\xfe".to_vec(), 400, "invalid_json"),
        (vec![b' '; super::BODY_MAX + 1], 413, "body_too_large"),
        (vec![b'['; super::BODY_MAX], 400, "invalid_json"),
    ];
    for (body, status, code) in table {
        let (len, reply) = (body.len(), scene.say(&to(body)).await);
        assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (status, Some(code)), "{len} bytes");
    }
    let form = client::Ask { media: "application/x-www-form-urlencoded", ..to(b"a=b".to_vec()) };
    assert_eq!(scene.say(&form).await.status, 415);
    let mut wire = Wire::open(scene.addr).await;
    wire.send(format!("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: {key}\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{{").as_bytes()).await;
    assert_eq!(timeout(DEADLINE, wire.reply()).await.unwrap().status, 408, "half a body");
    scene.stop().await;
}

#[tokio::test]
async fn models_are_listed_with_their_parents_and_a_wrong_one_is_answered_with_the_right_ones() {
    let scene = Scene::new();
    let all = scene.get("/v1/models").await.json();
    assert_eq!((&all["data"][0]["id"], &all["data"][0]["parent"]), (&json!("parrot"), &Value::Null));
    assert_eq!(scene.get("/v1/models/parrot").await.json()["object"], "model");
    let missing = scene.get("/v1/models/gpt-5").await;
    assert_eq!((missing.status, &missing.json()["error"]["code"]), (404, &json!("model_not_found")));
    let garbled = scene.get("/v1/models/%ff").await;
    assert_eq!((garbled.status, &garbled.json()["error"]["code"]), (400, &json!("invalid_value")));
    let asked = scene.chat("a", json!({ "model": "gpt-5" })).await;
    assert_eq!((asked.status, &asked.json()["error"]["param"]), (404, &json!("model")));
    scene.stop().await;
}

#[tokio::test]
async fn an_admin_loads_and_unloads_adapters_and_each_is_asked_by_base_and_name() {
    let scene = Scene::new();
    let key = bearer(2);
    let post = |path, body: Value| client::Ask { path, body: Some(body.to_string().into_bytes()), ..client::Ask::new(&key) };
    let loaded = scene.say(&post("/v1/load_lora_adapter", json!({ "lora_name": "loud", "lora_path": "4@1" }))).await.json();
    assert_eq!((&loaded["id"], &loaded["parent"]), (&json!("parrot:loud"), &json!("parrot")));
    assert_eq!(scene.chat("a", json!({ "model": "parrot:loud" })).await.json()["choices"][0]["message"]["content"], "A ");
    assert_eq!(scene.get("/v1/models").await.json()["data"].as_array().unwrap().len(), 2);
    let gone = scene.say(&post("/v1/unload_lora_adapter", json!({ "lora_name": "loud" }))).await;
    assert_eq!((gone.status, &gone.json()["deleted"]), (200, &json!(true)));
    assert_eq!(scene.chat("a", json!({ "model": "parrot:loud" })).await.status, 404);
    assert_eq!(scene.say(&post("/v1/unload_lora_adapter", json!({ "lora_name": "loud" }))).await.status, 404);
    scene.stop().await;
}

#[tokio::test]
async fn a_failure_before_the_first_token_is_a_status_and_later_an_event() {
    let scene = Scene::new();
    for is_stream in [false, true] {
        let reply = scene.chat("fail at once", json!({ "stream": is_stream })).await;
        assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (502, Some("no_answer")), "stream {is_stream}");
        assert_eq!(reply.header("x-should-retry"), Some("false"));
    }
    assert_eq!(scene.chat("fail later", json!({})).await.status, 502, "half an answer is none");
    let events = scene.chat("fail later", json!({ "stream": true })).await.events();
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "no_answer", "{events:?}");
    assert!(events.iter().any(|event| event.contains("fail ")), "what came before is there");
    let events = scene.chat("vanish later", json!({ "stream": true })).await.events();
    assert!(events.last().unwrap().contains("answer_broken_off"), "{events:?}");
    scene.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_answer() {
    let scene = Scene::new();
    for is_stream in [false, true] {
        let mut wire = Wire::open(scene.addr).await;
        wire.post(&bearer(1), "/v1/chat/completions", &question("endless", json!({ "max_tokens": 4096, "stream": is_stream }))).await;
        scene.parrot.until_emitted(3).await;
        drop(wire);
        timeout(DEADLINE, scene.parrot.until_cancelled()).await.expect("the answer went on without a reader");
    }
    // Nothing is left of them: an answer needs the one place there is.
    assert_eq!(scene.chat("a", json!({})).await.status, 200);
    scene.stop().await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_bounded_and_given_up() {
    let scene = Scene::with(GENEROUS, Bounds { reader_wait: Duration::from_millis(300), ..Bounds::default() });
    let mut wire = Wire::narrow(scene.addr).await;
    wire.post(&bearer(1), "/v1/chat/completions", &question("flood", json!({ "max_tokens": 4096, "stream": true }))).await;
    timeout(DEADLINE, scene.parrot.until_cancelled()).await.expect("an answer that nobody reads went on");
    let bytes = scene.parrot.emitted() * parrot::FLOOD_BYTES;
    assert!(bytes < 1 << 20, "{bytes} bytes lie between the source and a reader that takes nothing");
    let all = 4_096 * parrot::FLOOD_BYTES;
    assert!(bytes < all / 3, "{bytes} of {all} bytes were made for nobody");
    drop(wire);
    scene.stop().await;
}

#[tokio::test]
async fn a_reader_that_comes_back_too_late_sees_that_its_answer_is_cut() {
    let scene = Scene::with(GENEROUS, Bounds { reader_wait: Duration::from_millis(300), ..Bounds::default() });
    let mut wire = Wire::narrow(scene.addr).await;
    wire.post(&bearer(1), "/v1/chat/completions", &question("flood", json!({ "max_tokens": 4096, "stream": true }))).await;
    timeout(DEADLINE, scene.parrot.until_cancelled()).await.expect("an answer that nobody reads went on");
    let rest = timeout(DEADLINE, wire.rest()).await.expect("the connection stays open");
    assert!(!rest.ends_with(b"0\r\n\r\n"), "what was cut ends like a whole answer");
    scene.stop().await;
}

#[tokio::test]
async fn who_asks_much_and_reads_nothing_holds_no_connection() {
    let scene = Scene::with(GENEROUS, Bounds { reader_wait: Duration::from_millis(300), connections_max: 1, ..Bounds::default() });
    let mut deaf = Wire::narrow(scene.addr).await;
    // Answered without a key, and more than all buffers on the way hold together.
    let asked = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(600);
    deaf.send(asked.as_bytes()).await;
    // The only place is taken; it is free again once the deaf one is given up.
    assert_eq!(timeout(DEADLINE, scene.get("/v1/models")).await.expect("a reader that takes nothing was kept").status, 200);
    scene.stop().await;
}

#[tokio::test]
async fn embeddings_that_are_refused_cost_no_tokens() {
    let scene = Scene::with(Limits { tokens_per_minute: 1_000, ..GENEROUS }, Bounds::default());
    let refused = scene.post("/v1/embeddings", &json!({ "model": "nobody", "input": "a".repeat(3_000) })).await;
    assert_eq!((refused.status, refused.header("x-ratelimit-remaining-tokens")), (404, Some("1000")), "{refused:?}");
    scene.stop().await;
}

#[tokio::test]
async fn a_keys_share_is_told_and_held() {
    let limits = Limits { requests_per_minute: 5, tokens_per_minute: 1_000, running_max: 2 };
    let scene = Scene::with(limits, Bounds::default());
    let first = scene.chat("one two", json!({ "max_tokens": 100 })).await;
    assert_eq!(first.header("x-ratelimit-limit-requests"), Some("5"));
    assert_eq!(first.header("x-ratelimit-remaining-requests"), Some("4"));
    assert_eq!(first.header("x-ratelimit-remaining-tokens"), Some("996"), "two read, two said, the rest given back");
    let large = scene.chat("one", json!({ "max_tokens": 1_001 })).await;
    assert_eq!((large.status, &large.json()["error"]["param"]), (400, &json!("max_tokens")));
    let many = scene.chat("one", json!({ "max_tokens": 998 })).await;
    assert_eq!((many.status, &many.json()["error"]["param"]), (429, &json!("tokens")));
    assert!(many.header("retry-after").is_some_and(|wait| wait.parse::<u64>().is_ok_and(|wait| wait >= 1)), "{many:?}");
    assert_eq!(scene.get("/v1/models").await.status, 200);
    assert_eq!(scene.get("/v1/models").await.status, 200);
    let over = scene.get("/v1/models").await;
    assert_eq!((over.status, over.header("x-ratelimit-remaining-requests")), (429, Some("0")));
    assert!(over.header("retry-after-ms").is_some());
    let other = scene.say(&client::Ask { path: "/v1/models", ..client::Ask::new(&bearer(3)) }).await;
    assert_eq!(other.status, 200, "another key has its own share");
    scene.stop().await;
}

#[tokio::test]
async fn answers_at_once_are_bounded_by_key_and_over_all() {
    let bounds = Bounds { answers_max: 3, ..Bounds::default() };
    let scene = Scene::with(Limits { running_max: 2, ..GENEROUS }, bounds);
    let hang = |key| {
        let addr = scene.addr;
        async move {
            let mut wire = Wire::open(addr).await;
            wire.post(&bearer(key), "/v1/chat/completions", &question("hang", json!({}))).await;
            wire
        }
    };
    let mut held = vec![hang(1).await, hang(1).await];
    scene.parrot.until_begun(2).await;
    let refused = scene.chat("a", json!({})).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("2")));
    held.push(hang(3).await);
    scene.parrot.until_begun(3).await;
    let (key, body) = (bearer(3), question("a", json!({})).to_string().into_bytes());
    let full = scene.say(&client::Ask { path: "/v1/chat/completions", body: Some(body), ..client::Ask::new(&key) }).await;
    assert_eq!((full.status, full.json()["error"]["code"].as_str()), (503, Some("gateway_full")));
    held.pop();
    timeout(DEADLINE, scene.parrot.until_cancelled()).await.unwrap();
    drop(held);
    scene.stop().await;
}

#[tokio::test]
async fn an_idempotency_key_answers_once_and_repeats_byte_for_byte() {
    let scene = Scene::new();
    for stream in [false, true] {
        let key = format!("key-{stream}");
        let first = scene.once(&key, 1, "one two", json!({ "stream": stream })).await;
        let begun = scene.parrot.begun();
        let again = scene.once(&key, 1, "one two", json!({ "stream": stream })).await;
        assert_eq!((again.status, &again.body), (200, &first.body));
        assert_eq!((again.header("idempotent-replayed"), first.header("idempotent-replayed")), (Some("true"), None));
        assert_eq!(again.header("content-type"), first.header("content-type"));
        assert_eq!(scene.parrot.begun(), begun, "the second was not asked");
        let other = scene.once(&key, 1, "one two three", json!({ "stream": stream })).await;
        assert_eq!((other.status, other.json()["error"]["code"].as_str()), (422, Some("idempotency_key_reused")));
        assert_eq!(scene.once(&key, 3, "one two three", json!({})).await.status, 200, "another's key is another key");
    }
    assert_eq!(scene.once("", 1, "a", json!({})).await.status, 400);
    scene.stop().await;
}

#[tokio::test]
async fn under_an_idempotency_key_one_answer_is_made_at_a_time_and_a_failure_may_be_tried_again() {
    let scene = Scene::new();
    let mut wire = Wire::open(scene.addr).await;
    wire.post_with(&bearer(1), "/v1/chat/completions", &question("hang", json!({})), "Idempotency-Key: k\r\n").await;
    scene.parrot.until_begun(1).await;
    let busy = scene.once("k", 1, "hang", json!({})).await;
    assert_eq!((busy.status, busy.header("retry-after")), (409, Some("1")));
    drop(wire);
    timeout(DEADLINE, scene.parrot.until_cancelled()).await.unwrap();
    assert_eq!(scene.once("f", 1, "fail at once", json!({})).await.status, 502);
    assert_eq!(scene.once("f", 1, "fail later", json!({ "stream": true })).await.status, 200, "what failed is no answer to be repeated");
    assert_eq!(scene.once("f", 1, "now it works", json!({})).await.status, 200);
    scene.stop().await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let scene = Scene::with(GENEROUS, Bounds { head_wait: Duration::from_millis(200), connections_max: 1, ..Bounds::default() });
    let mut silent = Wire::open(scene.addr).await;
    silent.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: loc").await;
    // The only place is taken; it is free again once the silent one is closed.
    assert_eq!(scene.get("/v1/models").await.status, 200);
    timeout(DEADLINE, silent.closed()).await.expect("a silent connection was kept");
    scene.stop().await;
}

#[tokio::test]
async fn a_question_beyond_the_context_is_refused_by_the_field_that_it_came_in() {
    let scene = Scene::new();
    let model = question("x", json!({}))["model"].clone();
    let chat = scene.post("/v1/chat/completions", &question("fail long", json!({}))).await;
    let legacy = scene.post("/v1/completions", &json!({ "model": model, "prompt": "fail long" })).await;
    for (reply, field) in [(chat, "messages"), (legacy, "prompt")] {
        assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!(field)), "{reply:?}");
    }
    scene.stop().await;
}

#[tokio::test]
async fn a_compressed_body_is_refused_by_the_header_that_says_so() {
    let scene = Scene::new();
    for (coding, status) in [("gzip", 415), ("identity", 200)] {
        let body = question("one", json!({})).to_string();
        let mut wire = Wire::open(scene.addr).await;
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nContent-Type: application/json\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n{body}",
            bearer(1),
            body.len()
        );
        wire.send(head.as_bytes()).await;
        let reply = wire.reply().await;
        assert_eq!(reply.status, status, "{coding}: {reply:?}");
    }
    scene.stop().await;
}

#[tokio::test]
async fn hundreds_that_say_nothing_keep_nobody_out_and_cut_no_answer_off() {
    let bounds = Bounds { head_wait: Duration::from_secs(3_600), connections_max: 4, ..Bounds::default() };
    let scene = Scene::with(GENEROUS, bounds);
    let mut asking = Wire::open(scene.addr).await;
    asking.post(&bearer(1), "/v1/chat/completions", &question("gate one two", json!({ "stream": true }))).await;
    scene.parrot.until_begun(1).await;
    let mut silent = Vec::new();
    for _ in 0..24 {
        silent.push(Wire::open(scene.addr).await);
    }
    assert_eq!(timeout(DEADLINE, scene.get("/health")).await.expect("the silent ones kept it out").status, 200);
    scene.parrot.open_gate();
    let whole = timeout(DEADLINE, asking.reply()).await.unwrap();
    assert_eq!(whole.events().last().map(String::as_str), Some("[DONE]"), "an answer under way is no silent connection");
    drop(silent);
    scene.stop().await;
}

#[tokio::test]
async fn a_gateway_that_stops_lets_answers_end_and_cuts_those_that_do_not() {
    let scene = Scene::with(GENEROUS, Bounds { stop_wait: Duration::from_millis(300), ..Bounds::default() });
    let mut slow = Wire::open(scene.addr).await;
    slow.post(&bearer(1), "/v1/chat/completions", &question("gate one two", json!({ "stream": true }))).await;
    let mut endless = Wire::open(scene.addr).await;
    endless.post(&bearer(1), "/v1/chat/completions", &question("hang", json!({}))).await;
    scene.parrot.until_begun(2).await;
    scene.stop.cancel();
    scene.parrot.open_gate();
    let whole = timeout(DEADLINE, slow.reply()).await.unwrap();
    assert_eq!(whole.events().last().map(String::as_str), Some("[DONE]"), "an answer that is nearly over ends");
    let addr = scene.addr;
    timeout(DEADLINE, scene.served).await.expect("the gateway did not stop in time").unwrap();
    assert!(tokio::net::TcpStream::connect(addr).await.is_err(), "it listens no more");
    timeout(DEADLINE, scene.parrot.until_cancelled()).await.unwrap();
}

#[tokio::test]
async fn no_key_is_ever_logged() {
    let log = client::Log::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let scene = Scene::new();
    let (admin, user) = (bearer(2), bearer(1));
    let body = |value: Value| Some(value.to_string().into_bytes());
    let load = json!({ "lora_name": "quiet", "lora_path": "4@1" });
    for ask in [
        client::Ask { path: "/v1/load_lora_adapter", body: body(load.clone()), ..client::Ask::new(&admin) },
        client::Ask { path: "/v1/load_lora_adapter", body: body(load), ..client::Ask::new(&user) },
        client::Ask { path: "/v1/unload_lora_adapter", body: body(json!({ "lora_name": "quiet" })), ..client::Ask::new(&admin) },
        client::Ask { path: "/v1/unload_lora_adapter", body: body(json!({ "lora_name": 7 })), ..client::Ask::new(&admin) },
        client::Ask { path: "/v1/models", ..client::Ask::new(&format!("{admin}0")) },
        client::Ask {
            path: "/v1/chat/completions",
            body: body(question("secret words", json!({ "stream": true }))),
            ..client::Ask::new(&admin)
        },
        client::Ask { path: "/v1/chat/completions", body: body(question("fail at once", json!({}))), ..client::Ask::new(&admin) },
    ] {
        scene.say(&ask).await;
    }
    scene.stop().await;
    let text = log.text();
    for byte in [1u8, 2] {
        assert!(!text.contains(&hex::encode([byte; 32])), "a key is in the log:\n{text}");
    }
    assert!(!text.contains("secret words"), "a question is in the log:\n{text}");
    assert!(text.contains("key=\"admin\"") && text.contains("an adapter is offered"), "what was done is in the log:\n{text}");
}

#[tokio::test]
async fn responses_have_the_members_that_the_document_lists() {
    let scene = Scene::new();
    let document = openapi::document();
    let schemas = &document["components"]["schemas"];
    let check = |value: &Value, name: &str| {
        let schema = &schemas[name];
        let known: BTreeSet<&String> = schema["properties"].as_object().unwrap().keys().collect();
        let got: BTreeSet<&String> = value.as_object().unwrap().keys().collect();
        assert!(got.is_subset(&known), "{name}: {got:?} against {known:?}");
        let needed = schema["required"].as_array().unwrap();
        assert!(
            needed.iter().all(|member| got.iter().any(|got| *got == member.as_str().unwrap())),
            "{name} lacks one of {needed:?}: {value}"
        );
    };
    let chat = scene.chat("a b", json!({})).await.json();
    check(&chat, "ChatCompletion");
    check(&chat["usage"], "Usage");
    let pieces = scene.chat("a b", json!({ "stream": true })).await.events();
    pieces.iter().filter(|piece| *piece != "[DONE]").for_each(|piece| check(&serde_json::from_str(piece).unwrap(), "ChatCompletionChunk"));
    check(&scene.post("/v1/completions", &json!({ "model": "parrot", "prompt": "a" })).await.json(), "Completion");
    check(&scene.post("/v1/embeddings", &json!({ "model": "parrot", "input": "a" })).await.json(), "Embeddings");
    let models = scene.get("/v1/models").await.json();
    check(&models, "Models");
    check(&models["data"][0], "Model");
    check(&scene.get("/v1/models/nobody").await.json(), "Error");
    scene.stop().await;
}

#[tokio::test]
async fn two_hundred_streams_at_once_all_end_whole() {
    let scene = Scene::new();
    let words: Vec<String> = (0..50).map(|word| word.to_string()).collect();
    let said = words.join(" ");
    let asked = (0..200).map(|_| scene.chat(&said, json!({ "stream": true })));
    for reply in futures::future::join_all(asked).await {
        let said: String = reply
            .events()
            .iter()
            .filter_map(|event| serde_json::from_str::<Value>(event).ok())
            .filter_map(|piece| piece["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
            .collect();
        assert_eq!(said.split_whitespace().collect::<Vec<_>>(), words);
    }
    scene.stop().await;
}
